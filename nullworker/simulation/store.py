"""What an engine has written down: the rows that the next one starts from after a kill.

Grants and orders are written before they take effect; everything else a moment later (`lag_s`), so that a kill loses
the last moments of it. What is lost so, reports bring back.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from nullworker.core import recovery
from nullworker.core.events import Restored

if TYPE_CHECKING:
    from nullworker.core.engine import Engine
    from nullworker.core.events import RestoredReservation, RestoredWorker


class Store:
    """Rows that survive, and those on their way."""

    def __init__(self, lag_s: float) -> None:
        self.lag_s = lag_s
        self.workers: dict[int, RestoredWorker] = {}
        self.reservations: dict[int, RestoredReservation] = {}
        self.next_worker_id = 1
        self._pending: deque[tuple[float, dict[int, RestoredWorker | None], dict[int, RestoredReservation | None]]] = (
            deque()
        )

    def note(self, engine: Engine, now: float) -> None:
        """Takes what the last event changed, to be written."""
        state = engine.state
        if not state.changed_workers and not state.changed_reservations:
            return
        workers = {worker_id: recovery.worker_record(state, worker_id) for worker_id in state.changed_workers}
        reservations = {idx: recovery.reservation_record(state, idx) for idx in state.changed_reservations}
        self._pending.append((now, workers, reservations))

    def write(self, until: float) -> None:
        """Writes what was noted up to ``until``."""
        pending = self._pending
        while pending and pending[0][0] <= until:
            _, workers, reservations = pending.popleft()
            for worker_id, worker in workers.items():
                self.next_worker_id = max(self.next_worker_id, worker_id + 1)
                if worker is None:
                    self.workers.pop(worker_id, None)
                else:
                    self.workers[worker_id] = worker
            for idx, reservation in reservations.items():
                if reservation is None:
                    self.reservations.pop(idx, None)
                else:
                    self.reservations[idx] = reservation

    def noted_reservations(self) -> dict[int, RestoredReservation]:
        """The reservations as they will be written when all that was noted is."""
        rows: dict[int, RestoredReservation | None] = dict(self.reservations)
        for _, _, reservations in self._pending:
            rows.update(reservations)
        return {idx: row for idx, row in rows.items() if row is not None}

    def killed(self, now: float) -> None:
        """The engine died at ``now``: what was not written by then is lost."""
        self.write(now - self.lag_s)
        self._pending.clear()

    def restored(self) -> Restored:
        """What the next engine is told first."""
        workers = tuple(self.workers[worker_id] for worker_id in sorted(self.workers))
        reservations = tuple(self.reservations[idx] for idx in sorted(self.reservations))
        return Restored(self.next_worker_id, workers, reservations)
