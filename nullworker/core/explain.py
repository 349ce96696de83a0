"""Why things are as they are now: one sentence for an endpoint, a worker or a request, with its numbers.

How they came to be so is in the record of decisions; this is for whoever asks "why is worker 3 up?".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import admin, scaling
from nullworker.core.parameters import EndpointState
from nullworker.core.reservation import Stage
from nullworker.core.worker import BOOTING, WorkerState

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.engine import Engine
    from nullworker.core.reservation import Reservation
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker


def about_endpoint(engine: Engine, endpoint_id: int, now: float) -> str:
    """What an endpoint has and wants at ``now``, the engine's time in seconds; "" if there is none."""
    endpoint = engine.state.endpoints.get(endpoint_id)
    if endpoint is None:
        return ""
    wanted = scaling.need(endpoint)
    counts = endpoint.counts
    held = counts[WorkerState.HELD]
    have = (
        f"{held} worker{'' if held == 1 else 's'} held, {counts[WorkerState.READY]} free, {endpoint.booting} coming up"
    )
    inactive = counts[WorkerState.INACTIVE] + counts[WorkerState.STOPPING]
    have += f", {inactive} inactive" if inactive else ""
    text = (
        f"{endpoint.name} has {have}: a load of {wanted.load:g} (held {endpoint.held_cost:g}, min_load "
        f"{endpoint.parameters.min_load:g}) at target_util {endpoint.parameters.target_util:g} wants perf "
        f"{wanted.active_perf:g}, of {endpoint.ready_perf + endpoint.booting_perf:g} there or coming"
    )
    if endpoint.waiting:
        longest_s = now - min(r.asked_at for r in endpoint.waiting.values())
        why = admin.why_short(engine.state, endpoint)
        text += f"; {len(endpoint.waiting)} wait, the first of them for {longest_s:.1f} s, because {why}"
    if endpoint.deleted:
        text += "; it is deleted, and gone with its last worker"
    elif endpoint.parameters.state is not EndpointState.ACTIVE:
        text += f"; it is {endpoint.parameters.state.value}"
    return text + "."


def about_worker(engine: Engine, worker_id: int, now: float) -> str:
    """Why a worker is as it is at ``now``; "" if there is none."""
    worker = engine.state.workers.get(worker_id)
    if worker is None:
        return ""
    endpoint = engine.state.endpoint_of(worker)
    for_s = now - worker.state_since
    if worker.held:
        text = f"is up because it {_holds(worker, now)}"
        if worker.state is WorkerState.ERROR:
            text += f"; it failed {for_s:.1f} s ago ({worker.error.rstrip('.')}), and goes when that ends"
        elif worker.retire:
            text += f"; it goes when that ends, for {worker.retire}"
    elif worker.state is WorkerState.READY:
        text = _free(endpoint, worker, now)
    elif worker.state in BOOTING:
        limit_s = worker.workergroup.spec.boot_timeout_s
        text = f"has been coming up ({worker.state.value}) for {for_s:.1f} s, of {limit_s:g} s"
    elif worker.state is WorkerState.INACTIVE:
        parameters = endpoint.parameters
        text = (
            f"has been inactive for {for_s:.1f} s, kept for cold_workers {parameters.cold_workers} "
            f"(cold_mult {parameters.cold_mult:g}, min_cold_load {parameters.min_cold_load:g})"
        )
    else:
        text = f"has been {worker.state.value} for {for_s:.1f} s"
        text += f": {worker.error.rstrip('.')}" if worker.error else ""
    if worker.unresponsive and worker.state is not WorkerState.ERROR:
        text += f"; nothing was heard of it for {now - worker.reported_at:.1f} s, so it is given to nobody"
    return f"Worker {worker_id} {text}."


def _holds(worker: Worker, now: float) -> str:
    parts = []
    for reservation in worker.held.values():
        since_s = now - reservation.granted_at
        if reservation.stage is Stage.SESSION:
            parts.append(f"holds request {reservation.request_idx} for {since_s:.1f} s")
        else:
            parts.append(f"was given to request {reservation.request_idx} {since_s:.1f} s ago")
    return " and ".join(parts)


def _free(endpoint: Endpoint, worker: Worker, now: float) -> str:
    free_s = now - worker.free_since
    if not worker.owned:
        return f"is up and free for {free_s:.1f} s; it joined by itself, and stays"
    if endpoint.parameters.state is EndpointState.SUSPENDED:
        return f"is up and free for {free_s:.1f} s; its endpoint is suspended, and nothing goes"
    at = scaling.goes_at(endpoint, worker)
    if at is None:
        wanted = scaling.need(endpoint)
        kept = f"perf {wanted.active_perf:g} is wanted and {endpoint.ready_perf + endpoint.booting_perf:g} is there"
        if endpoint.parameters.keeps_last:
            kept += f", and inactivity_timeout {endpoint.parameters.inactivity_timeout:g} keeps the last one"
        return f"is up and free for {free_s:.1f} s, and stays because {kept}"
    return (
        f"is up and free for {free_s:.1f} s; it goes in {max(0.0, at - now):.1f} s if nobody needs it "
        f"(inactivity_timeout {endpoint.parameters.idle_s:g} s)"
    )


def about_request(engine: Engine, request_idx: int, now: float) -> str:
    """Where a request is at ``now``, and why it waits if it does; "" if it is not known."""
    state = engine.state
    reservation = state.reservations.get(request_idx)
    if reservation is None:
        return ""
    since_s = now - reservation.granted_at
    if reservation.stage is Stage.WAITING:
        text = _waits(state, reservation, now)
    elif reservation.stage is Stage.SESSION:
        text = f"holds worker {reservation.worker_id} for {since_s:.1f} s"
    elif reservation.deliveries == 0:
        text = f"has worker {reservation.worker_id} kept for it for {since_s:.1f} s, until it asks again"
    else:
        text = (
            f"was given worker {reservation.worker_id} {since_s:.1f} s ago, which has not confirmed it; the grant runs "
            f"out in {max(0.0, reservation.expires_at - now):.1f} s"
        )
    return f"Request {request_idx} {text}."


def _waits(state: EngineState, reservation: Reservation, now: float) -> str:
    endpoint = state.endpoints[reservation.endpoint_id]
    place = 1 + sum(idx < reservation.request_idx for idx in endpoint.waiting)
    text = f"waits for {now - reservation.asked_at:.1f} s, number {place} of {len(endpoint.waiting)}, because "
    text += admin.why_waiting(state, reservation.request_idx)
    if not reservation.present:
        text += f"; its client last asked {now - reservation.seen_at:.1f} s ago"
    return text
