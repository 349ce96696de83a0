"""An endpoint's tables: its workers, its waiters, and the sums over them that scaling goes by.

Every sum is kept up to date by adding and taking away one worker's or one waiter's share, so that no question that
routing or scaling asks needs a scan.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.core.worker import ACTIVE, BOOTING, Share, Worker, WorkerState

if TYPE_CHECKING:
    from nullworker.core.parameters import Parameters, WorkergroupSpec
    from nullworker.core.reservation import Reservation


@dataclass(slots=True, eq=False)
class Workergroup:
    """A workergroup and its record of failures."""

    spec: WorkergroupSpec
    generation: int = 0  # raised by each rolling update
    seen: int = 0  # the most sessions that one of its workers was seen to hold at once
    failures: int = 0  # in a row, without a worker proven since
    next_try_at: float = 0.0
    last_error: str = ""
    failed_at: float = float("-inf")  # the last failure that counted
    ready_since: float | None = None  # the first ready of a worker since the last failure
    booting: int = 0
    workers: int = 0
    deleted: bool = False


@dataclass(slots=True, eq=False)
class Endpoint:
    """One endpoint's part of the engine's state."""

    endpoint_id: int
    name: str
    parameters: Parameters
    deleted: bool = False
    workergroups: dict[int, Workergroup] = field(default_factory=dict)
    workers: dict[int, Worker] = field(default_factory=dict)
    counts: dict[WorkerState, int] = field(default_factory=lambda: dict.fromkeys(WorkerState, 0))

    ready_perf: float = 0.0
    booting_perf: float = 0.0
    inactive_perf: float = 0.0  # and of those on their way there
    held_cost: float = 0.0
    slots: int = 0
    unbounded: int = 0
    awaiting_report: int = 0  # restored workers that have not reported since
    #: Free workers, longest free first: the last one serves next.
    free: OrderedDict[int, Worker] = field(default_factory=OrderedDict)
    #: Those of them that are ours to release: the first one goes first.
    idle: OrderedDict[int, Worker] = field(default_factory=OrderedDict)
    inactive: OrderedDict[int, Worker] = field(default_factory=OrderedDict)
    #: Held workers that may take more: (implied queue in s, worker_id), stale entries and all.
    partly_free: list[tuple[float, int]] = field(default_factory=list)

    waiting: dict[int, Reservation] = field(default_factory=dict)
    #: Those of them whom workers are wanted for: neither absent nor unseen. The sums are over these.
    active_waiters: int = 0
    waiting_cost: float = 0.0
    overdue: int = 0
    overdue_cost: float = 0.0
    #: Those who have not waited for `target_queue_time` yet.
    in_time: dict[int, Reservation] = field(default_factory=dict)
    #: A heap of (first asked at, request_idx) of the young; stale entries and all.
    overdue_heap: list[tuple[float, int]] = field(default_factory=list)
    #: A heap of request_idx; stale entries and all.
    line: list[int] = field(default_factory=list)

    scale_down_at: float | None = None
    overdue_at: float | None = None

    # ------------------------------------------------------------------------------------------------------- workers

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
            and not worker.unresponsive
            and not worker.retire
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

    # ------------------------------------------------------------------------------------------------------- waiters

    def add_waiter(self, reservation: Reservation, now: float) -> None:
        """Lets it wait, at the place that its request_idx gives."""
        self.waiting[reservation.request_idx] = reservation
        if not (reservation.absent or reservation.unseen):
            self._count_waiter(reservation, now)
        if not reservation.absent:
            heapq.heappush(self.line, reservation.request_idx)

    def remove_waiter(self, reservation: Reservation) -> None:
        """It waits no longer."""
        del self.waiting[reservation.request_idx]
        self._discount_waiter(reservation)
        if not self.waiting:
            self.line.clear()

    def _count_waiter(self, reservation: Reservation, now: float) -> None:
        reservation.counted = True
        self.active_waiters += 1
        self.waiting_cost += reservation.cost
        reservation.overdue = now - reservation.asked_at >= self.parameters.target_queue_time
        if reservation.overdue:
            self.overdue += 1
            self.overdue_cost += reservation.cost
        else:
            self.in_time[reservation.request_idx] = reservation
            heapq.heappush(self.overdue_heap, (reservation.asked_at, reservation.request_idx))

    def _discount_waiter(self, reservation: Reservation) -> None:
        if not reservation.counted:
            return
        reservation.counted = False
        self.active_waiters -= 1
        self.waiting_cost -= reservation.cost
        if reservation.overdue:
            self.overdue -= 1
            self.overdue_cost -= reservation.cost
        else:
            del self.in_time[reservation.request_idx]
        if not self.active_waiters:
            self.waiting_cost = self.overdue_cost = 0.0
            self.overdue_heap.clear()

    def becomes_overdue(self, reservation: Reservation) -> None:
        """It has waited for `target_queue_time`."""
        reservation.overdue = True
        del self.in_time[reservation.request_idx]
        self.overdue += 1
        self.overdue_cost += reservation.cost

    def next_overdue(self) -> Reservation | None:
        """The waiter that comes of age next."""
        while self.overdue_heap:
            reservation = self.in_time.get(self.overdue_heap[0][1])
            if reservation is not None:
                return reservation
            heapq.heappop(self.overdue_heap)
        return None

    def set_absent(self, reservation: Reservation) -> None:
        """It has not asked for so long that it counts as absent: it is granted nothing, and nothing is made for it."""
        reservation.absent = True
        self._discount_waiter(reservation)

    def set_returned(self, reservation: Reservation, now: float) -> None:
        """It asked again after having been absent, or unseen since a restart: it has its old place."""
        if reservation.absent:
            heapq.heappush(self.line, reservation.request_idx)
        reservation.absent = reservation.unseen = False
        if not reservation.counted:
            self._count_waiter(reservation, now)

    def first_waiter(self) -> Reservation | None:
        """The waiter at the head of those who can take a grant now."""
        while self.line:
            reservation = self.waiting.get(self.line[0])
            if reservation is not None and not reservation.absent:
                return reservation
            heapq.heappop(self.line)
        return None


def _share(worker: Worker) -> Share:
    state = worker.state
    if state in ACTIVE:
        perf = worker.perf_expected
        if worker.held:
            return Share(state, ready_perf=perf, held_cost=worker.held_cost)
        if worker.unresponsive or worker.retire:
            return Share(state)  # an idle worker that cannot be granted covers nothing
        most = worker.occupancy_known
        return Share(state, ready_perf=perf, free=True, slots=most or 0, unbounded=int(most is None))
    if state in BOOTING and not worker.retire:
        most = worker.occupancy_known
        return Share(state, booting_perf=worker.perf_expected, slots=most or 0, unbounded=int(most is None))
    if state in (WorkerState.INACTIVE, WorkerState.STOPPING) and not worker.retire:
        return Share(state, inactive_perf=worker.perf_expected)
    return Share(state)
