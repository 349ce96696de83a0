"""The job of a reservation is what the broker says that its own consumer has, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, cast

import pytest
from typing_extensions import Self

from nullworker.dispatch.job_names import ASK_AGAIN_S, ASK_EVERY_S, NAMED_MAX, JobNames, shown
from nullworker.dispatch.queue_reporter import QueueReporter
from nullworker.queues.base import Depth, QueueError, QueueInfo, TakenJob
from tests.unit.dispatch.harness import settle
from tests.unit.dispatch.test_queue_reporter import ListeningClient

if TYPE_CHECKING:
    from nullworker.dispatch.binding import Binding
    from nullworker.dispatch.reservation_task import ReservationTask
    from nullworker.queues.base import Queue
    from tests.unit.dispatch.harness import DispatchHarness

MINE, OTHERS = "mine-0123456789abcdef", "other-0123456789abcd"


class NamingQueue:
    """Has one message waiting, or one in flight at the consumer that it names."""

    def __init__(self, harness: DispatchHarness) -> None:
        self.jobs: list[TakenJob] = []
        self.asked = 0
        self.refuses = False
        self.in_flight: int | None = 1
        self._harness = harness

    @classmethod
    async def open(cls, url: str) -> NamingQueue:
        raise AssertionError(url)

    async def depth(self) -> Depth:
        return Depth(0, self.in_flight, self._harness.time.wall_s)

    async def info(self) -> QueueInfo:
        return QueueInfo("naming", "jobs", "here")

    async def taken(self) -> list[TakenJob]:
        self.asked += 1
        if self.refuses:
            raise QueueError("The broker refuses.")
        return self.jobs

    async def changed(self, timeout_s: float) -> bool:
        await self._harness.time.sleep(timeout_s)
        return False

    async def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class Named:
    """One held reservation, and what is said about it."""

    def __init__(self, harness: DispatchHarness) -> None:
        self.harness = harness
        self.queue = NamingQueue(harness)
        self.names = JobNames(lambda: harness.time.now_s, self._on_named)
        self.said: list[str] = []

    def _on_named(self, reservation: ReservationTask) -> None:
        self.said.append(shown(reservation.jobs))

    async def held(self, session_id: str = MINE) -> tuple[Binding, ReservationTask]:
        binding = self.harness.binding()
        (reservation,) = await self.harness.held(binding, 1)
        reservation.session_id = session_id
        return binding, binding.reservations[0]

    async def look(self, held: list[ReservationTask], *jobs: tuple[str, str]) -> None:
        self.queue.jobs = [TakenJob(*each) for each in jobs]
        self.harness.time.now_s += ASK_EVERY_S
        await self.names.look(cast("Queue", self.queue), held)


@pytest.fixture
def named(harness: DispatchHarness) -> Named:
    return Named(harness)


async def test_the_consumer_that_has_the_reservations_id_in_its_name_has_its_job(named: Named) -> None:
    binding, held = await named.held()
    await named.look([held], ("16", OTHERS), ("17", f"gpu.{MINE}@host"), ("18", "celery@host"))
    await named.look([held], ("17", f"gpu.{MINE}@host"))
    assert named.said == ["17"]
    await named.look([held], ("19", f"gpu.{MINE}@host"))
    assert named.said == ["17", "17, 19"]
    await named.harness.end(binding)


async def test_of_one_reservation_and_one_job_nothing_is_concluded(named: Named) -> None:
    """The job may be at a consumer that no dispatcher started."""
    binding, held = await named.held()
    await named.look([held], ("17", "me"))
    assert (named.said, held.jobs) == ([], [])
    await named.harness.end(binding)


async def test_an_id_that_could_be_in_a_name_by_chance_is_not_looked_for(named: Named) -> None:
    binding, held = await named.held("me")
    await named.look([held], ("17", "me"), ("18", "some"))
    assert named.said == []
    await named.harness.end(binding)


async def test_many_jobs_of_a_reservation_are_not_all_named(named: Named) -> None:
    binding, held = await named.held()
    for number in range(3 * NAMED_MAX):
        await named.look([held], (str(number), MINE))
    assert named.said[-1] == "0, 1, 2, 3, 4, …"
    assert len(named.said) == NAMED_MAX + 1
    assert len(shown(["x" * 1_000] * 10)) < 200, "the engine takes no longer name"
    await named.harness.end(binding)


async def test_a_broker_that_refuses_is_asked_again_later(named: Named) -> None:
    binding, held = await named.held()
    named.queue.refuses = True
    for _ in range(20):
        await named.look([held])
    assert named.queue.asked == 1
    named.harness.time.now_s += ASK_AGAIN_S
    await named.look([held])
    assert named.queue.asked == 2
    await named.look([])
    assert named.queue.asked == 2, "nothing is held"
    await named.harness.end(binding)


async def test_a_binding_has_its_jobs_told_even_if_they_are_over_by_then(harness: DispatchHarness) -> None:
    client, queue = ListeningClient(), NamingQueue(harness)
    harness.client = client
    told: list[tuple[Binding, ReservationTask]] = []

    async def open_queue() -> NamingQueue:
        return queue

    binding = harness.binding(open_queue=open_queue, on_named=lambda *which: told.append(which))
    (held,) = await harness.held(binding, 1)
    held.session_id = MINE
    queue.jobs = [TakenJob("17", MINE)]
    running = [asyncio.ensure_future(binding.run())]
    await harness.time.go(2 * ASK_EVERY_S)
    assert [task.jobs for _, task in told] == [["17"]]
    reporter = QueueReporter(harness.tools, [binding])
    reporter.named(*told[0])
    held.closed.set()
    await harness.time.go(1.0)
    binding.reservations.clear()
    client.answers = False
    running.append(asyncio.ensure_future(reporter.run()))
    await harness.time.go(1.0)
    client.answers = True  # it is told again what the engine did not hear
    await harness.time.go(20.0)
    assert [labels for labels in client.heard if labels] == [[{"request_idx": 17, "queue": binding.queue, "job": "17"}]]
    for each in running:
        each.cancel()
        with contextlib.suppress(BaseException):
            await each
    await harness.end(binding)


async def test_a_queue_with_nothing_in_flight_or_without_names_is_not_asked(harness: DispatchHarness) -> None:
    queue = NamingQueue(harness)
    queue.in_flight = 0

    async def open_queue() -> NamingQueue:
        return queue

    binding = harness.binding(open_queue=open_queue)
    await harness.held(binding, 1)
    running = asyncio.ensure_future(binding.run())
    await harness.time.go(5.0)
    assert queue.asked == 0
    running.cancel()
    with contextlib.suppress(BaseException):
        await running
    await settle()
    await harness.end(binding)
