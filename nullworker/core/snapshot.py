"""An engine's state to read: plain values for pages, command line and metrics. Three words mean one thing everywhere:
*wanted* (by parameters and demand), *requested* (of the fleet), *observed* (reported).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import operators, scaling
from nullworker.core.workers import State

if TYPE_CHECKING:
    from nullworker.core.engine import Engine
    from nullworker.core.ledger import Ledger
    from nullworker.core.pool import Pool
    from nullworker.core.workers import Worker


def endpoint(engine: Engine, endpoint_id: int) -> dict[str, Any] | None:
    """One endpoint in numbers, or None: costs and perf in perf units, counts of workers and waiters."""
    pool = engine.ledger.pools.get(endpoint_id)
    return None if pool is None else _endpoint(engine.ledger, pool)


def endpoints(engine: Engine) -> list[dict[str, Any]]:
    """All endpoints in numbers, in the order of their creation."""
    return [_endpoint(engine.ledger, pool) for pool in engine.ledger.pools.values()]


def _endpoint(ledger: Ledger, pool: Pool) -> dict[str, Any]:
    wanted = scaling.need(pool)
    return {
        "id": pool.endpoint_id,
        "name": pool.name,
        "state": "deleting" if pool.deleted else pool.parameters.state.value,
        "wanted": {
            "active_perf": wanted.active_perf,
            "places": wanted.places,
            "cold_perf": wanted.cold_perf,
            "cold_workers": wanted.cold_workers,
            "max_workers": pool.parameters.max_workers,
        },
        "requested": {
            "workers": pool.active + pool.booting,
            "perf": pool.ready_perf + pool.booting_perf,
        },
        "observed": {
            "ready": pool.counts[State.READY],
            "held": pool.counts[State.HELD],
            "perf": pool.ready_perf,
        },
        "held_cost": pool.held_cost,
        "waiting": len(pool.waiting),
        "waiting_cost": pool.waiting_cost,
        "workers": {state.value: count for state, count in pool.counts.items() if count},
        "why": operators.why_short(ledger, pool) if pool.waiting else "",
        "workergroups": [
            {
                "id": group.spec.workergroup_id,
                "fleet": group.spec.fleet,
                "workers": group.workers,
                "booting": group.booting,
                "failures": group.failures,
                "last_error": group.last_error,
                "next_try_in_s": max(0.0, group.next_try_at - ledger.now),
            }
            for group in pool.groups.values()
        ],
    }


def workers(engine: Engine, endpoint_id: int | None = None) -> list[dict[str, Any]]:
    """All workers (of one endpoint), in the order of their creation; ages in seconds."""
    ledger = engine.ledger
    return [
        _worker(ledger, worker)
        for worker in ledger.workers.values()
        if endpoint_id is None or worker.group.spec.endpoint_id == endpoint_id
    ]


def _worker(ledger: Ledger, worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.worker_id,
        "endpoint_id": worker.group.spec.endpoint_id,
        "workergroup_id": worker.group.spec.workergroup_id,
        "fleet": worker.group.spec.fleet,
        "state": worker.state.value,
        "for_s": ledger.now - worker.state_since,
        "reported_s_ago": ledger.now - worker.reported_at,
        "url": worker.url,
        "perf": worker.perf_expected,
        "measured_perf": worker.perf,
        "load": worker.held_cost,
        "request_idxs": sorted(worker.held),
        "suspect": worker.suspect,
        "retire": worker.retire,
        "error": worker.error,
        "owned": worker.owned,
    }


def waiters(engine: Engine, endpoint_id: int) -> list[dict[str, Any]]:
    """Who waits on an endpoint, first come first; ages in seconds."""
    pool = engine.ledger.pools.get(endpoint_id)
    if pool is None:
        return []
    now = engine.ledger.now
    return [
        {"request_idx": idx, "cost": r.cost, "waiting_s": now - r.asked_at, "present": r.present, "absent": r.absent}
        for idx, r in sorted(pool.waiting.items())
    ]
