"""What must hold of an engine's tables after every event: each is computed again and compared.

For tests and simulation, not for production: `check` looks at everything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from nullworker.core.parameters import EndpointState
from nullworker.core.reservation import Stage
from nullworker.core.worker import ACTIVE, BOOTING, WorkerState

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.engine import Engine
    from nullworker.core.state import EngineState
    from nullworker.core.waiting_line import WaitingLine
    from nullworker.core.worker import Worker
    from nullworker.core.workergroup import Workergroup


class InvariantBroken(AssertionError):  # noqa: N818 - it reads as what it is
    """A table of the engine contradicts another; the message says which."""


def check(engine: Engine) -> None:
    """Checks all tables of an engine against each other.

    Raises:
        InvariantBroken: with what contradicts what.
    """
    state = engine.state
    _that(not state.dirty and not state.freed, "an event was left unsettled")
    for endpoint in state.endpoints.values():
        _pool_sums(endpoint)
        _pool_waiters(endpoint)
        for request_idx, waiter in endpoint.line.waiting.items():
            _that(state.reservations.get(request_idx) is waiter, f"waiter {request_idx} is not known")
    _workers(state)
    _reservations(state)


def _that(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantBroken(message)


def _near(name: str, kept: float, computed: float) -> None:
    if kept != computed and not math.isclose(kept, computed, rel_tol=1e-6, abs_tol=1e-3):
        raise InvariantBroken(f"{name} is kept as {kept}, and is {computed}")


def _same(name: str, what: str, kept: Any, computed: Any) -> None:
    if kept != computed:
        raise InvariantBroken(f"{name}: {what} is kept as {kept}, and is {computed}")


_NONE = dict.fromkeys(WorkerState, 0)


class _Sums:
    """An endpoint's sums, computed from its workers one by one."""

    def __init__(self) -> None:
        self.counts = _NONE.copy()
        self.ready_perf = self.booting_perf = self.inactive_perf = self.held_cost = 0.0
        self.slots = self.unbounded = self.awaiting_report = 0
        self.free: set[int] = set()
        self.idle: set[int] = set()
        self.inactive: set[int] = set()
        self.workers: dict[Workergroup, int] = {}
        self.booting: dict[Workergroup, int] = {}

    def add(self, worker: Worker) -> None:
        """Counts one worker in."""
        state, group, perf = worker.state, worker.workergroup, worker.perf_expected
        self.counts[state] += 1
        self.workers[group] = self.workers.get(group, 0) + 1
        self.awaiting_report += worker.trust.awaiting_report
        if state in ACTIVE:
            self.held_cost += worker.held_cost
            if worker.held:
                self.ready_perf += perf
            elif worker.grantable:
                self.ready_perf += perf
                self.free.add(worker.worker_id)
                if worker.owned:
                    self.idle.add(worker.worker_id)
                self._add_places(worker)
        elif state in BOOTING:
            self.booting[group] = self.booting.get(group, 0) + 1
            if worker.retire is None:
                self.booting_perf += perf
                self._add_places(worker)
        elif state is WorkerState.INACTIVE or state is WorkerState.STOPPING:
            if state is WorkerState.INACTIVE:
                self.inactive.add(worker.worker_id)
            if worker.retire is None:
                self.inactive_perf += perf

    def _add_places(self, worker: Worker) -> None:
        most = worker.occupancy_known
        if most is None:
            self.unbounded += 1
        else:
            self.slots += most


def _pool_sums(endpoint: Endpoint) -> None:
    name = f"endpoint {endpoint.endpoint_id}"
    sums = _Sums()
    for worker in endpoint.workers.values():
        sums.add(worker)
    if endpoint.counts != sums.counts:
        for state in WorkerState:
            _same(name, f"the number of those {state.value}", endpoint.counts[state], sums.counts[state])
    _that(endpoint.counts[WorkerState.GONE] == 0, f"{name}: a worker that is gone is still listed")
    _near(f"{name}: ready_perf", endpoint.ready_perf, sums.ready_perf)
    _near(f"{name}: booting_perf", endpoint.booting_perf, sums.booting_perf)
    _near(f"{name}: inactive_perf", endpoint.inactive_perf, sums.inactive_perf)
    _near(f"{name}: held_cost", endpoint.held_cost, sums.held_cost)
    _same(name, "free", endpoint.free.keys(), sums.free)
    _same(name, "idle", endpoint.idle.keys(), sums.idle)
    _same(name, "inactive", endpoint.inactive.keys(), sums.inactive)
    _same(name, "slots", endpoint.slots, sums.slots)
    _same(name, "unbounded", endpoint.unbounded, sums.unbounded)
    _same(name, "awaiting_report", endpoint.awaiting_report, sums.awaiting_report)
    for workergroup in endpoint.workergroups.values():
        _same(name, "the number of a workergroup's workers", workergroup.workers, sums.workers.get(workergroup, 0))
        _same(name, "a workergroup's booting", workergroup.booting, sums.booting.get(workergroup, 0))


