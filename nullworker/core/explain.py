"""Why things are as they are now: one sentence for an endpoint, a worker or a request, with its numbers.

How they came to be so is in the record of decisions; this answers "why is worker 3 up?".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.core import fallback, scaling
from nullworker.core.causes import Blocker
from nullworker.core.failures import why_retired
from nullworker.core.parameters import EndpointState
from nullworker.core.reservation import Stage
from nullworker.core.worker import BOOTING, WorkerState

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    if endpoint.line.waiting:
        longest_s = now - min(r.asked_at for r in endpoint.line.waiting.values())
        _, why = endpoint_blocker(engine.state, endpoint, now)
        text += f"; {len(endpoint.line)} wait, the first of them for {longest_s:.1f} s, because {why}"
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
            text += f"; it failed {for_s:.1f} s ago ({_error(worker)}), and goes when that ends"
        elif worker.retire is not None:
            text += f"; it goes when that ends, for {why_retired(engine.state, worker)}"
    elif worker.state is WorkerState.READY:
        text = _free(engine.state, endpoint, worker, now)
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
        text += f": {_error(worker)}" if worker.failure is not None else ""
    if worker.trust.unresponsive and worker.state is not WorkerState.ERROR:
        text += f"; it has sent no report for {now - worker.trust.reported_at:.1f} s, so it gets nothing new"
        if worker.trust.refusal:
            text += f" (its last one was refused: {worker.trust.refusal.rstrip('.')})"
    return f"Worker {worker_id} {text}."


def _error(worker: Worker) -> str:
    return "" if worker.failure is None else worker.failure.reason.rstrip(".")


def _holds(worker: Worker, now: float) -> str:
    parts = []
    for reservation in worker.held.values():
        since_s = now - reservation.granted_at
        if reservation.stage is Stage.SESSION:
            parts.append(f"holds request {reservation.request_idx} for {since_s:.1f} s")
        else:
            parts.append(f"was given to request {reservation.request_idx} {since_s:.1f} s ago")
    return " and ".join(parts)


def _free(state: EngineState, endpoint: Endpoint, worker: Worker, now: float) -> str:
    free_s = now - worker.free_since
    if not worker.owned:
        return f"is up and free for {free_s:.1f} s; it joined by itself, and stays"
    if endpoint.parameters.state is EndpointState.SUSPENDED:
        return f"is up and free for {free_s:.1f} s; its endpoint is suspended, and nothing goes"
    at = scaling.goes_at(state, endpoint, worker)
    if at is None:
        wanted = scaling.need(endpoint)
        kept = f"perf {wanted.active_perf:g} is wanted and {endpoint.ready_perf + endpoint.booting_perf:g} is there"
        if endpoint.parameters.keeps_last:
            kept += f", and inactivity_timeout {endpoint.parameters.inactivity_timeout:g} keeps the last one"
        return f"is up and free for {free_s:.1f} s, and stays because {kept}"
    cheaper = fallback.able_instead(state, endpoint, worker.workergroup)
    why = f"(inactivity_timeout {endpoint.parameters.idle_s:g} s)"
    if cheaper is not None:
        why = f"(workergroup {cheaper.spec.workergroup_id}, which is cheaper, can be used again)"
    return f"is up and free for {free_s:.1f} s; it goes in {max(0.0, at - now):.1f} s unless it is needed {why}"


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
    elif reservation.delivery.count == 0:
        text = f"has worker {reservation.worker_id} kept for it for {since_s:.1f} s, until it asks again"
    else:
        text = (
            f"was given worker {reservation.worker_id} {since_s:.1f} s ago, which has not confirmed it; the grant runs "
            f"out in {max(0.0, reservation.expires_at - now):.1f} s"
        )
    return f"Request {request_idx} {text}."


def _waits(state: EngineState, reservation: Reservation, now: float) -> str:
    endpoint = state.endpoints[reservation.endpoint_id]
    place = 1 + sum(idx < reservation.request_idx for idx in endpoint.line.waiting)
    text = f"waits for {now - reservation.asked_at:.1f} s, number {place} of {len(endpoint.line)}, because "
    text += endpoint_blocker(state, endpoint, now)[1]
    if not reservation.present:
        text += f"; its client last asked {now - reservation.seen_at:.1f} s ago"
    return text


# ----------------------------------------------------------------------------------------------------- why one waits


def why_waiting(engine: Engine, request_idx: int) -> str:
    """One sentence on why a waiter has no worker yet ("" if it does not wait)."""
    return blocker(engine, request_idx)[1]


def blocker(engine: Engine, request_idx: int) -> tuple[Blocker, str]:
    """Why a waiter has no worker yet: a code, and a sentence with numbers."""
    state = engine.state
    reservation = state.reservations.get(request_idx)
    if reservation is None or reservation.stage is Stage.SESSION:
        return Blocker.NONE, ""
    endpoint = state.endpoints.get(reservation.endpoint_id)
    if endpoint is None:
        return Blocker.ENDPOINT_GONE, "its endpoint is gone"
    if reservation.stage is Stage.GRANTED:
        return Blocker.UNCONFIRMED, f"worker {reservation.worker_id} has not confirmed its grant yet"
    return endpoint_blocker(state, endpoint, state.now)


def endpoint_blocker(state: EngineState, endpoint: Endpoint, now: float) -> tuple[Blocker, str]:
    """Why an endpoint has no worker at ``now`` for the first that waits: a code, and a sentence with numbers."""
    parameters = endpoint.parameters
    if parameters.state is EndpointState.STOPPED:
        return Blocker.ENDPOINT_STOPPED, "the endpoint is stopped"
    if not endpoint.line.active_count:
        return Blocker.CLIENT_SILENT, "no client of those that wait has asked for a worker lately"
    if endpoint.booting:
        return Blocker.COMING_UP, f"{_workers_are(endpoint.booting)} coming up for {len(endpoint.line)} waiting"
    groups = endpoint.workergroups.values()
    failing = [g for g in groups if g.failures and state.now < g.next_try_at]
    waiting = {g.spec.workergroup_id: until for g in groups if (until := fallback.waits_until(state, endpoint, g))}
    if failing and all(g in failing or g.spec.workergroup_id in waiting for g in groups):
        workergroup = min(failing, key=lambda g: g.next_try_at)
        code = Blocker.NO_PLACE if workergroup.is_short else Blocker.BACKING_OFF
        failed = "found no place" if workergroup.is_short else "failed to start"
        return code, (
            f"workers of workergroup {workergroup.spec.workergroup_id} {failed} {workergroup.failures} times, "
            f"next try in {max(0.0, workergroup.next_try_at - now):.0f} s: {workergroup.last_error}"
            f"{_then(state, waiting, now)}"
        )
    if parameters.state is EndpointState.SUSPENDED:
        return Blocker.ENDPOINT_SUSPENDED, "the endpoint is suspended: no worker is created"
    if not endpoint.workergroups:
        return Blocker.NO_WORKERGROUP, "the endpoint has no workergroup"
    if endpoint.existing >= parameters.max_workers:
        return Blocker.AT_CAP, f"{_by_state(endpoint)}, and max_workers is {parameters.max_workers}"
    if endpoint.line.active_count > scaling.need(endpoint).places:
        reason = f"it waits for less than target_queue_time {parameters.target_queue_time:g} s"
        return Blocker.IN_TIME, reason
    return Blocker.SCALING_UP, f"{_by_state(endpoint)}, and another is wanted"


def _then(state: EngineState, waiting: Mapping[int, float], now: float) -> str:
    """Which dearer workergroup is used, and when, if this lasts.

    Args:
        state: the engine's.
        waiting: until when each workergroup waits, by its id.
        now: the time.
    """
    if not waiting:
        return ""
    workergroup_id = min(waiting, key=lambda each: waiting[each])
    if waiting[workergroup_id] == math.inf:
        return ""
    after_s = state.workergroups[workergroup_id].spec.fallback_after_s
    return (
        f"; workergroup {workergroup_id} is used in its place in {max(0.0, waiting[workergroup_id] - now):.0f} s"
        f" (fallback_after_s {after_s:g})"
    )


def _workers_are(count: int) -> str:
    """The number of workers and its verb: "1 worker is", "2 workers are"."""
    return "1 worker is" if count == 1 else f"{count} workers are"


def _by_state(endpoint: Endpoint) -> str:
    """How many workers are in which state: "3 workers are held, 1 is destroying"; free ones are none to be granted."""
    counts = {known.value: n for known, n in endpoint.counts.items() if n and known is not WorkerState.READY}
    unresponsive = endpoint.counts[WorkerState.READY] - len(endpoint.free)
    if unresponsive:
        counts["free but unresponsive"] = unresponsive
    if not counts:
        return "there is no worker"
    (first, count), *others = counts.items()
    rest = (f"{n} {'is' if n == 1 else 'are'} {name}" for name, n in others)
    return ", ".join((f"{_workers_are(count)} {first}", *rest))
