"""What an engine has written down: the rows that the next one starts from. It loses what the real store loses.

As in `nullworker.engine.store`, what an event changes is left for a commit in the background, `lag_s` after the first
row was left; a row that is left again before that replaces the one before. The rows of grants, with those of their
workers, and of creations are committed before they take effect, and so ahead of what was left earlier. A kill loses
what was left and not committed: reports have to bring it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from nullworker.core import recovery
from nullworker.core.commands import Create, Grant
from nullworker.core.events import Restored

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.core.events import RestoredReservation, RestoredWorker

_RowT = TypeVar("_RowT")

#: After a kill, numbers go on so far beyond the last one that was written.
WORKER_IDS_SKIPPED = 1_000


class Store:
    """Rows that survive, and those that were left to be committed."""

    def __init__(self, lag_s: float) -> None:
        self.lag_s = lag_s
        self.workers: dict[int, RestoredWorker] = {}
        self.reservations: dict[int, RestoredReservation] = {}
        self._next_worker_id = 1
        self._left_workers: dict[int, RestoredWorker | None] = {}  # None: the row is to be removed
        self._left_reservations: dict[int, RestoredReservation | None] = {}
        self._left_next_worker_id = 1
        self._due: float | None = None  # when what was left is committed

    def leave(self, engine: Engine, commands: Iterable[Command], now: float) -> None:
        """Leaves what the last event changed, but for the reservations that it granted."""
        self.commit_due(now)
        state = engine.state
        if not state.changed_workers and not state.changed_reservations:
            return
        granted = {command.request_idx for command in commands if isinstance(command, Grant)}
        for worker_id in state.changed_workers:
            self._left_workers[worker_id] = row = recovery.worker_record(state, worker_id)
            if row is not None and row.owned:
                self._left_next_worker_id = max(self._left_next_worker_id, worker_id + 1)
        for request_idx in state.changed_reservations:
            record = recovery.reservation_record(state, request_idx)
            if record is None or request_idx not in granted:
                self._left_reservations[request_idx] = record
        if self._due is None:
            self._due = now + self.lag_s

    def commit_now(self, engine: Engine, commands: Iterable[Command]) -> None:
        """Commits the grants that the last event led to with their workers, and the creations."""
        for command in commands:
            if isinstance(command, Grant):
                self._left_reservations.pop(command.request_idx, None)
                grant = recovery.reservation_record(engine.state, command.request_idx)
                if grant is not None:
                    self.reservations[command.request_idx] = grant
            if isinstance(command, (Grant, Create)):
                self._left_workers.pop(command.worker_id, None)
                worker = recovery.worker_record(engine.state, command.worker_id)
                if worker is not None:
                    self.workers[command.worker_id] = worker

    def commit_due(self, now: float) -> None:
        """Commits what was left, if its time has come."""
        if self._due is not None and self._due <= now:
            self._commit()

    def _commit(self) -> None:
        _put(self.workers, self._left_workers)
        _put(self.reservations, self._left_reservations)
        self._next_worker_id = self._left_next_worker_id
        self._forget_left()

    def _forget_left(self) -> None:
        self._left_workers, self._left_reservations, self._due = {}, {}, None
        self._left_next_worker_id = self._next_worker_id

    def noted_reservations(self) -> dict[int, RestoredReservation]:
        """The reservations as they will be when all that was left is committed."""
        rows = dict(self.reservations)
        _put(rows, self._left_reservations)
        return rows

    def killed(self, now: float) -> None:
        """The engine died at ``now``: what was left and not committed by then is lost."""
        self.commit_due(now)
        self._forget_left()

    def lose(self) -> None:
        """All of it is gone."""
        self.workers, self.reservations, self._next_worker_id = {}, {}, 1
        self._forget_left()

    def take_over(self, found: Iterable[RestoredWorker]) -> None:
        """Commits workers that a fleet has and that are not known here."""
        for worker in found:
            self.workers.setdefault(worker.worker_id, worker)

    def restored(self) -> Restored:
        """What the next engine is told first."""
        workers = tuple(self.workers[worker_id] for worker_id in sorted(self.workers))
        reservations = tuple(self.reservations[idx] for idx in sorted(self.reservations))
        return Restored(self._next_worker_id + WORKER_IDS_SKIPPED, workers, reservations)


def _put(rows: dict[int, _RowT], left: dict[int, _RowT | None]) -> None:
    for key, row in left.items():
        if row is None:
            rows.pop(key, None)
        else:
            rows[key] = row