def _pool_waiters(endpoint: Endpoint) -> None:
    name = f"endpoint {endpoint.endpoint_id}"
    line = endpoint.line
    if line.waiting or line.active_count:
        _line(name, line)
    else:
        _that(not line.in_time and not line.overdue_count, f"{name}: overdue_count or in_time is wrong")
        _near(f"{name}: active_cost", line.active_cost, 0.0)
        _near(f"{name}: overdue_cost", line.overdue_cost, 0.0)
    if endpoint.parameters.state is not EndpointState.STOPPED and not endpoint.deleted:
        stuck = line.first() is not None and endpoint.pick() is not None
        _that(not stuck, f"{name}: someone waits although a worker may be granted")


def _line(name: str, line: WaitingLine) -> None:
    waiting = line.waiting.values()
    counted = [r for r in waiting if r.counted]
    overdue = [r for r in counted if r.overdue]
    _same(name, "active_count", line.active_count, len(counted))
    _near(f"{name}: active_cost", line.active_cost, sum([r.cost for r in counted]))
    _same(name, "overdue_count", line.overdue_count, len(overdue))
    _near(f"{name}: overdue_cost", line.overdue_cost, sum([r.cost for r in overdue]))
    _same(name, "in_time", line.in_time.keys(), {r.request_idx for r in counted if not r.overdue})
    ordered = set(line.order)
    for reservation in waiting:
        idx = reservation.request_idx
        if reservation.stage is not Stage.WAITING:
            raise InvariantBroken(f"reservation {idx} waits and is {reservation.stage.value}")
        if reservation.counted == (reservation.absent or reservation.unseen):
            raise InvariantBroken(f"waiter {idx} is counted wrongly")
        if not reservation.absent and idx not in ordered:
            raise InvariantBroken(f"waiter {idx} is present and has no place in the order")


def _workers(state: EngineState) -> None:
    listed = {worker_id for endpoint in state.endpoints.values() for worker_id in endpoint.workers}
    _that(listed == state.workers.keys(), "the endpoints' workers are not the engine's")
    for worker in state.workers.values():
        if worker.held:
            _holder(worker)
        else:
            idle = worker.state is not WorkerState.HELD and not worker.grant_count and not worker.held_cost
            _that(idle, f"worker {worker.worker_id} holds nothing, and is {worker.state.value} or counts something")


def _holder(worker: Worker) -> None:
    name = f"worker {worker.worker_id}"
    _near(f"{name}: held_cost", worker.held_cost, sum([r.cost for r in worker.held.values()]))
    _same(name, "grant_count", worker.grant_count, sum([r.stage is Stage.GRANTED for r in worker.held.values()]))
    if worker.state in _HOLDS_NOTHING:
        raise InvariantBroken(f"{name} is {worker.state.value} and holds {sorted(worker.held)}")
    for request_idx, reservation in worker.held.items():
        if reservation.worker_id != worker.worker_id:
            raise InvariantBroken(f"{name} holds {request_idx}, which is elsewhere")
        if reservation.stage is not Stage.GRANTED and reservation.stage is not Stage.SESSION:
            raise InvariantBroken(f"{name} holds {request_idx}, which ended")


_HOLDS_NOTHING = frozenset({WorkerState.READY, WorkerState.STOPPING, WorkerState.INACTIVE, WorkerState.DESTROYING})


def _reservations(state: EngineState) -> None:
    for request_idx, reservation in state.reservations.items():
        _that(not reservation.delivery.orphan, f"reservation {request_idx} is an orphan and answers for its request")
        if reservation.stage is Stage.WAITING:
            endpoint = state.endpoints.get(reservation.endpoint_id)
            _that(endpoint is not None and request_idx in endpoint.line.waiting, f"waiter {request_idx} waits nowhere")
            continue
        worker = state.workers.get(reservation.worker_id)
        _that(worker is not None, f"reservation {request_idx} is on worker {reservation.worker_id}, which is unknown")
        if worker is not None:
            _that(worker.held.get(request_idx) is reservation, f"worker {worker.worker_id} does not hold {request_idx}")
