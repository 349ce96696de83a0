"""How many workers an endpoint needs, who is created for it, and who goes.

Definitions (docs/scaling.md has them with examples). For an endpoint: held H is the cost of sessions and grants,
waiting Q the cost of waiters. A waiter is *urgent* when nothing is active, or when the estimated wait (H+Q)/perf of
the active, or its own age, has reached `target_queue_time`. *Needed* is active capacity of max(`min_load`,
H + urgent Q) / `target_util`, and a free or coming place for each urgent waiter. *Cold* is total capacity of
max(`min_cold_load`, `cold_mult` x active load), and `cold_workers` workers in all.

Scaling up happens after any event, scaling down only when nothing but time has passed: what was asked or granted a
moment ago is never decided over in the same round.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core import fallback, limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Create, Start
from nullworker.core.parameters import EndpointState
from nullworker.core.timers import Timer
from nullworker.core.worker import Worker, WorkerState, WorkerTransition

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Iterator

    from nullworker.core.endpoint import Endpoint
    from nullworker.core.state import EngineState

#: Sums of floats are compared with this much slack, relative to their size.
_SLACK = 1e-9


class Need(NamedTuple):
    """What the parameters and the demand want of an endpoint, in perf units and in places."""

    load: float  # max(min_load, H + urgent Q)
    active_perf: float  # load / target_util
    places: int  # urgent waiters, each of which wants a free or coming place
    cold_perf: float  # total capacity wanted
    cold_workers: int


def need(endpoint: Endpoint) -> Need:
    """What is wanted of the endpoint now."""
    parameters = endpoint.parameters
    if endpoint.deleted or parameters.state is EndpointState.STOPPED:
        return Need(0.0, 0.0, 0, 0.0, 0)
    urgent, urgent_cost = _urgent(endpoint)
    load = max(parameters.min_load, endpoint.held_cost + urgent_cost)
    cold_perf = max(parameters.min_cold_load, parameters.cold_mult * load)
    return Need(load, load / parameters.target_util, urgent, cold_perf, parameters.cold_workers)


def _urgent(endpoint: Endpoint) -> tuple[int, float]:
    """How many waiters are urgent, and their cost."""
    if not endpoint.line.active_count:
        return 0, 0.0
    if endpoint.ready_perf <= 0:
        return endpoint.line.active_count, endpoint.line.active_cost
    if (endpoint.held_cost + endpoint.line.active_cost) / endpoint.ready_perf >= endpoint.parameters.target_queue_time:
        return endpoint.line.active_count, endpoint.line.active_cost
    return endpoint.line.overdue_count, endpoint.line.overdue_cost


def _short(have: float, want: float) -> bool:
    return have < want - _SLACK * max(1.0, want)


def _lacks_active(endpoint: Endpoint, wanted: Need) -> bool:
    if _short(endpoint.ready_perf + endpoint.booting_perf, wanted.active_perf):
        return True
    return wanted.places > endpoint.slots and not endpoint.unbounded


def _lacks_cold(endpoint: Endpoint, wanted: Need) -> bool:
    total_perf = endpoint.ready_perf + endpoint.booting_perf + endpoint.inactive_perf
    return _short(total_perf, wanted.cold_perf) or endpoint.staying < wanted.cold_workers


def scale_up(state: EngineState, endpoint: Endpoint) -> None:
    """Starts and creates workers until the need is met or a limit is."""
    if endpoint.deleted or endpoint.parameters.state is not EndpointState.ACTIVE:
        return
    if endpoint.awaiting_report and state.listening.is_quiet(state.now):
        return  # after a restart: not all workers have reported yet
    wanted = need(endpoint)
    while _lacks_active(endpoint, wanted):
        if not _activate(state, endpoint, wanted) and not _create(state, endpoint, wanted, cold_spare=False):
            return
    while _lacks_cold(endpoint, wanted):
        if not _create(state, endpoint, wanted, cold_spare=True):
            return


def _activate(state: EngineState, endpoint: Endpoint, wanted: Need) -> bool:
    for worker in reversed(endpoint.inactive.values()):
        if worker.retire is None and worker.owned:
            worker.order.given(state.now)
            worker.cold_spare = False
            state.out.append(Start(worker.worker_id, *_why_active(endpoint, wanted), state.event_number))
            state.transition(worker, WorkerTransition.START)
            return True
    return False


def _create(state: EngineState, endpoint: Endpoint, wanted: Need, *, cold_spare: bool) -> bool:
    if endpoint.existing >= endpoint.parameters.max_workers:
        return False
    workergroup = fallback.next_to_grow(state, endpoint)
    if workergroup is None:
        return False
    worker_id = state.next_worker_id
    state.next_worker_id += 1
    why = _why_cold(endpoint, wanted) if cold_spare else _why_active(endpoint, wanted)
    worker = state.add_worker(workergroup, worker_id, WorkerState.ASKED)
    worker.cold_spare = cold_spare
    state.out.append(Create(worker_id, workergroup.spec.workergroup_id, *why, state.event_number))
    return True


def _why_active(endpoint: Endpoint, wanted: Need) -> tuple[Cause, str]:
    have = endpoint.ready_perf + endpoint.booting_perf
    if _short(have, wanted.active_perf):
        return Cause.LOAD, (
            f"active perf {have:g} of {wanted.active_perf:g} wanted: load {wanted.load:g} "
            f"(held {endpoint.held_cost:g}, {wanted.places} urgent waiters) "
            f"at target_util {endpoint.parameters.target_util:g}"
        )
    return Cause.PLACES, f"{endpoint.slots} free or coming places for {wanted.places} urgent waiters"


def _why_cold(endpoint: Endpoint, wanted: Need) -> tuple[Cause, str]:
    total_perf = endpoint.ready_perf + endpoint.booting_perf + endpoint.inactive_perf
    return Cause.COLD_RESERVE, (
        f"total perf {total_perf:g} of {wanted.cold_perf:g} wanted cold, "
        f"{endpoint.staying} workers of cold_workers {wanted.cold_workers}"
    )


# -------------------------------------------------------------------------------------------------------- scaling down


def plan_scale_down(state: EngineState, endpoint: Endpoint) -> None:
    """Sets the timer for scaling down: when the worker that is free longest is due (in a tick if overdue)."""
    if not endpoint.idle and not endpoint.inactive:
        return  # what is usual while all are held
    due = _scale_down_time(state, endpoint)
    if due is None:
        return
    due = max(due, state.now + limits.TICK_S if due <= state.now else due, state.listening.quiet_until)
    if endpoint.scale_down_at is None or due < endpoint.scale_down_at:
        endpoint.scale_down_at = due
        state.timers.set(due, Timer.SCALE_DOWN, endpoint.endpoint_id)


def _scale_down_time(state: EngineState, endpoint: Endpoint, *, after: float = float("-inf")) -> float | None:
    """The first time later than ``after`` at which a worker is due to be scaled down.

    Looks at the first few, and after them at the last: where so many are due and needed, so are those in between.
    """
    dues = []
    for worker in _first_and_last(endpoint.idle):
        due = _idle_until(state, endpoint, worker)
        if due > after:
            dues.append(due)
            if not _is_stand_in(worker):
                break
    inactive = (_inactive_until(endpoint, worker) for worker in _first_and_last(endpoint.inactive))
    dues.extend(islice((due for due in inactive if due > after), 1))
    return min(dues, default=None)


def _idle_until(state: EngineState, endpoint: Endpoint, worker: Worker) -> float:
    if worker.cold_spare or endpoint.parameters.state is EndpointState.STOPPED or _over_cap(endpoint):
        return worker.free_since
    if fallback.able_instead(state, endpoint, worker.workergroup) is not None:
        return worker.free_since
    return worker.free_since + endpoint.parameters.idle_s


def _inactive_until(endpoint: Endpoint, worker: Worker) -> float:
    if endpoint.keeping > endpoint.parameters.max_workers:
        return worker.state_since
    return worker.state_since + endpoint.parameters.idle_s


def _over_cap(endpoint: Endpoint) -> bool:
    """Whether `max_workers` was lowered by so much that free workers go for it: inactive ones go before them."""
    return endpoint.keeping - endpoint.counts[WorkerState.INACTIVE] > endpoint.parameters.max_workers


def scale_down(state: EngineState, endpoint: Endpoint) -> None:
    """Stops or destroys free workers that are due and not needed, and inactive ones beyond the cold floor."""
    endpoint.scale_down_at = None
    if endpoint.parameters.state is EndpointState.SUSPENDED:
        return
    if state.listening.is_quiet(state.now):
        plan_scale_down(state, endpoint)
        return
    wanted = need(endpoint)
    released = 0
    for worker in _first(endpoint.idle, limits.SCALE_DOWN_ROUND):
        if _idle_until(state, endpoint, worker) > state.now:
            if _is_stand_in(worker):
                continue  # these come first, and may be due later than the others
            break
        if worker.endable and _not_needed(endpoint, worker, wanted):
            released += 1
            _release(state, endpoint, worker, wanted)
    for worker in _first(endpoint.inactive, limits.SCALE_DOWN_ROUND):
        if _inactive_until(endpoint, worker) > state.now:
            break
        if endpoint.parameters.state is not EndpointState.STOPPED and not _cold_wants(endpoint, worker, wanted):
            released += 1
            over = endpoint.keeping > endpoint.parameters.max_workers
            cause = Cause.OVER_CAP if over else Cause.IDLE
            text = _cap_text(endpoint) if over else _cold_text(wanted)
            state.destroy(worker, cause, f"inactive for {state.now - worker.state_since:.1f} s, and {text}")
    # Each release touches the endpoint, which plans the next look at those who are due already.
    due = _scale_down_time(state, endpoint, after=state.now) if not released else None
    if due is not None and (endpoint.scale_down_at is None or due < endpoint.scale_down_at):
        endpoint.scale_down_at = due
        state.timers.set(due, Timer.SCALE_DOWN, endpoint.endpoint_id)


def _is_stand_in(worker: Worker) -> bool:
    return worker.workergroup.spec.fallback_after_s > 0


def _first(table: OrderedDict[int, Worker], most: int) -> list[Worker]:
    return list(islice(table.values(), most))


def _first_and_last(table: OrderedDict[int, Worker]) -> Iterator[Worker]:
    return chain(islice(table.values(), limits.SCALE_DOWN_ROUND), islice(reversed(table.values()), 1))


def _not_needed(endpoint: Endpoint, worker: Worker, wanted: Need) -> bool:
    """Whether the need is still met without this free worker."""
    if endpoint.parameters.state is EndpointState.STOPPED or _over_cap(endpoint):
        return True
    if endpoint.parameters.keeps_last and endpoint.active + endpoint.booting <= 1:
        return False
    share = worker.share
    # A stand-in that is needed stays until another is ready.
    coming_perf = 0.0 if _is_stand_in(worker) else endpoint.booting_perf
    if share is None or _short(endpoint.ready_perf + coming_perf - share.ready_perf, wanted.active_perf):
        return False
    if not wanted.places:
        return True
    return endpoint.unbounded - share.unbounded > 0 or wanted.places <= endpoint.slots - share.slots


def goes_at(state: EngineState, endpoint: Endpoint, worker: Worker) -> float | None:
    """When this free worker may go unless it is needed before; None: what is wanted now keeps it."""
    return _idle_until(state, endpoint, worker) if _not_needed(endpoint, worker, need(endpoint)) else None


def _cold_wants(endpoint: Endpoint, worker: Worker, wanted: Need) -> bool:
    if endpoint.keeping > endpoint.parameters.max_workers:
        return False
    total_perf = endpoint.ready_perf + endpoint.booting_perf + endpoint.inactive_perf - worker.perf_expected
    return _short(total_perf, wanted.cold_perf) or endpoint.staying - 1 < wanted.cold_workers


def _cap_text(endpoint: Endpoint) -> str:
    return f"{endpoint.keeping} workers are over max_workers {endpoint.parameters.max_workers}"


def _cold_text(wanted: Need) -> str:
    return f"cold perf {wanted.cold_perf:g} and cold_workers {wanted.cold_workers} are met without it"


def _release(state: EngineState, endpoint: Endpoint, worker: Worker, wanted: Need) -> None:
    idle_s = state.now - worker.free_since
    if endpoint.parameters.state is EndpointState.STOPPED:
        state.stop(worker, Cause.ENDPOINT_STOPPED, "its endpoint is stopped")
        return
    if _over_cap(endpoint):
        state.destroy(worker, Cause.OVER_CAP, f"free, and {_cap_text(endpoint)}")
        return
    cheaper = fallback.able_instead(state, endpoint, worker.workergroup)
    if cheaper is not None:
        why = f"free, and workergroup {cheaper.spec.workergroup_id}, which is cheaper, can be used again"
        state.destroy(worker, Cause.CHEAPER_ABLE, why)
        return
    if worker.cold_spare:
        cause, why = Cause.COLD_RESERVE, "made to be kept inactive"
    else:
        cause, why = Cause.IDLE, f"free for {idle_s:.1f} s (inactivity_timeout {endpoint.parameters.idle_s:g} s)"
    why += f", and active perf {wanted.active_perf:g} is met without it"
    if _cold_wants(endpoint, worker, wanted):
        kept = f"kept inactive for cold perf {wanted.cold_perf:g}, cold_workers {wanted.cold_workers}"
        state.stop(worker, cause, f"{why}; {kept}")
    else:
        state.destroy(worker, cause, why)
