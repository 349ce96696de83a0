"""The conformance kit passes a queue that tells the truth, and names the rule that a queue breaks."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.queues.base import Depth, QueueError, QueueInfo, QueueWarning
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
        return "job"

    async def finish(self, job: str) -> None:
        self.store.in_flight -= 1

    async def abandon(self, job: str) -> None:
        self.store.in_flight -= 1
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
    assert len(result.passed) == 15
    assert len(result.push_delays_s) == 2


def test_what_a_broker_cannot_do_is_said_to_be_left_out() -> None:
    class Less(MemoryDriver):
        tells_paused = breaks = tells_delayed = abandons = False

    result = run(MemoryQueue, Less)
    assert sum("(" in reason for reason in result.left_out) == len(result.left_out) == 5


class Polling(MemoryQueue):
    """Cannot push."""

    async def info(self) -> QueueInfo:
        return replace(await super().info(), pushes=False)

    async def changed(self, timeout_s: float) -> bool:
        self.seen = self.store.changes
        await super().changed(timeout_s)
        return False


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
