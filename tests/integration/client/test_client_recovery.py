"""What a process that died was asking a worker for is found out by its successor."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.client import NullClient
from nullworker.client.errors import RecordInvalidError, ReservationLostError, WorkerUnreachableError
from tests.integration import null_worker_kit as kit
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.kit.client_stubs import RoutingEngine, StubWorker

KEY = "the-account-key"
ENDPOINT = "null-test"


class DiedError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[kit.WorkerProcess]:
    async with (
        kit.StubEngine().running() as engine,
        kit.worker(kit.worker_env(engine.url), tmp_path) as worker,
    ):
        await engine.ready()
        yield worker


def kept(record: dict[str, Any] | None) -> dict[str, Any]:
    """The record as a file gives it back."""
    assert record is not None
    copy: dict[str, Any] = json.loads(json.dumps(record))
    return copy


async def test_a_session_that_opened_is_taken_up_and_ended(worker: kit.WorkerProcess) -> None:
    """The worker tells the one that asks again of the session that it has."""
    url, records = worker.env["REPORT_ADDR"], list[Any]()
    async with NullClient(url, KEY) as dead:
        lost = await dead.open(kit.ENDPOINT, deadline_s=HANG_S, on_creating=records.append)
        async with NullClient(url, KEY) as successor:
            found = await successor.recover(kept(records[-1]))
            assert found.session_id == lost.session_id
            assert await found.is_open()
            await found.release()
        await asyncio.wait_for(lost.wait_closed(), HANG_S)


async def test_a_question_that_never_arrived_is_answered_now(worker: kit.WorkerProcess) -> None:
    """A process that died before the worker was asked leaves its successor with a worker that is held."""
    url, records = worker.env["REPORT_ADDR"], list[Any]()

    def die(record: dict[str, Any] | None) -> None:
        records.append(record)
        raise DiedError

    async with NullClient(url, KEY) as dead:
        opening = asyncio.ensure_future(dead.open(kit.ENDPOINT, on_creating=die))
        await kit.until(lambda: bool(records))
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
    async with NullClient(url, KEY) as successor:
        found = await successor.recover(kept(records[0]))
        assert (await kit.call("GET", f"{worker.control_url}/reservation")).body["session_id"] == found.session_id
        await found.release()


async def test_a_worker_that_is_gone_holds_nothing(
    client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
) -> None:
    stub_engine.add(stub_workers[0])
    records: list[Any] = []
    reservation = await client.open(ENDPOINT, deadline_s=HANG_S, on_creating=records.append)
    await reservation.release()
    await stub_workers[0].stop()
    with pytest.raises(ReservationLostError, match="gone"):
        await client.recover(kept(records[0]))


@pytest.mark.parametrize(
    ("status", "outcome", "timeout_s"),
    [(410, ReservationLostError, HANG_S), (401, WorkerUnreachableError, 0.5), (500, WorkerUnreachableError, 0.5)],
)
async def test_an_answer_is_a_verdict_only_if_it_tells(
    client: NullClient,
    stub_engine: RoutingEngine,
    stub_workers: list[StubWorker],
    status: int,
    outcome: type[Exception],
    timeout_s: float,
) -> None:
    """410: it was held and is over. 401: the grant has expired, so it is not known. 500: not this time."""
    stub_engine.add(stub_workers[0])
    records: list[Any] = []
    reservation = await client.open(ENDPOINT, deadline_s=HANG_S, on_creating=records.append)
    await reservation.release()
    stub_workers[0].create_statuses.extend([status] * 20)
    with pytest.raises(outcome):
        await client.recover(kept(records[0]), timeout_s=timeout_s)


async def test_occupied_is_a_verdict_once_the_first_question_cannot_be_waiting_any_more(
    client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
) -> None:
    stub_engine.add(stub_workers[0])
    records: list[Any] = []
    reservation = await client.open(ENDPOINT, deadline_s=HANG_S, on_creating=records.append)
    with pytest.raises(WorkerUnreachableError, match="429"):
        await client.recover(kept(records[0]), timeout_s=0.5)
    with pytest.raises(ReservationLostError):
        await client.recover({**kept(records[0]), "asked_at": "2020-01-01T00:00:00+00:00"})
    await reservation.release()


@pytest.mark.parametrize(
    "record",
    [{}, {"version": 1}, {"version": 1, "endpoint": "e", "auth_data": {"url": "file:///x"}, "question": {}}],
)
async def test_what_is_no_record_is_refused(client: NullClient, record: dict[str, Any]) -> None:
    with pytest.raises(RecordInvalidError):
        await client.recover(record)


async def test_a_caller_that_waits_again_is_told(
    client: NullClient, stub_engine: RoutingEngine, stub_workers: list[StubWorker]
) -> None:
    """A worker that was named and did not take it: until another one is named, nothing may be held."""
    stub_workers[0].create_statuses.append(429)
    stub_engine.add(stub_workers[0])
    told: list[str] = []
    reservation = await client.open(
        ENDPOINT, deadline_s=HANG_S, on_waiting=told.append, on_creating=lambda _: told.append("creating")
    )
    assert told == ["creating", "the worker that was named did not take it", "creating"]
    await reservation.release()
