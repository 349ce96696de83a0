"""An exception that is planted in each kind of background task: what is said, and what is done about it."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from nullworker.client.client import NullClient
from nullworker.client.reservation import Reservation
from nullworker.core.causes import Cause
from nullworker.core.commands import Destroy
from nullworker.core.events import Asked
from nullworker.demand.reservations import Phase
from nullworker.engine.driver import AsyncDriver, EngineFailedError
from nullworker.engine.fleet_orders import FleetOrders
from nullworker.fleets.base import FleetError
from nullworker.fleets.processes.ending import Endings
from nullworker.fleets.processes.proc import Belongings
from nullworker.queues._batches import Batch
from nullworker.queues.base import QueueError
from nullworker.worker.callbacks import Callbacks
from nullworker.worker.consumer_process import Consumer
from nullworker.worker.health import Health
from tests.unit.dispatch.harness import DispatchHarness, settle
from tests.unit.engine.test_driver import _driver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLANTED = "(ZeroDivisionError: planted)."


def fails(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("planted")


async def fails_later(*_: Any, **__: Any) -> Any:
    fails()


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said with the exception that it was said of."""
    return [record.getMessage() for record in caplog.records if record.exc_info is not None]


# ------------------------------------------------------------------------------------------------------------- engine


async def test_a_commit_that_fails_ends_the_engine_and_answers_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, _, recorder = _driver()
    said: list[str] = []
    monkeypatch.setattr(driver, "_on_failure", said.append)
    monkeypatch.setattr(recorder, "commit", fails)
    with pytest.raises(EngineFailedError):
        await driver.ask(1, 5, 100.0, 60.0)
    with pytest.raises(EngineFailedError):
        driver.handle(Asked(1, 6, 100.0))
    assert [sentence.partition(" The engine")[0] for sentence in said] == [
        f"Writing down what the core decided failed {PLANTED}"
    ]


