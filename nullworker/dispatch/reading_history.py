"""What successive readings of a queue show that one does not: jobs taken, progress, and for how long it was empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.dispatch.plan import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.dispatch.plan import Limits, Reading, ReservationState

#: This many reservations in a row may end while the queue makes no progress; after that, opening slows down.
FUTILE_FREE = 8
#: A reservation that was held for longer has done work, whatever the queue shows.
FUTILE_HELD_S = 10.0
FUTILE_FIRST_S = 0.5
FUTILE_MAX_S = 60.0


class ReadingHistory:
    """Is given every reading and every end of a reservation."""

    def __init__(self) -> None:
        self.futile = 0  # reservations in a row that ended soon, while the queue made no progress
        self._last: Reading | None = None
        self._empty_since_s: float | None = None

    def add(self, reading: Reading, reservations: Sequence[ReservationState]) -> None:
        """Compares a reading with the previous one."""
        depth, last = reading.depth, self._last.depth if self._last is not None else None
        self._last = reading
        if depth.waiting or depth.in_flight != 0 or not depth.exact:
            self._empty_since_s = None
        elif self._empty_since_s is None:
            self._empty_since_s = reading.at_s
        if last is None:
            return
        taken = last.waiting - depth.waiting
        if taken > 0 or not depth.waiting or depth.in_flight != last.in_flight:
            self.futile = 0
        if depth.in_flight is None and taken > 0:
            idle = [r for r in reservations if r.phase is Phase.HELD and not r.took_job]
            for reservation in sorted(idle, key=lambda r: r.held_at_s or 0.0)[:taken]:
                reservation.took_job = True

    def interrupt(self) -> None:
        """The queue could not be read: between two readings it may not have stayed empty."""
        self._empty_since_s = None

    def closed(self, reservation: ReservationState) -> None:
        """A reservation that was held has ended."""
        if reservation.held_at_s is None or reservation.closed_at_s is None:
            return
        if reservation.closed_at_s - reservation.held_at_s >= FUTILE_HELD_S:
            self.futile = 0
        elif self._last is not None and self._last.depth.waiting:
            self.futile += 1

    @property
    def pause_s(self) -> float:
        """The pause before the next reservation is opened, after so many without progress."""
        beyond = self.futile - FUTILE_FREE
        return 0.0 if beyond <= 0 else min(FUTILE_MAX_S, FUTILE_FIRST_S * 2.0 ** min(beyond - 1, 20))

    def idle(self, reservations: Sequence[ReservationState], limits: Limits, now_s: float) -> list[ReservationState]:
        """Held reservations that, as far as the queue shows, have had no work for ``end_idle_s``.

        Empty while the broker's numbers are late or inexact: a consumer that they do not show may be at work.

        Args:
            reservations: all that are not forgotten.
            limits: of the binding.
            now_s: the time.
        """
        since_s, last = self._empty_since_s, self._last
        if limits.end_idle_s is None or limits.lag_s > 0 or since_s is None or last is None:
            return []
        if last.at_s - since_s < limits.end_idle_s or now_s - last.at_s > limits.stale_after_s:
            return []
        return [
            r
            for r in reservations
            if r.phase is Phase.HELD and r.held_at_s is not None and last.at_s - r.held_at_s >= limits.end_idle_s
        ]
