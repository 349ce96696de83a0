"""While a reservation is held: a look at the worker now and then, and a ping when its time runs short.

A worker adds a whole lifetime at each request in a session. Pinging at every look would let the end run away, and a
holder that dies would keep its worker for hours; so a ping is sent only when less than two thirds of a lifetime are
left, and a session never outlives its holder by more than five thirds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from nullworker.client.worker_client import SessionGone, WorkerGone, WorkerSilent

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from nullworker.client.worker_client import Look

LOOKS_PER_LIFETIME = 3
PING_BELOW = 2 / 3  # of the lifetime: two looks may fail before it is late
CHECK_S = 5.0  # half the usual inactivity_timeout: a worker that was given back is seen free before it is gone
FIRST_LOOK_S = 1.0  # after which at the latest it is known what lifetime the worker allows
JITTER = 0.1  # of the pause: a hundred reservations opened at once do not stay in step
COLLECTED_AFTER_S = 10.0  # the framework ends an expired session within 5 s of its end


class SessionCalls(Protocol):
    """The part of a worker that keep-alive needs."""

    async def look(self) -> Look: ...

    async def ping(self) -> None: ...


@dataclass(frozen=True)
class Ended:
    """A session is over. ``lost``: its worker is gone; else the worker, which is there, says that it has ended."""

    because: str
    lost: bool = False


def needs_ping(remaining_s: float, lifetime_s: float) -> bool:
    """Whether a session with so much time left is to be extended now."""
    return remaining_s < lifetime_s * PING_BELOW


class KeepAlive:
    """Keeps one session alive until it is gone."""

    def __init__(
        self,
        worker: SessionCalls,
        lifetime_s: float,
        *,
        check_s: float | None,
        extend: bool,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        rng: random.Random,
    ) -> None:
        """Nothing is asked before `run`.

        Args:
            worker: for calls about the session.
            lifetime_s: for how long a ping extends it, at most.
            check_s: the pause between two looks, a third of the lifetime at most; None: `CHECK_S`.
            extend: False if the session is to be watched but left to run out.
            now: a monotonic clock, in seconds.
            sleep: waits for so many seconds.
            rng: for pauses.
        """
        self._worker = worker
        self._lifetime_s = lifetime_s
        self._extend = extend
        self._check_s = check_s
        self._now = now
        self._sleep = sleep
        self._rng = rng
        self._ends_at = now() + lifetime_s  # at the latest, by all that is known here
        self._pinged_at = now()

    async def run(self) -> Ended:
        """Returns when the session is gone."""
        pause_s = min(FIRST_LOOK_S, self._pause_s())
        while True:
            await self._sleep(pause_s * self._rng.uniform(1 - JITTER, 1))
            try:
                await self._look()
            except SessionGone as gone:
                return Ended(str(gone), lost=isinstance(gone, WorkerGone))
            except WorkerSilent as silent:
                silent_until = self._ends_at + COLLECTED_AFTER_S
                if self._now() >= silent_until:
                    return Ended(f"its worker has been silent for longer than its lifetime: {silent}", lost=True)
            pause_s = self._pause_s()

    def _pause_s(self) -> float:
        return min(CHECK_S if self._check_s is None else self._check_s, self._lifetime_s / LOOKS_PER_LIFETIME)

    async def _look(self) -> None:
        asked_at = self._now()
        seen = await self._worker.look()
        if seen.lifetime_s is not None:
            self._lifetime_s = min(self._lifetime_s, seen.lifetime_s)
        if seen.remaining_s is not None:
            self._ends_at = asked_at + seen.remaining_s
        if self._extend and self._is_due(seen.remaining_s, asked_at):
            await self._worker.ping()
            self._pinged_at = asked_at
            self._ends_at += self._lifetime_s

    def _is_due(self, remaining_s: float | None, now_s: float) -> bool:
        if remaining_s is None:  # not at each look, or the end runs away the faster the more often we look
            return now_s - self._pinged_at >= self._lifetime_s / LOOKS_PER_LIFETIME * (1 - JITTER)
        return needs_ping(remaining_s, self._lifetime_s)