async def test_a_commit_that_fails_at_the_end_refuses_what_it_did_not_store(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, _, recorder = _driver()
    monkeypatch.setattr(recorder, "commit", fails)
    asking = asyncio.ensure_future(driver.ask(1, 5, 100.0, 60.0))
    asyncio.get_running_loop().call_soon(driver.close().send, None)
    with pytest.raises(EngineFailedError):
        await asking


async def test_a_dump_that_cannot_be_written_keeps_the_engine_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, core, recorder = _driver()
    said: list[str] = []
    monkeypatch.setattr(driver, "_on_failure", said.append)
    monkeypatch.setattr(recorder, "failed", fails)
    core.fails = True
    with pytest.raises(EngineFailedError):
        driver.handle(Asked(1, 6, 100.0))
    assert "could not be written down (ZeroDivisionError: planted)" in said[0]


async def test_a_planned_call_that_fails_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, _, _ = _driver()
    said: list[str] = []
    monkeypatch.setattr(driver, "_on_failure", said.append)
    driver.call_later(0, fails)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert said[0].startswith(f"A call that the engine had planned failed {PLANTED}")


class BadFleet:
    list = destroy = fails_later


def orders() -> FleetOrders:
    return FleetOrders(cast("Any", {"bad": BadFleet()}), cast("Any", None), lambda _: "bad")


async def test_a_fleet_that_cannot_list_gives_no_answer_and_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    driver = AsyncDriver(orders())
    driver.start_listing(0.0)
    for _ in range(1_000):
        await asyncio.sleep(0)
    assert len(logged(caplog)) > 1
    await driver.close()
    assert set(logged(caplog)) == {"fleet bad failed to say what it has"}


async def test_an_order_whose_answer_cannot_be_taken_ends_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    given = orders()
    driver = AsyncDriver(given, on_failure=said.append)
    monkeypatch.setattr(driver._driver, "order_ended", fails)
    given.give(Destroy(3, "bad", next(iter(Cause)), "", 1))
    await settle()
    assert said[0].startswith(f"An order (destroy, worker 3) failed {PLANTED}")


# ------------------------------------------------------------------------------------------------------------- fleets


async def test_an_ending_that_cannot_be_watched_is_an_error_of_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as executor:
        endings = Endings(executor, 1.0)
        monkeypatch.setattr(endings, "_scan", fails)
        with pytest.raises(FleetError, match="Ending processes failed"):
            await endings.end(Belongings("/nowhere", None), name="Worker 1")


# ------------------------------------------------------------------------------------------------------------- worker


@dataclass
class Session:
    session_id: str = "s"
    request_idx: int = 7
    on_close_route: str | None = None
    on_close_payload: object = None
    created_at: float = 0.0
    requests: list[object] = field(default_factory=list)


@dataclass
class ConsumerSettings:
    consumer: str = "true"
    consumer_dir: str = ""
    consumer_grace_s: float = 1.0
    consumer_idle_s: float | None = None
    create_wait_s: float = 0.0
    control_url: str = "http://127.0.0.1:1"


async def test_a_consumer_that_cannot_be_looked_after_breaks_the_worker_and_frees_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    health, released = Health(), asyncio.Event()

    async def release(_: object) -> None:
        released.set()

    consumer = Consumer(cast("Any", ConsumerSettings()), health, release)
    monkeypatch.setattr(consumer._supervisors, "take", fails_later)
    consumer.session_opened(cast("Any", Session()))
    await released.wait()
    assert health.error == f"Running the consumer failed {PLANTED}"
    await consumer.close()


async def test_a_callback_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    callbacks = Callbacks(private=True)
    monkeypatch.setattr(callbacks, "_post", fails_later)
    callbacks.session_closed(cast("Any", Session(on_close_route="http://127.0.0.1:1/")))
    await settle()
    assert logged(caplog) == [f"A callback failed {PLANTED}"]


# ---------------------------------------------------------------------------------------------- dispatcher and client


@pytest.fixture
def harness(tmp_path: Path) -> Any:
    harness = DispatchHarness(tmp_path / "dispatch.db")
    yield harness
    harness.store.close()


async def test_a_reservation_that_cannot_be_closed_frees_its_place(
    harness: DispatchHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    binding = harness.binding()
    await harness.consider(binding, 1)
    [reservation] = binding.reservations
    monkeypatch.setattr(reservation._tools.store, "closed", fails)
    reservation.withdraw()
    await settle()
    assert (reservation.phase, str(reservation.failure)) == (
        Phase.CLOSED,
        f"Looking after a reservation failed {PLANTED}",
    )
    assert logged(caplog) == [f"Looking after a reservation failed {PLANTED}"]


async def test_a_worker_that_cannot_be_released_is_trouble_that_is_shown(
    harness: DispatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = harness.binding()
    await harness.consider(binding, 1)
    [reservation] = binding.reservations
    monkeypatch.setattr(reservation, "end", fails_later)
    binding._end(reservation)
    await settle()
    assert binding.trouble == f"Releasing a worker failed {PLANTED}"


class BadKeepAlive:
    run = fails_later


async def test_a_reservation_that_is_not_kept_alive_any_more_is_lost_and_says_so() -> None:
    closed: list[object] = []
    start: Callable[..., Any] = asyncio.ensure_future
    session, worker = cast("Any", Session()), cast("Any", SimpleNamespace())
    reservation = Reservation(session, worker, start_task=start, on_closed=closed.append, rng=random.Random(1))
    reservation.watch(cast("Any", BadKeepAlive()))
    await asyncio.wait_for(reservation.wait_closed(), 30)
    assert reservation.closed_because == f"Keeping a reservation alive failed {PLANTED}"
    assert closed == [reservation]


async def test_a_request_that_cannot_be_given_up_is_said(caplog: pytest.LogCaptureFixture) -> None:
    @dataclass
    class Attempt:
        abandon: Any = fails_later

    client = NullClient("http://127.0.0.1:1", api_key="k")
    client._abandon(cast("Any", Attempt()))
    await settle()
    assert logged(caplog) == [f"Giving up a request failed {PLANTED}"]


async def test_a_reading_of_several_queues_that_fails_is_said_and_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch: Batch[int] = Batch(fails_later)
    monkeypatch.setattr(batch, "_answer", fails_later)
    with pytest.raises(QueueError):
        await asyncio.wait_for(batch.read("a"), 30)
    await settle()
    assert logged(caplog) == [f"A reading of several queues at once failed {PLANTED}"]
