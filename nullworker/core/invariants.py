"""What must hold of an engine's tables after every event: each is computed again and compared.

For tests and simulation, not for production: `check` looks at everything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.core.reservation import Stage
from nullworker.core.worker import ACTIVE, BOOTING, WorkerState

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.engine import Engine
    from nullworker.core.state import EngineState


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
    _that(math.isclose(kept, computed, rel_tol=1e-6, abs_tol=1e-3), f"{name} is kept as {kept}, and is {computed}")


def _pool_sums(endpoint: Endpoint) -> None:
    name = f"endpoint {endpoint.endpoint_id}"
    workers = list(endpoint.workers.values())
    for state in WorkerState:
        counted = sum(w.state is state for w in workers)
        _that(
            endpoint.counts[state] == counted, f"{name}: {endpoint.counts[state]} counted {state.value}, {counted} are"
        )
    _that(endpoint.counts[WorkerState.GONE] == 0, f"{name}: a worker that is gone is still listed")
    active = [w for w in workers if w.state in ACTIVE]
    covering = [w for w in active if w.held or w.grantable]
    _near(f"{name}: ready_perf", endpoint.ready_perf, sum(w.perf_expected for w in covering))
    booting = [w for w in workers if w.state in BOOTING and w.retire is None]
    _near(f"{name}: booting_perf", endpoint.booting_perf, sum(w.perf_expected for w in booting))
    inactive = [w for w in workers if w.state is WorkerState.INACTIVE]
    cold = [w for w in workers if w.state in (WorkerState.INACTIVE, WorkerState.STOPPING) and w.retire is None]
    _near(f"{name}: inactive_perf", endpoint.inactive_perf, sum(w.perf_expected for w in cold))
    _near(f"{name}: held_cost", endpoint.held_cost, sum(w.held_cost for w in active))
    free = {w.worker_id for w in covering if not w.held}
    _that(set(endpoint.free) == free, f"{name}: free are kept as {sorted(endpoint.free)}, and are {sorted(free)}")
    ours = {w.worker_id for w in covering if not w.held and w.owned}
    _that(set(endpoint.idle) == ours, f"{name}: idle are kept as {sorted(endpoint.idle)}, and are {sorted(ours)}")
    _that(set(endpoint.inactive) == {w.worker_id for w in inactive}, f"{name}: the inactive are not those kept")
    placing = [w for w in covering if not w.held] + booting
    _that(endpoint.slots == sum(w.occupancy_known or 0 for w in placing), f"{name}: slots {endpoint.slots} are wrong")
    _that(endpoint.unbounded == sum(w.occupancy_known is None for w in placing), f"{name}: unbounded is wrong")
    _that(endpoint.awaiting_report == sum(w.trust.awaiting_report for w in workers), f"{name}: unheard is wrong")
    for workergroup in endpoint.workergroups.values():
        mine = [w for w in workers if w.workergroup is workergroup]
        _that(
            workergroup.workers == len(mine),
            f"{name}: a workergroup counts {workergroup.workers} of {len(mine)} workers",
        )
        _that(workergroup.booting == sum(w.state in BOOTING for w in mine), f"{name}: a workergroup's booting is wrong")


def _pool_waiters(endpoint: Endpoint) -> None:
    name = f"endpoint {endpoint.endpoint_id}"
    line = endpoint.line
    waiting = line.waiting.values()
    counted = [r for r in waiting if r.counted]
    _that(line.active_count == len(counted), f"{name}: active_count is wrong")
    _near(f"{name}: active_cost", line.active_cost, sum(r.cost for r in counted))
    _that(line.overdue_count == sum(r.overdue for r in counted), f"{name}: overdue_count is wrong")
    _near(f"{name}: overdue_cost", line.overdue_cost, sum(r.cost for r in counted if r.overdue))
    _that(set(line.in_time) == {r.request_idx for r in counted if not r.overdue}, f"{name}: in_time is wrong")
    ordered = set(line.order)
    for reservation in waiting:
        idx = reservation.request_idx
        _that(reservation.stage is Stage.WAITING, f"reservation {idx} waits and is {reservation.stage.value}")
        _that(reservation.counted != (reservation.absent or reservation.unseen), f"waiter {idx} is counted wrongly")
        _that(reservation.absent or idx in ordered, f"waiter {idx} is present and has no place in the order")
    if endpoint.parameters.state.value != "stopped" and not endpoint.deleted:
        stuck = line.first() is not None and endpoint.pick() is not None
        _that(not stuck, f"{name}: someone waits although a worker may be granted")


def _workers(state: EngineState) -> None:
    listed = {w.worker_id for endpoint in state.endpoints.values() for w in endpoint.workers.values()}
    _that(listed == set(state.workers), "the endpoints' workers are not the engine's")
    for worker in state.workers.values():
        name = f"worker {worker.worker_id}"
        _near(f"{name}: held_cost", worker.held_cost, sum(r.cost for r in worker.held.values()))
        granted = sum(r.stage is Stage.GRANTED for r in worker.held.values())
        _that(worker.grant_count == granted, f"{name} counts {worker.grant_count} grants, and has {granted}")
        _that((worker.state is WorkerState.HELD) <= bool(worker.held), f"{name} is held and holds nothing")
        _that(not (worker.state is WorkerState.READY and worker.held), f"{name} is ready and holds something")
        _that(
            not worker.held or worker.state not in (WorkerState.STOPPING, WorkerState.INACTIVE, WorkerState.DESTROYING),
            f"{name} is {worker.state.value} and holds {sorted(worker.held)}",
        )
        for request_idx, reservation in worker.held.items():
            _that(reservation.worker_id == worker.worker_id, f"{name} holds {request_idx}, which is elsewhere")
            _that(reservation.stage in (Stage.GRANTED, Stage.SESSION), f"{name} holds {request_idx}, which ended")


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
