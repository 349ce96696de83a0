"""What must hold of an engine's tables after every event: each is reckoned from scratch and compared.

For tests and simulation, not for production: `check` looks at everything.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.core.reservations import Stage
from nullworker.core.workers import ACTIVE, BOOTING, State

if TYPE_CHECKING:
    from nullworker.core.engine import Engine
    from nullworker.core.ledger import Ledger
    from nullworker.core.pool import Pool


class InvariantBroken(AssertionError):  # noqa: N818 - it reads as what it is
    """A table of the engine contradicts another; the message says which."""


def check(engine: Engine) -> None:
    """Checks all tables of an engine against each other.

    Raises:
        InvariantBroken: with what contradicts what.
    """
    ledger = engine.ledger
    _that(not ledger.touched and not ledger.freed, "an event was left unsettled")
    for pool in ledger.pools.values():
        _pool_sums(pool)
        _pool_waiters(pool)
        for request_idx, waiter in pool.waiting.items():
            _that(ledger.reservations.get(request_idx) is waiter, f"waiter {request_idx} is not known")
    _workers(ledger)
    _reservations(ledger)


def _that(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantBroken(message)


def _near(name: str, kept: float, reckoned: float) -> None:
    _that(math.isclose(kept, reckoned, rel_tol=1e-6, abs_tol=1e-3), f"{name} is kept as {kept}, and is {reckoned}")


def _pool_sums(pool: Pool) -> None:
    name = f"endpoint {pool.endpoint_id}"
    workers = list(pool.workers.values())
    for state in State:
        counted = sum(w.state is state for w in workers)
        _that(pool.counts[state] == counted, f"{name}: {pool.counts[state]} counted {state.value}, {counted} are")
    _that(pool.counts[State.GONE] == 0, f"{name}: a worker that is gone is still listed")
    active = [w for w in workers if w.state in ACTIVE]
    covering = [w for w in active if w.held or not (w.suspect or w.retire)]
    _near(f"{name}: ready_perf", pool.ready_perf, sum(w.perf_expected for w in covering))
    booting = [w for w in workers if w.state in BOOTING and not w.retire]
    _near(f"{name}: booting_perf", pool.booting_perf, sum(w.perf_expected for w in booting))
    inactive = [w for w in workers if w.state is State.INACTIVE]
    cold = [w for w in workers if w.state in (State.INACTIVE, State.STOPPING) and not w.retire]
    _near(f"{name}: inactive_perf", pool.inactive_perf, sum(w.perf_expected for w in cold))
    _near(f"{name}: held_cost", pool.held_cost, sum(w.held_cost for w in active))
    free = {w.worker_id for w in covering if not w.held}
    _that(set(pool.free) == free, f"{name}: free are kept as {sorted(pool.free)}, and are {sorted(free)}")
    ours = {w.worker_id for w in covering if not w.held and w.owned}
    _that(set(pool.idle) == ours, f"{name}: idle are kept as {sorted(pool.idle)}, and are {sorted(ours)}")
    _that(set(pool.inactive) == {w.worker_id for w in inactive}, f"{name}: the inactive are not those kept")
    placing = [w for w in covering if not w.held] + booting
    _that(pool.slots == sum(w.occupancy_known or 0 for w in placing), f"{name}: slots {pool.slots} are wrong")
    _that(pool.unbounded == sum(w.occupancy_known is None for w in placing), f"{name}: unbounded is wrong")
    _that(pool.unheard == sum(w.unheard for w in workers), f"{name}: unheard is wrong")
    for group in pool.groups.values():
        mine = [w for w in workers if w.group is group]
        _that(group.workers == len(mine), f"{name}: a workergroup counts {group.workers} of {len(mine)} workers")
        _that(group.booting == sum(w.state in BOOTING for w in mine), f"{name}: a workergroup's booting is wrong")


def _pool_waiters(pool: Pool) -> None:
    name = f"endpoint {pool.endpoint_id}"
    waiting = pool.waiting.values()
    counted = [r for r in waiting if r.counted]
    _that(pool.wanting == len(counted), f"{name}: wanting is wrong")
    _near(f"{name}: waiting_cost", pool.waiting_cost, sum(r.cost for r in counted))
    _that(pool.aged == sum(r.aged for r in counted), f"{name}: aged is wrong")
    _near(f"{name}: aged_cost", pool.aged_cost, sum(r.cost for r in counted if r.aged))
    _that(set(pool.young) == {r.request_idx for r in counted if not r.aged}, f"{name}: young is wrong")
    ordered = set(pool.order)
    for reservation in waiting:
        idx = reservation.request_idx
        _that(reservation.stage is Stage.WAITING, f"reservation {idx} waits and is {reservation.stage.value}")
        _that(reservation.counted != (reservation.absent or reservation.unseen), f"waiter {idx} is counted wrongly")
        _that(reservation.absent or idx in ordered, f"waiter {idx} is present and has no place in the order")
    if pool.parameters.state.value != "stopped" and not pool.deleted:
        stuck = pool.first_waiter() is not None and pool.pick() is not None
        _that(not stuck, f"{name}: someone waits although a worker is routable")


def _workers(ledger: Ledger) -> None:
    listed = {w.worker_id for pool in ledger.pools.values() for w in pool.workers.values()}
    _that(listed == set(ledger.workers), "the endpoints' workers are not the engine's")
    for worker in ledger.workers.values():
        name = f"worker {worker.worker_id}"
        _near(f"{name}: held_cost", worker.held_cost, sum(r.cost for r in worker.held.values()))
        granted = sum(r.stage is Stage.GRANTED for r in worker.held.values())
        _that(worker.unproven == granted, f"{name} counts {worker.unproven} grants, and has {granted}")
        _that((worker.state is State.HELD) <= bool(worker.held), f"{name} is held and holds nothing")
        _that(not (worker.state is State.READY and worker.held), f"{name} is ready and holds something")
        _that(
            not worker.held or worker.state not in (State.STOPPING, State.INACTIVE, State.DESTROYING),
            f"{name} is {worker.state.value} and holds {sorted(worker.held)}",
        )
        for request_idx, reservation in worker.held.items():
            _that(reservation.worker_id == worker.worker_id, f"{name} holds {request_idx}, which is elsewhere")
            _that(reservation.stage in (Stage.GRANTED, Stage.SESSION), f"{name} holds {request_idx}, which ended")


def _reservations(ledger: Ledger) -> None:
    for request_idx, reservation in ledger.reservations.items():
        _that(not reservation.orphan, f"reservation {request_idx} is an orphan and answers for its request")
        if reservation.stage is Stage.WAITING:
            pool = ledger.pools.get(reservation.endpoint_id)
            _that(pool is not None and request_idx in pool.waiting, f"waiter {request_idx} waits nowhere")
            continue
        worker = ledger.workers.get(reservation.worker_id)
        _that(worker is not None, f"reservation {request_idx} is on worker {reservation.worker_id}, which is unknown")
        if worker is not None:
            _that(worker.held.get(request_idx) is reservation, f"worker {worker.worker_id} does not hold {request_idx}")
