"""What waits while none of ours takes it, where consumers may stay after their job (`Limits.max_idle_hold_s`).

A consumer whose job came and went between two readings, and that stays, looks like one that loads for a job that waits.
If none of ours takes that job for long enough, another worker is sent for it. Where there is no room, one that has
no job is ended. One that loads for longer than its operator says looks the same, too: so one that changed nothing is
followed by the next after twice as long. Where one took a job, and nothing moves after that, twice as many follow.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.demand.plan import pool
from nullworker.demand.reservations import HOLDING, LIVE, UNMOVED_CLAIMS, Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.demand.limits import Limits
    from nullworker.demand.plan import Reading
    from nullworker.demand.reservations import ReservationState

#: The longest wait that doubling leads to.
_LONGEST_S = 3600.0


class Standstill:
    """Is told of every reading."""

    def __init__(self) -> None:
        self._since_s: float | None = None  # a job waits, some of ours have none, and nothing has moved
        self._at_rest = False  # nothing is in flight
        self._waiting = 0  # what waits
        self._sent = 0  # times in a row that this changed nothing
        self._ended = 0  # reservations in a row, likewise
        self._step = 1  # so many workers are sent at once
        self._is_sending = False  # they are to be opened, and were not yet

    def add(self, reading: Reading, reservations: Sequence[ReservationState], limits: Limits, *, moves: bool) -> None:
        """Takes in a reading.

        Args:
            reading: the new one.
            reservations: all that are not forgotten.
            limits: of the queue.
            moves: whether jobs were taken or done since the one before, or it cannot be known.
        """
        depth = reading.depth
        in_flight = depth.in_flight
        self._at_rest = in_flight == 0 and depth.exact
        self._waiting = pool(depth)
        if not self._waiting:
            self._step = 1
        elif moves and self._sent:
            self._step = min(2 * self._step, limits.most)
        if moves or not self._waiting:
            self._sent = self._ended = 0
        places = limits.jobs_per_worker * sum([r.phase in HOLDING for r in reservations])
        is_full = in_flight is not None and depth.parallel_max is not None and in_flight >= depth.parallel_max
        if moves or not self._waiting or in_flight is None or places <= in_flight or is_full:
            self.interrupt()
        elif self._since_s is None:
            self._since_s = reading.at_s

    def interrupt(self) -> None:
        """What is so now may not have been so all the time."""
        self._since_s = None
        self._is_sending = False

    def at_least(self, reservations: Sequence[ReservationState], limits: Limits, now_s: float) -> int:
        """How many reservations there should be, whatever what waits calls for; 0 if no job waits for too long.

        Args:
            reservations: all that are not forgotten.
            limits: of the queue.
            now_s: the time.
        """
        lasts_s, live = self._lasts_s(reservations, limits, now_s), sum([r.phase in LIVE for r in reservations])
        if lasts_s is None:  # one may be on its way, and is not withdrawn
            self._is_sending = False
            return live if self._sent and self._since_s is not None else 0
        if not self._is_sending and lasts_s >= _doubled(_first_s(limits), self._sent):
            self._is_sending = True
            self._sent += 1
        return live + min(self._step, math.ceil(self._waiting / limits.jobs_per_worker)) if self._is_sending else 0

    def in_the_way(
        self, reservations: Sequence[ReservationState], limits: Limits, now_s: float
    ) -> ReservationState | None:
        """Which reservation is to be ended where there is no room for another; None: none is, or not yet.

        As long as anything is in flight it is not known which of them is at it.

        Args:
            reservations: all that are not forgotten.
            limits: of the queue.
            now_s: the time.
        """
        lasts_s = self._lasts_s(reservations, limits, now_s)
        longest_s = max(_first_s(limits), UNMOVED_CLAIMS * limits.claim_s)
        if lasts_s is None or not self._at_rest or lasts_s < _doubled(longest_s, self._ended):
            return None
        self._ended += 1
        return min([r for r in reservations if r.phase is Phase.HELD], key=lambda r: r.held_at_s or 0.0)

    def _lasts_s(self, reservations: Sequence[ReservationState], limits: Limits, now_s: float) -> float | None:
        """For how long the last that was held could have taken what waits; None: one is on its way, or none could."""
        held_at_s = [r.held_at_s for r in reservations if r.phase in LIVE]
        if self._since_s is None or limits.max_idle_hold_s is None or limits.lag_s or not held_at_s:
            return None
        if any(each is None for each in held_at_s):
            return None
        return now_s - max(self._since_s, *[each for each in held_at_s if each is not None])


def _first_s(limits: Limits) -> float:
    return max(limits.claim_s, limits.max_idle_hold_s or 0.0)


def _doubled(first_s: float, times: int) -> float:
    return min(max(_LONGEST_S, first_s), first_s * 2.0 ** min(times, 20))
