"""The client with the real Null PyWorker on the real framework, in a process of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from nullworker.client import NullClient, Reservation, reserve
from tests.integration import null_worker_kit as kit
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "the-account-key"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[kit.StubEngine, kit.WorkerProcess]]:
    async with kit.ready_worker(tmp_path_factory.mktemp("worker"), NULL_MAX_LIFETIME="3") as engine_and_worker:
        yield engine_and_worker


@pytest_asyncio.fixture(loop_scope="module")
async def worker(shared: tuple[kit.StubEngine, kit.WorkerProcess]) -> kit.WorkerProcess:
    """A worker that is free."""
    await kit.free(*shared)
    return shared[1]


async def open_on(client: NullClient, **how: object) -> Reservation:
    """A reservation on the only worker."""
    return await client.open(kit.ENDPOINT, deadline_s=HANG_S, **how)  # type: ignore[arg-type]  # what open() takes


async def test_the_consumer_beside_the_worker_sees_the_payload_and_lets_go(worker: kit.WorkerProcess) -> None:
    """From reserve() to the control port and back: held, with what the holder said, until the consumer releases."""
    engine_url = worker.env["REPORT_ADDR"]
    async with reserve(
        kit.ENDPOINT, instance=engine_url, api_key=KEY, payload={"job": "a-1"}, check_s=0.1, deadline_s=HANG_S
    ) as reservation:
        assert await reservation.is_open()
        seen = (await kit.call("GET", f"{worker.control_url}/reservation")).body
        assert seen["held"]
        assert seen["payload"] == {"job": "a-1"}
        released = (await kit.post(f"{worker.control_url}/release", {})).body
        assert released == {"released": True, "session_ids": [reservation.session_id]}
        await asyncio.wait_for(reservation.wait_closed(), HANG_S)
        assert not reservation.is_lost
    assert not (await kit.call("GET", f"{worker.control_url}/reservation")).body["held"]


async def test_one_after_the_other_on_one_worker(worker: kit.WorkerProcess) -> None:
    """What is released is free at once for the next."""
    async with NullClient(worker.env["REPORT_ADDR"], KEY) as client:
        sessions = set()
        for _ in range(10):
            async with reserve(kit.ENDPOINT, client=client, deadline_s=HANG_S) as reservation:
                sessions.add(reservation.session_id)
        assert len(sessions) == 10


async def test_keep_alive_holds_for_longer_than_the_worker_allows_at_a_time(worker: kit.WorkerProcess) -> None:
    """An hour was asked for; the worker allows three seconds, and is pinged in time."""
    async with NullClient(worker.env["REPORT_ADDR"], KEY) as client:
        reservation = await open_on(client, lifetime_s=3600)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reservation.wait_closed(), 7)
        assert await reservation.is_open()
        await reservation.release()


async def test_without_keep_alive_it_runs_out(worker: kit.WorkerProcess) -> None:
    """A holder that dies gives its worker back, late."""
    async with NullClient(worker.env["REPORT_ADDR"], KEY) as client:
        reservation = await open_on(client, lifetime_s=1, keep_alive=False, check_s=0.2)
        await asyncio.wait_for(reservation.wait_closed(), HANG_S)
        assert not reservation.is_lost


async def test_a_crashed_holders_reservation_is_adopted(worker: kit.WorkerProcess) -> None:
    """By its record alone, on the real worker."""
    async with NullClient(worker.env["REPORT_ADDR"], KEY) as client:
        record = (await open_on(client)).to_record()
    async with NullClient(worker.env["REPORT_ADDR"], KEY) as client:
        adopted = await client.adopt(record)
        await adopted.ping()
        await adopted.release()


async def test_a_worker_that_is_killed_is_lost(tmp_path: Path) -> None:
    """Its holder learns of it at the next look."""
    async with (
        kit.ready_worker(tmp_path) as (engine, worker),
        NullClient(engine.url, KEY) as client,
    ):
        reservation = await open_on(client, check_s=0.1)
        worker.process.kill()
        await asyncio.wait_for(reservation.wait_closed(), HANG_S)
        assert reservation.is_lost


async def test_cancelled_at_any_moment_it_leaves_the_worker_free(worker: kit.WorkerProcess) -> None:
    """Twenty cancellations, each a little later than the one before."""
    async with NullClient(worker.env["REPORT_ADDR"], KEY) as client:
        await client.endpoints()
        for number in range(20):
            task = asyncio.ensure_future(open_on(client))
            await asyncio.sleep(number * 0.0007)
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                await task.result().release()
    seen = (await kit.call("GET", f"{worker.control_url}/reservation")).body
    assert not seen["held"]
