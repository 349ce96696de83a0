"""An endpoint's workers, and the sums over them that routing and scaling go by.

Every sum is kept up to date by adding and taking away one worker's share, so that no question needs a scan. Its waiters
are in its `WaitingLine`.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.core.worker import ACTIVE, BOOTING, Share, Worker, WorkerState

if TYPE_CHECKING:
    from nullworker.core.parameters import Parameters
    from nullworker.core.waiting_line import WaitingLine
    from nullworker.core.workergroup import Workergroup


@dataclass(slots=True, eq=False)
class Endpoint:
    """One endpoint's part of the engine's state."""

    endpoint_id: int
    name: str
    parameters: Parameters
    line: WaitingLine
    deleted: bool = False
    workergroups: dict[int, Workergroup] = field(default_factory=dict)
    workers: dict[int, Worker] = field(default_factory=dict)
    counts: dict[WorkerState, int] = field(default_factory=lambda: dict.fromkeys(WorkerState, 0))

    ready_perf: float = 0.0
    booting_perf: float = 0.0
    inactive_perf: float = 0.0  # and of those on their way there
    held_cost: float = 0.0
    slots: int = 0  # reservations that free and coming workers take
    unbounded: int = 0  # free and coming workers of which that is not known
    awaiting_report: int = 0  # restored workers that have not reported since
    #: Free workers, longest free first: the last one serves next.
    free: OrderedDict[int, Worker] = field(default_factory=OrderedDict)
    #: Those of them that are ours to release: the first one goes first.
    idle: OrderedDict[int, Worker] = field(default_factory=OrderedDict)
    inactive: OrderedDict[int, Worker] = field(default_factory=OrderedDict)
    #: Held workers that may take more: (implied queue in s, worker_id), stale entries and all.
    partly_free: list[tuple[float, int]] = field(default_factory=list)

    scale_down_at: float | None = None
    overdue_at: float | None = None

    def update_sums(self, worker: Worker) -> None:
        """Replaces the worker's share in the sums by what it is now. Call after any change to the worker."""
        old, new = worker.share, _share(worker)
        if new == old:
            self.update_partly_free(worker)  # what it takes may have changed all the same
            return
        if old is not None:
            self._count(worker, old, -1)
        worker.share = new
        self._count(worker, new, 1)
        if new.free:
            if old is None or not old.free:
                self.free[worker.worker_id] = worker
                if worker.owned:
                    self.idle[worker.worker_id] = worker
                if worker.workergroup.spec.fallback_after_s:
                    self.serves_last(worker)  # the cheaper ones serve before it, and stay longer
        elif old is not None and old.free:
            del self.free[worker.worker_id]
            self.idle.pop(worker.worker_id, None)
        if new.state is WorkerState.INACTIVE:
            self.inactive[worker.worker_id] = worker
        elif old is not None and old.state is WorkerState.INACTIVE:
            del self.inactive[worker.worker_id]
        self.update_partly_free(worker)

    def update_partly_free(self, worker: Worker) -> None:
        """Lets a held worker be found by `pick` if it takes more."""
        if worker.held and self.takes_more(worker):
            heapq.heappush(self.partly_free, (worker.held_cost / worker.perf_expected, worker.worker_id))
        self.bound_partly_free()

    def bound_partly_free(self) -> None:
        """Drops entries that are out of date when they are too many for the workers that there are."""
        if len(self.partly_free) > 2 * len(self.workers) + 64:
            self._compact()

    def _count(self, worker: Worker, share: Share, sign: int) -> None:
        if share.state is WorkerState.GONE:
            return
        self.counts[share.state] += sign
        self.ready_perf += sign * share.ready_perf
        self.booting_perf += sign * share.booting_perf
        self.inactive_perf += sign * share.inactive_perf
        self.held_cost += sign * share.held_cost
        self.slots += sign * share.slots
        self.unbounded += sign * share.unbounded
        worker.workergroup.workers += sign
        if share.state in BOOTING:
            worker.workergroup.booting += sign
        # Sums of floats drift; where nothing is left to sum, the sum is known.
        if sign < 0:
            if self.active == 0:
                self.ready_perf = self.held_cost = 0.0
            if self.booting == 0:
                self.booting_perf = 0.0
            if self.counts[WorkerState.INACTIVE] + self.counts[WorkerState.STOPPING] == 0:
                self.inactive_perf = 0.0

    def _compact(self) -> None:
        valid = {(w.held_cost / w.perf_expected, w.worker_id) for w in self.workers.values() if self._is_partly_free(w)}
        self.partly_free = sorted(valid)

    def _is_partly_free(self, worker: Worker) -> bool:
        return bool(worker.held) and self.takes_more(worker)

    def takes_more(self, worker: Worker) -> bool:
        """Whether a held worker is routable: ready, trusted, staying, below its occupancy and `max_queue_time`."""
        return (
            worker.state is WorkerState.HELD
            and worker.grantable
            and not worker.full
            and worker.held_cost / worker.perf_expected < self.parameters.max_queue_time
        )

    def pick(self) -> Worker | None:
        """The routable worker that serves next: the one freed last, else the one with the shortest implied queue."""
        if self.free:
            return next(reversed(self.free.values()))
        while self.partly_free:
            queue_s, worker_id = self.partly_free[0]
            worker = self.workers.get(worker_id)
            if (
                worker is not None
                and self._is_partly_free(worker)
                and worker.held_cost / worker.perf_expected == queue_s
            ):
                return worker
            heapq.heappop(self.partly_free)
        return None

    @property
    def active(self) -> int:
        """Workers that are ready or held."""
        return self.counts[WorkerState.READY] + self.counts[WorkerState.HELD]

    @property
    def booting(self) -> int:
        """Workers on their way to ready."""
        counts = self.counts
        return (
            counts[WorkerState.ASKED]
            + counts[WorkerState.CREATING]
            + counts[WorkerState.LOADING]
            + counts[WorkerState.STARTING]
        )

    @property
    def existing(self) -> int:
        """All that are not gone: what `max_workers` caps."""
        return len(self.workers)

    @property
    def keeping(self) -> int:
        """All but those whose end is ordered: what must come down when `max_workers` does."""
        return len(self.workers) - self.counts[WorkerState.DESTROYING]

    def serves_last(self, worker: Worker) -> None:
        """Puts a free worker behind all the others: it is to go first."""
        if worker.worker_id in self.free:
            self.free.move_to_end(worker.worker_id, last=False)
        if worker.worker_id in self.idle:
            self.idle.move_to_end(worker.worker_id, last=False)

    @property
    def staying(self) -> int:
        """Workers that are not on their way out: what `cold_workers` asks for."""
        return self.active + self.booting + self.counts[WorkerState.INACTIVE] + self.counts[WorkerState.STOPPING]


def _share(worker: Worker) -> Share:
    state = worker.state
    if state in ACTIVE:
        perf = worker.perf_expected
        if worker.held:
            return Share(state, ready_perf=perf, held_cost=worker.held_cost)
        if not worker.grantable:
            return Share(state)  # an idle worker that cannot be granted covers nothing
        most = worker.occupancy_known
        return Share(state, ready_perf=perf, free=True, slots=most or 0, unbounded=int(most is None))
    if state in BOOTING and worker.retire is None:
        most = worker.occupancy_known
        return Share(state, booting_perf=worker.perf_expected, slots=most or 0, unbounded=int(most is None))
    if state in (WorkerState.INACTIVE, WorkerState.STOPPING) and worker.retire is None:
        return Share(state, inactive_perf=worker.perf_expected)
    return Share(state)
