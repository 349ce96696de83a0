"""When a worker has failed, when it goes, and what becomes of what it held.

Only its own failure, an operator or its fleet ends a worker that holds something. A failure that leaves the instance
running (an error message, silence) lets a session run on: its job may be well, and only the holder knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import fallback, limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Destroy, Stop
from nullworker.core.reservation import Stage
from nullworker.core.timers import Timer
from nullworker.core.worker import Failure, Worker, WorkerState, WorkerTransition

if TYPE_CHECKING:
    from nullworker.core.state import EngineState
    from nullworker.core.workergroup import Workergroup


#: In these a worker that is to go, and that may hold something, is waited for.
_RELEASED_FROM = frozenset({WorkerState.LOADING, WorkerState.READY, WorkerState.DRAINING})


def fail(state: EngineState, worker: Worker, cause: Cause, reason: str, *, dead: bool) -> None:
    """The worker has failed.

    Args:
        state: the engine's state.
        worker: the worker.
        cause: how it failed.
        reason: the same as a sentence.
        dead: whether its process certainly runs no more.
    """
    before = worker.state
    if before in (WorkerState.DESTROYING, WorkerState.GONE, WorkerState.INACTIVE):
        return
    if before is not WorkerState.ERROR:
        state.note_worker(worker, "worker_failed", cause, f"{reason} (while {before.value})")
        _blame(state, worker, cause, reason)
        worker.failure = Failure(cause, reason)
        state.transition(worker, WorkerTransition.FAIL)
    _drop_all(state, worker, cause, reason, dead=dead)
    if dead:
        worker.trust.holds_nothing_unknown()
    if worker.endable and (worker.owned or dead):
        state.destroy(worker, cause, f"failed: {reason}")


def never_created(state: EngineState, worker: Worker, cause: Cause, reason: str) -> None:
    """The worker was certainly not created: it has failed, and there is nothing to destroy."""
    state.note_worker(worker, "worker_failed", cause, f"{reason} (while {worker.state.value})")
    _blame(state, worker, cause, reason)
    state.transition(worker, WorkerTransition.GO)


def _drop_all(state: EngineState, worker: Worker, cause: Cause, reason: str, *, dead: bool) -> None:
    """Takes from the worker what it held: everything if it is ``dead``, else grants whose clients still ask."""
    for reservation in list(worker.held.values()):
        asks = reservation.delivery.count == 0 or reservation.present  # was not answered yet, or did not get through
        waits = reservation.stage is Stage.GRANTED or reservation.delivery.withheld
        if waits and (dead or asks):
            state.requeue(reservation)
            continue
        if not dead:
            continue
        request_idx = reservation.request_idx
        state.end(reservation)
        state.note_worker(worker, "session_lost", cause, f"its worker failed: {reason}", request_idx=request_idx)


def _blame(state: EngineState, worker: Worker, cause: Cause, reason: str) -> None:
    """Counts a failure against the workergroup, unless the worker had proven itself."""
    workergroup = worker.workergroup
    workergroup.failed(reason, short=cause is Cause.FAILED_NO_PLACE)
    if worker.proven or (worker.ready_at is not None and state.now - worker.ready_at >= limits.PROVEN_AFTER_S):
        return
    if worker.order.given_at > workergroup.failed_at:  # else it was ordered together with the one that failed before it
        _back_off(state, workergroup, cause)


def _back_off(state: EngineState, workergroup: Workergroup, cause: Cause) -> None:
    pause_s = workergroup.backs_off(state.now)
    spec = workergroup.spec
    state.timers.set(workergroup.next_try_at, Timer.SCALE, spec.endpoint_id)
    fallback.plan(state, state.endpoints[spec.endpoint_id])
    state.note(
        "workergroup_backs_off",
        cause,
        f"workergroup {spec.workergroup_id} failed {workergroup.failures} times in a row, next try in {pause_s:g} s: "
        f"{workergroup.last_error}",
        endpoint_id=spec.endpoint_id,
    )


def released(state: EngineState, worker: Worker) -> None:
    """The worker holds nothing now: one that was only waiting for that goes."""
    if not worker.endable:
        return
    if worker.state is WorkerState.ERROR:
        if worker.owned and worker.failure is not None:
            state.destroy(worker, worker.failure.cause, f"failed, and released now: {worker.failure.reason}")
    elif worker.retire is not None and worker.state in _RELEASED_FROM:
        if worker.owned:
            state.destroy(worker, worker.retire, f"free now, and {why_retired(state, worker)}")
        elif _has_nowhere_to_belong(state, worker):
            state.destroy(worker, worker.retire, why_retired(state, worker))


def retire(state: EngineState, worker: Worker, cause: Cause, *, force: bool = False) -> None:
    """The worker goes when it is free.

    Args:
        state: the engine's state.
        worker: the worker.
        cause: why; one of those that `why_retired` has a sentence for.
        force: it goes now, whatever it holds.
    """
    if worker.state in (WorkerState.DESTROYING, WorkerState.GONE):
        return
    state.set_retire(worker, cause)
    if force:
        reason = why_retired(state, worker)
        _drop_all(state, worker, cause, reason, dead=True)
        worker.trust.holds_nothing_unknown()
        state.destroy(worker, cause, reason)
    elif worker.held:
        if worker.state is WorkerState.HELD:
            state.transition(worker, WorkerTransition.DRAIN)
    elif (
        worker.state is not WorkerState.STOPPING
        and worker.endable
        and (worker.owned or _has_nowhere_to_belong(state, worker))
    ):
        state.destroy(worker, cause, why_retired(state, worker))


def _has_nowhere_to_belong(state: EngineState, worker: Worker) -> bool:
    return worker.workergroup.deleted or state.endpoint_of(worker).deleted


def why_retired(state: EngineState, worker: Worker) -> str:
    """The sentence for why the worker goes when it is free ("": it stays)."""
    if worker.retire is Cause.UPDATED:
        return "its workergroup is updated"
    if worker.retire is Cause.WORKERGROUP_DELETED:
        return f"workergroup {worker.workergroup.spec.workergroup_id} is deleted"
    if worker.retire is Cause.ENDPOINT_DELETED:
        return f"endpoint {state.endpoint_of(worker).name} is deleted"
    return "" if worker.retire is None else worker.retire.value


def worker_due(state: EngineState, worker_id: int) -> None:
    """Looks at a worker whose state has lasted for as long as it may."""
    worker = state.workers.get(worker_id)
    if worker is None or worker.timer_at is None or worker.timer_at > state.now:
        return  # an older reminder: another is set
    worker.timer_at = None
    due = state.due(worker)
    if due is not None and due <= state.now:
        _overdue(state, worker)
    if worker_id in state.workers:
        state.set_timer_for(worker)


def _overdue(state: EngineState, worker: Worker) -> None:
    lasting = worker.state
    limit_s = worker.workergroup.spec.boot_timeout_s
    if lasting in (WorkerState.STOPPING, WorkerState.DESTROYING):
        _order_again(state, worker)
    elif lasting is WorkerState.ASKED:
        reason = f"its fleet did not confirm the creation for {limits.CREATE_UNKNOWN_S:g} s"
        fail(state, worker, Cause.FAILED_CREATE_UNKNOWN, reason, dead=True)
    elif lasting in (WorkerState.CREATING, WorkerState.STARTING) or (
        lasting is WorkerState.LOADING and state.now - worker.state_since >= limit_s
    ):
        fail(state, worker, Cause.FAILED_BOOT, f"it did not become ready within {limit_s:g} s", dead=False)
    elif not worker.trust.unresponsive:
        state.set_unresponsive(worker, unresponsive=True)
    else:
        silent_s = state.now - worker.trust.silent_since(state.listening)
        if worker.endable:
            fail(state, worker, Cause.FAILED_SILENT, f"no report for {silent_s:.0f} s", dead=not worker.owned)
        elif silent_s >= limits.SILENCE_FAILS_HELD_S:
            fail(state, worker, Cause.FAILED_SILENT, f"no report for {silent_s:.0f} s, while held", dead=True)


def _order_again(state: EngineState, worker: Worker) -> None:
    order = worker.order
    order.retry_at, order.given_at = None, state.now
    reason = f"ordered {order.attempts + 1} times before, and not done yet"
    if worker.state is WorkerState.STOPPING and order.attempts < limits.STOP_ATTEMPTS_MAX:
        state.out.append(Stop(worker.worker_id, Cause.ORDER_NOT_CONFIRMED, reason, state.event_number))
        return
    if worker.state is WorkerState.STOPPING:
        state.destroy(worker, Cause.STOP_FAILED, f"it could not be stopped in {order.attempts} attempts")
        return
    fleet = worker.workergroup.spec.fleet
    state.out.append(Destroy(worker.worker_id, fleet, Cause.ORDER_NOT_CONFIRMED, reason, state.event_number))
