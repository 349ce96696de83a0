"""Waiting with a limit, how long to pause between two tries, and when to stop trying."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from nullworker.wire import tasks
from nullworker.wire.backoff import backoff_s

if TYPE_CHECKING:
    import random
    from collections.abc import Coroutine

T = TypeVar("T")

BACKOFF_FIRST_S = 0.25  # an engine that was restarted is back within a second or so
BACKOFF_MAX_S = 5.0  # as the vastai client's own
POLL_FIRST_S = 1.0  # as the vastai client's own
POLL_MIN_S = 0.1  # likewise


class OutOfTimeError(Exception):
    """The limit of `within` has passed. Not a ``TimeoutError``, which the work itself may raise."""


async def within(work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
    """The result of ``work``, which has ended in any case when this returns or raises.

    Stands in for ``asyncio.wait_for``, which up to Python 3.11 can swallow a cancellation that arrives together with
    the result. A result that arrives together with a cancellation is dropped: for work without consequences only.

    Raises:
        OutOfTimeError: it took longer than ``timeout_s`` (None: no limit). Otherwise what ``work`` raises.
    """
    task = tasks.start(work)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        in_time = task.done()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # retrieved, so that asyncio does not log it as never retrieved
    if not in_time:
        raise OutOfTimeError
    return task.result()


def jittered_backoff_s(failures: int, rng: random.Random) -> float:
    """How long to wait after so many ``failures`` (1: the first): doubling, capped, and not the same for two callers.

    The lower half is left out: a thousand clients of a restarted engine come neither together nor without a pause.
    """
    ceiling_s = backoff_s(failures, first_s=BACKOFF_FIRST_S, max_s=BACKOFF_MAX_S)
    return rng.uniform(ceiling_s / 2, ceiling_s)


def steady_backoff_s(failures: int, max_s: float, rng: random.Random) -> float:
    """How the ``vastai`` client pauses: 2 s after the first of ``failures``, then 4 s and so on, and up to 1 s more.

    For what is expected to take seconds: an engine that answers but cannot serve, workers that are all occupied.
    """
    return min(2.0 ** min(failures, 20) + rng.random(), max_s)


def poll_pause_s(polls: int, max_s: float, rng: random.Random) -> float:
    """How long to wait before asking the engine again, after so many ``polls``, as the ``vastai`` client does."""
    if polls == 0:
        return min(POLL_FIRST_S, max_s)
    return rng.uniform(POLL_MIN_S, steady_backoff_s(polls, max_s, rng))


class Patience:
    """How long one call goes on trying an engine that fails. Times are seconds of any one monotonic clock.

    With a deadline, until then. Without, a worker is waited for without end, but an engine that has never answered is
    given up at once (a wrong address, most likely), and one that has is given up after ``silence_max_s`` of failures.
    """

    def __init__(self, now: float, deadline_s: float | None, silence_max_s: float) -> None:
        """Begins at ``now``.

        Args:
            now: the time.
            deadline_s: how long from now on to go on; None: no deadline.
            silence_max_s: how long to go on through nothing but failures where there is no deadline.
        """
        self._deadline = None if deadline_s is None else now + deadline_s
        self._silence_max_s = silence_max_s
        self._silent_since: float | None = None
        self.failures = 0  # since the engine was last heard

    def heard(self) -> None:
        """The engine has answered just now."""
        self._silent_since = None
        self.failures = 0

    def failed(self, now: float) -> None:
        """A try has failed at ``now``."""
        self.failures += 1
        if self._silent_since is None:
            self._silent_since = now

    def left_s(self, now: float) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        return None if self._deadline is None else max(0.0, self._deadline - now)

    def silent_s(self, now: float) -> float:
        """For how long nothing but failures has been seen."""
        return 0.0 if self._silent_since is None else now - self._silent_since

    def is_over(self, now: float, *, ever_heard: bool) -> bool:
        """Whether to give up on a failing engine; ``ever_heard``: it has answered in all its time with this client."""
        if self._deadline is not None:
            return now >= self._deadline
        return not ever_heard or self.silent_s(now) >= self._silence_max_s
