"""What a row of readings tells that a single one does not: jobs taken, progress, and a queue that has been empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.dispatch.plan import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.dispatch.plan import Limits, Reading, Slot

#: So many reservations in a row may end without the queue having moved; after that, opening slows down.
FUTILE_FREE = 8
#: A reservation that was held for longer has worked, whatever the queue shows.
FUTILE_HELD_S = 10.0
FUTILE_FIRST_S = 0.5
FUTILE_MAX_S = 60.0


class Evidence:
    """Fed with every reading and every end of a reservation."""

    def __init__(self) -> None:
        self.futile = 0  # reservations in a row that ended soon, and while the queue did not move
        self._last: Reading | None = None
        self._empty_since_s: float | None = None

    def add(self, reading: Reading, slots: Sequence[Slot]) -> None:
        """Compares a reading with the one before."""
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
            idle = [s for s in slots if s.phase is Phase.HELD and not s.took_job]
            for slot in sorted(idle, key=lambda s: s.held_at_s or 0.0)[:taken]:
                slot.took_job = True

    def blind(self) -> None:
        """The queue could not be read: it may have been anything in between."""
        self._empty_since_s = None

    def closed(self, slot: Slot) -> None:
        """A reservation that was held is over."""
        if slot.held_at_s is None or slot.closed_at_s is None:
            return
        if slot.closed_at_s - slot.held_at_s >= FUTILE_HELD_S:
            self.futile = 0
        elif self._last is not None and self._last.depth.waiting:
            self.futile += 1

    @property
    def pause_s(self) -> float:
        """How long to wait before the next reservation is opened, after so many that came to nothing."""
        beyond = self.futile - FUTILE_FREE
        return 0.0 if beyond <= 0 else min(FUTILE_MAX_S, FUTILE_FIRST_S * 2.0 ** min(beyond - 1, 20))

    def idle(self, slots: Sequence[Slot], limits: Limits, now_s: float) -> list[Slot]:
        """Those who are held and, by all that the queue shows, have had nothing to do for ``end_idle_s``.

        None while the broker's numbers are late or inexact: somebody may be at work whom they do not show.
        """
        since_s, last = self._empty_since_s, self._last
        if limits.end_idle_s is None or limits.lag_s > 0 or since_s is None or last is None:
            return []
        if last.at_s - since_s < limits.end_idle_s or now_s - last.at_s > limits.stale_after_s:
            return []
        return [
            s
            for s in slots
            if s.phase is Phase.HELD and s.held_at_s is not None and last.at_s - s.held_at_s >= limits.end_idle_s
        ]
