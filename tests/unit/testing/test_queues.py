"""The conformance kit passes a queue that tells the truth, and names the rule that a queue breaks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.queues.base import Depth, QueueError, QueueInfo, QueueWarning, TakenJob
from nullworker.testing.queues import QueueDriver, check_queue
from tests.kit.virtual_time import run_in_virtual_time

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Store:
    """A broker in memory."""

    def __init__(self) -> None:
        self.waiting = self.in_flight = self.delayed = self.abandoned = 0
        self.paused = self.down = False
        self.taken: list[str] = []
        self.changes = 0
        self.change = asyncio.Event()

    def changed(self) -> None:
        self.changes += 1
        self.change.set()


class MemoryQueue:
    """A queue adapter that does everything right."""

    warnings: tuple[QueueWarning, ...] = ()

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seen = store.changes
        self.closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        raise QueueError(f"{url}: there is no such queue.")

    def _check(self) -> None:
        if self.closed:
            raise QueueError("The queue was closed.")
        if self.store.down:
            raise QueueError("The broker does not answer.")

    async def depth(self) -> Depth:
        self._check()
        store = self.store
        waiting = 0 if store.paused else store.waiting
        now = time.time()  # noqa: TID251 - an adapter reads the wall clock
        return Depth(
            waiting, store.in_flight, now, delayed=store.delayed, paused=store.paused, abandoned=store.abandoned
        )

    async def info(self) -> QueueInfo:
        self._check()
        paused = (QueueWarning("paused", "The queue is paused."),) if self.store.paused else ()
        return QueueInfo("memory", "jobs", "here", pushes=True, warnings=self.warnings + paused)

    async def taken(self) -> list[TakenJob]:
        self._check()
        return [TakenJob(job, f"consumer of {job}") for job in self.store.taken]

    async def changed(self, timeout_s: float) -> bool:
        self._check()
        self.store.change.clear()
        if self.seen == self.store.changes:
            try:
                await asyncio.wait_for(self.store.change.wait(), timeout_s)
            except asyncio.TimeoutError:
                return False
        self.seen = self.store.changes
        return True

    async def close(self) -> None:
        self.closed = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


class MemoryDriver(QueueDriver):
    tells_paused = True
    breaks = True
    abandons = True
    names_consumers = True
    taken_ever = 0

    def __init__(self, store: Store, **rest: Any) -> None:
        super().__init__("memory://jobs", **rest)
        self.store = store

    async def produce(self, count: int) -> None:
        self.store.waiting += count
        self.store.changed()

    async def produce_delayed(self, delay_s: float) -> None:
        self.store.delayed += 1

    async def consume_one_start(self) -> str:
        if self.store.abandoned:
            self.store.abandoned -= 1
        else:
            self.store.waiting -= 1
        self.store.in_flight += 1
        self.taken_ever += 1
        self.store.taken.append(f"job {self.taken_ever}")
        return self.store.taken[-1]

    async def taken(self, job: str) -> TakenJob:
        return TakenJob(job, f"consumer of {job}")

    async def finish(self, job: str) -> None:
        self.store.in_flight -= 1
        self.store.taken.remove(job)

    async def abandon(self, job: str) -> None:
        await self.finish(job)
        self.store.abandoned += 1

    async def pause(self) -> None:
        self.store.paused = True

    async def resume(self) -> None:
        self.store.paused = False

    async def stop_broker(self) -> None:
        self.store.down = True

    async def start_broker(self) -> None:
        self.store.down = False


def run(queue_class: type[MemoryQueue], driver_class: type[MemoryDriver] = MemoryDriver, **rest: Any) -> Any:
    store = Store()

    async def open_queue(url: str) -> MemoryQueue:
        return queue_class(store) if url == "memory://jobs" else await queue_class.open(url)

    return run_in_virtual_time(check_queue(driver_class(store, **rest), open_queue=open_queue))


def test_a_queue_that_tells_the_truth_passes_everything() -> None:
    result = run(MemoryQueue, bad_urls=["memory://"], secret="never shown")
    assert result.left_out == ()
    assert len(result.passed) == 16
    assert len(result.push_delays_s) == 2


def test_what_a_broker_cannot_do_is_said_to_be_left_out() -> None:
    class Less(MemoryDriver):
        tells_paused = breaks = tells_delayed = abandons = names_consumers = False

    result = run(Nameless, Less)
    assert sum("(" in reason for reason in result.left_out) == len(result.left_out) == 6


class Polling(MemoryQueue):
    """Cannot push."""

    async def info(self) -> QueueInfo:
        return replace(await super().info(), pushes=False)

    async def changed(self, timeout_s: float) -> bool:
        self.seen = self.store.changes
        await super().changed(timeout_s)
        return False


class Nameless(MemoryQueue):
    """Does not tell which consumer has which job."""

    taken = None  # type: ignore[assignment]  # as if it were not there


class Unknown(MemoryQueue):
    async def depth(self) -> Depth:
        return replace(await super().depth(), in_flight=None)


class UnknownDriver(MemoryDriver):
    tells_in_flight = False


def test_a_queue_that_says_that_it_does_not_know_passes() -> None:
    assert run(Unknown, UnknownDriver).push_delays_s
    assert not run(Polling).push_delays_s


class CannotTell(MemoryQueue):
    """Does not know whether what is in flight is at a living consumer."""

    lease_s: float | None = 30.0

    async def depth(self) -> Depth:
        depth = await super().depth()
        in_flight = (depth.in_flight or 0) + (depth.abandoned or 0)
        return replace(depth, in_flight=in_flight, abandoned=None if in_flight else 0)

    async def info(self) -> QueueInfo:
        return replace(await super().info(), lease_s=self.lease_s)


class AsksForItsLease(CannotTell):
    lease_s = None
    warnings = (QueueWarning("no-lease", "Say after how long a consumer is dead."),)


@pytest.mark.parametrize("queue_class", [CannotTell, AsksForItsLease])
def test_a_queue_that_cannot_tell_what_is_abandoned_passes_with_a_lease(queue_class: type[MemoryQueue]) -> None:
    assert run(queue_class).left_out[-1].startswith("bad URLs")


class TakesTheDeadForLiving(MemoryQueue):
    """Counts the job of a dead consumer as in flight."""

    async def depth(self) -> Depth:
        depth = await super().depth()
        return replace(depth, in_flight=(depth.in_flight or 0) + (depth.abandoned or 0), abandoned=0)


class ForgetsTheDead(MemoryQueue):
    async def depth(self) -> Depth:
        return replace(await super().depth(), abandoned=0)


class NeitherTellsNorAsks(CannotTell):
    lease_s = None


class ZeroForUnknown(MemoryQueue):
    """Says 0 where it does not know what is in flight."""

    async def depth(self) -> Depth:
        return replace(await super().depth(), in_flight=0)


class MixesUpConsumers(MemoryQueue):
    async def taken(self) -> list[TakenJob]:
        jobs = self.store.taken
        return [TakenJob(job, f"consumer of {jobs[0]}") for job in jobs]


class NamesTheGone(MemoryQueue):
    """Says of jobs that are done that a consumer has them."""

    ever: tuple[TakenJob, ...] = ()

    async def taken(self) -> list[TakenJob]:
        self.ever = (*self.ever, *[each for each in await super().taken() if each not in self.ever])
        return list(self.ever)


class Takes(MemoryQueue):
    """Reading takes a message."""

    async def depth(self) -> Depth:
        depth = await super().depth()
        self.store.waiting = max(0, self.store.waiting - 1)
        return depth


class ZeroWhenDown(MemoryQueue):
    """A broker that is down looks like an empty queue."""

    async def depth(self) -> Depth:
        if self.store.down:
            return Depth(0, 0, time.time())  # noqa: TID251 - as above
        return await super().depth()


class DelayedIsWaiting(MemoryQueue):
    async def depth(self) -> Depth:
        depth = await super().depth()
        return replace(depth, waiting=depth.waiting + depth.delayed, delayed=0)


class PausedIsWaiting(MemoryQueue):
    async def depth(self) -> Depth:
        return replace(await super().depth(), waiting=self.store.waiting)


class SilentPause(MemoryQueue):
    async def info(self) -> QueueInfo:
        return replace(await super().info(), warnings=())


class Deaf(MemoryQueue):
    """Loses a change between two calls of `changed`."""

    async def changed(self, timeout_s: float) -> bool:
        self.seen = self.store.changes
        return await super().changed(timeout_s)


class CriesWolf(MemoryQueue):
    quiet = 0

    async def changed(self, timeout_s: float) -> bool:
        self.quiet += 1
        return await super().changed(timeout_s) or self.quiet % 2 == 0


class Monotonic(MemoryQueue):
    async def depth(self) -> Depth:
        return replace(await super().depth(), sampled_at_s=time.monotonic())


class Chatty(MemoryQueue):
    warnings = (QueueWarning("prefetch", "Several\nlines."),)


class Shouting(MemoryQueue):
    warnings = (QueueWarning("Pre Fetch", "A sentence."),)


class Repeating(MemoryQueue):
    warnings = (QueueWarning("prefetch", "A sentence."),) * 2


class Leaking(MemoryQueue):
    warnings = (QueueWarning("prefetch", "The password is hunter2."),)


class Undead(MemoryQueue):
    async def close(self) -> None:
        pass


class Credulous(MemoryQueue):
    @classmethod
    async def open(cls, url: str) -> Self:
        return cls(Store())


@pytest.mark.parametrize(
    ("queue_class", "rule"),
    [
        (ZeroForUnknown, "should be \\(2, 1, 0, False\\), and is \\(2, 0, 0, False\\)"),
        (TakesTheDeadForLiving, "should be waiting or abandoned, or Depth.abandoned unknown"),
        (ForgetsTheDead, "should be waiting or abandoned, or Depth.abandoned unknown"),
        (NeitherTellsNorAsks, "a warning 'no-lease'"),
        (MixesUpConsumers, "taken\\(\\) should be"),
        (NamesTheGone, "taken\\(\\) should be \\[\\]"),
        (Takes, "after reading it ten times at once|after 3 messages were produced"),
        (ZeroWhenDown, "while the broker is down should raise QueueError"),
        (DelayedIsWaiting, "due in 1000 s"),
        (PausedIsWaiting, "while the queue is paused"),
        (SilentPause, "should warn with the code 'paused'"),
        (Deaf, "produced before changed\\(\\) was called"),
        (CriesWolf, "False when nothing happened"),
        (Monotonic, "should be Unix time"),
        (Chatty, "several lines"),
        (Shouting, "no machine word"),
        (Repeating, "same warning twice"),
        (Leaking, "shows the password"),
        (Undead, "after close\\(\\) should raise QueueError"),
        (Credulous, "open\\('memory://'\\) should raise QueueError"),
    ],
)
def test_the_rule_that_a_queue_breaks_is_named(queue_class: type[MemoryQueue], rule: str) -> None:
    with pytest.raises(AssertionError, match=rule):
        run(queue_class, bad_urls=["memory://"], secret="hunter2")


def test_names_that_a_driver_does_not_check_are_refused() -> None:
    class Unchecked(MemoryDriver):
        names_consumers = False

    with pytest.raises(AssertionError, match="which is to be tested"):
        run(MemoryQueue, Unchecked)


def test_a_driver_that_promises_names_needs_a_queue_that_has_them() -> None:
    with pytest.raises(AssertionError, match="Nameless lacks the method taken"):
        run(Nameless)
