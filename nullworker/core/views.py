"""An engine's state to read: plain values for pages, command line and metrics. Three words mean one thing everywhere:
*wanted* (by parameters and demand), *requested* (of the fleet), *observed* (reported).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core import admin, scaling
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.engine import Engine
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker


def endpoint(engine: Engine, endpoint_id: int) -> dict[str, Any] | None:
    """One endpoint in numbers, or None: costs and perf in perf units, counts of workers and waiters."""
    endpoint = engine.state.endpoints.get(endpoint_id)
    return None if endpoint is None else _endpoint(engine.state, endpoint)


def endpoints(engine: Engine) -> list[dict[str, Any]]:
    """All endpoints in numbers, in the order of their creation."""
    return [_endpoint(engine.state, endpoint) for endpoint in engine.state.endpoints.values()]


def _endpoint(state: EngineState, endpoint: Endpoint) -> dict[str, Any]:
    wanted = scaling.need(endpoint)
    return {
        "id": endpoint.endpoint_id,
        "name": endpoint.name,
        "state": "deleting" if endpoint.deleted else endpoint.parameters.state.value,
        "wanted": {
            "active_perf": wanted.active_perf,
            "places": wanted.places,
            "cold_perf": wanted.cold_perf,
            "cold_workers": wanted.cold_workers,
            "max_workers": endpoint.parameters.max_workers,
        },
        "requested": {
            "workers": endpoint.active + endpoint.booting,
            "perf": endpoint.ready_perf + endpoint.booting_perf,
        },
        "observed": {
            "ready": endpoint.counts[WorkerState.READY],
            "held": endpoint.counts[WorkerState.HELD],
            "perf": endpoint.ready_perf,
        },
        "held_cost": endpoint.held_cost,
        "waiting": len(endpoint.waiting),
        "waiting_cost": endpoint.waiting_cost,
        "workers": {state.value: count for state, count in endpoint.counts.items() if count},
        "why": admin.why_short(state, endpoint) if endpoint.waiting else "",
        "workergroups": [
            {
                "id": workergroup.spec.workergroup_id,
                "fleet": workergroup.spec.fleet,
                "workers": workergroup.workers,
                "booting": workergroup.booting,
                "failures": workergroup.failures,
                "last_error": workergroup.last_error,
                "next_try_in_s": max(0.0, workergroup.next_try_at - state.now),
            }
            for workergroup in endpoint.workergroups.values()
        ],
    }


def workers(engine: Engine, endpoint_id: int | None = None) -> list[dict[str, Any]]:
    """All workers (of one endpoint), in the order of their creation; ages in seconds."""
    state = engine.state
    return [
        _worker(state, worker)
        for worker in state.workers.values()
        if endpoint_id is None or worker.workergroup.spec.endpoint_id == endpoint_id
    ]


def _worker(state: EngineState, worker: Worker) -> dict[str, Any]:
    return {
        "id": worker.worker_id,
        "endpoint_id": worker.workergroup.spec.endpoint_id,
        "workergroup_id": worker.workergroup.spec.workergroup_id,
        "fleet": worker.workergroup.spec.fleet,
        "state": worker.state.value,
        "for_s": state.now - worker.state_since,
        "reported_s_ago": state.now - worker.reported_at,
        "url": worker.url,
        "perf": worker.perf_expected,
        "measured_perf": worker.perf,
        "load": worker.held_cost,
        "request_idxs": sorted(worker.held),
        "suspect": worker.unresponsive,
        "retire": worker.retire,
        "error": worker.error,
        "owned": worker.owned,
    }


def waiters(engine: Engine, endpoint_id: int) -> list[dict[str, Any]]:
    """Who waits on an endpoint, first come first; ages in seconds."""
    endpoint = engine.state.endpoints.get(endpoint_id)
    if endpoint is None:
        return []
    now = engine.state.now
    return [
        {"request_idx": idx, "cost": r.cost, "waiting_s": now - r.asked_at, "present": r.present, "absent": r.absent}
        for idx, r in sorted(endpoint.waiting.items())
    ]
