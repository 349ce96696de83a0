"""How long the workers of each workergroup were in each state: what a bill can be computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nullworker.core.events import RestoredWorker
    from nullworker.engine.store import Store

#: The time that workers spend in their present states is added at least this often; a kill loses no more of it.
SETTLE_PERIOD_S = 60.0


class Usage:
    """Seconds by (workergroup, state). Times are the core's."""

    def __init__(self, store: Store | None, before: Mapping[tuple[int, str], float]) -> None:
        """``before`` is what engines before this one counted."""
        self._store = store
        self._totals = dict(before)
        self._present: dict[int, tuple[int, str, float]] = {}  # worker -> (workergroup, state, counted until)
        self._settled_at: float | None = None

    def changed(self, worker_id: int, worker: RestoredWorker | None, now: float) -> None:
        """Called when a worker may have changed its state.

        Args:
            worker_id: its number.
            worker: what is stored of it; None: it is gone.
            now: the time of the core.
        """
        before = self._present.get(worker_id)
        if worker is None:
            if before is not None:
                del self._present[worker_id]
                self._add(before, now)
            return
        group_id, state = worker.workergroup_id, worker.state
        if before is None or before[1] != state:
            self._present[worker_id] = (group_id, state, now)
            if before is not None:
                self._add(before, now)

    def pass_time(self, now: float) -> None:
        """Adds the time of present states, every `SETTLE_PERIOD_S`."""
        if self._settled_at is None:
            self._settled_at = now
        elif now - self._settled_at >= SETTLE_PERIOD_S:
            self.settle(now)

    def settle(self, now: float) -> None:
        """Adds the time of present states now."""
        self._settled_at = now
        for worker_id, entry in list(self._present.items()):
            self._present[worker_id] = (*entry[:2], now)
            self._add(entry, now)

    def by_group(self, now: float) -> dict[int, dict[str, float]]:
        """All seconds so far, by workergroup and state."""
        groups: dict[int, dict[str, float]] = {}
        under_way = [((group_id, state), now - since) for group_id, state, since in self._present.values()]
        for (group_id, state), seconds in [*self._totals.items(), *under_way]:
            states = groups.setdefault(group_id, {})
            states[state] = states.get(state, 0.0) + seconds
        return groups

    def _add(self, entry: tuple[int, str, float], now: float) -> None:
        group_id, state, since = entry
        seconds = max(0.0, now - since)
        self._totals[group_id, state] = self._totals.get((group_id, state), 0.0) + seconds
        if self._store is not None and seconds:
            self._store.add_usage(group_id, state, seconds)
