"""When a worker has failed, when it goes, and what becomes of those whom it served.

Only its own failure, an operator's word or its fleet's ends a worker that holds something. A failure that leaves the
instance running (an error message, silence) lets a session run on: its job may be well, and only the holder knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Destroy, Stop
from nullworker.core.reservation import Stage
from nullworker.core.timers import Timer
from nullworker.core.worker import Worker, WorkerState, WorkerTransition

if TYPE_CHECKING:
    from nullworker.core.endpoint import Workergroup
    from nullworker.core.state import EngineState


def fail(state: EngineState, worker: Worker, reason: str, *, dead: bool) -> None:
    """The worker has failed; ``dead`` when its process certainly runs no more."""
    before = worker.state
    if before in (WorkerState.DESTROYING, WorkerState.GONE, WorkerState.INACTIVE):
        return
    endpoint_id = worker.workergroup.spec.endpoint_id
    if before is not WorkerState.ERROR:
        state.note(
            "worker_failed", f"{reason} (while {before.value})", endpoint_id=endpoint_id, worker_id=worker.worker_id
        )
        _blame(state, worker, reason)
        worker.error = reason
        state.transition(worker, WorkerTransition.FAIL)
    _drop_all(state, worker, reason, dead=dead)
    if dead:
        worker.may_hold_unknown_until = None
    if not worker.held and not worker.may_hold_unknown and (worker.owned or dead):
        state.destroy(worker, f"failed: {reason}")


def never_created(state: EngineState, worker: Worker, reason: str) -> None:
    """The worker was certainly not created: it has failed, and there is nothing to destroy."""
    state.note(
        "worker_failed",
        f"{reason} (while {worker.state.value})",
        endpoint_id=worker.workergroup.spec.endpoint_id,
        worker_id=worker.worker_id,
    )
    _blame(state, worker, reason)
    state.transition(worker, WorkerTransition.GO)


def _drop_all(state: EngineState, worker: Worker, reason: str, *, dead: bool) -> None:
    """Frees those whom the worker held: all of them if it is ``dead``, else those who are still asking."""
    for reservation in list(worker.held.values()):
        asks = reservation.deliveries == 0 or reservation.present  # was not told yet, or did not get through
        if reservation.stage is Stage.GRANTED and (dead or asks):
            state.requeue(reservation)
            continue
        if not dead:
            continue
        request_idx = reservation.request_idx
        state.end(reservation)
        state.note(
            "session_lost",
            f"its worker failed: {reason}",
            endpoint_id=worker.workergroup.spec.endpoint_id,
            worker_id=worker.worker_id,
            request_idx=request_idx,
        )


def _blame(state: EngineState, worker: Worker, reason: str) -> None:
    """Counts a failure against the workergroup, unless the worker had proven itself."""
    workergroup = worker.workergroup
    workergroup.last_error = reason
    workergroup.ready_since = None
    if worker.proven or (worker.ready_at is not None and state.now - worker.ready_at >= limits.PROVEN_AFTER_S):
        return
    if worker.order_at > workergroup.failed_at:  # else it was ordered together with the one that failed before it
        back_off(state, workergroup)


def back_off(state: EngineState, workergroup: Workergroup) -> None:
    """One more failure: the next attempt is put off, for twice as long as before."""
    workergroup.failures += 1
    workergroup.failed_at = state.now
    pause_s = min(limits.BACKOFF_MAX_S, 2.0 ** min(workergroup.failures - 1, 30))
    workergroup.next_try_at = state.now + pause_s
    state.timers.set(workergroup.next_try_at, Timer.SCALE, workergroup.spec.endpoint_id)
    state.note(
        "workergroup_backs_off",
        f"workergroup {workergroup.spec.workergroup_id} failed {workergroup.failures} times in a row, next try "
        f"in {pause_s:g} s: {workergroup.last_error}",
        endpoint_id=workergroup.spec.endpoint_id,
    )


def released(state: EngineState, worker: Worker) -> None:
    """The worker holds nothing now: one that was only waiting for that goes."""
    if worker.held or worker.may_hold_unknown:
        return
    if worker.state is WorkerState.ERROR:
        if worker.owned:
            state.destroy(worker, f"failed, and released now: {worker.error}")
    elif worker.retire and worker.state in (WorkerState.READY, WorkerState.DRAINING):
        if worker.owned:
            state.destroy(worker, f"free now, and {worker.retire}")
        elif state.endpoint_of(worker).deleted or worker.workergroup.deleted:
            state.destroy(worker, worker.retire)


def retire(state: EngineState, worker: Worker, reason: str, *, force: bool = False) -> None:
    """The worker goes when it is free (``force``: now, whatever it holds)."""
    if worker.state in (WorkerState.DESTROYING, WorkerState.GONE):
        return
    state.set_retire(worker, reason)
    if force:
        _drop_all(state, worker, reason, dead=True)
        worker.may_hold_unknown_until = None
        state.destroy(worker, reason)
    elif worker.held:
        if worker.state is WorkerState.HELD:
            state.transition(worker, WorkerTransition.DRAIN)
    elif (
        worker.state is not WorkerState.STOPPING
        and not worker.may_hold_unknown
        and (worker.owned or worker.workergroup.deleted or state.endpoint_of(worker).deleted)
    ):
        state.destroy(worker, reason)


def stop(state: EngineState, worker: Worker, reason: str) -> None:
    """Orders the worker to stop, so that it can be started again. It must hold nothing."""
    worker.attempts, worker.retry_at, worker.order_at = 0, None, state.now
    worker.ready_at = None
    state.transition(worker, WorkerTransition.STOP)
    state.out.append(Stop(worker.worker_id, reason, state.cause))


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
    if lasting in (WorkerState.STOPPING, WorkerState.DESTROYING):
        _order_again(state, worker)
    elif lasting is WorkerState.ASKED:
        fail(state, worker, f"its fleet did not confirm the creation for {limits.CREATE_UNKNOWN_S:g} s", dead=True)
    elif lasting in (WorkerState.CREATING, WorkerState.STARTING) or (
        lasting is WorkerState.LOADING and state.now - worker.state_since >= worker.workergroup.spec.boot_timeout_s
    ):
        limit_s = worker.workergroup.spec.boot_timeout_s
        fail(state, worker, f"it did not become ready within {limit_s:g} s", dead=False)
    elif not worker.unresponsive:
        state.set_unresponsive(worker, unresponsive=True)
    else:
        silent_s = state.now - max(worker.reported_at, state.listening_since)
        if (worker.held or worker.may_hold_unknown) and silent_s >= limits.SILENCE_FAILS_HELD_S:
            fail(state, worker, f"no report for {silent_s:.0f} s, while held", dead=True)
        elif not worker.held and not worker.may_hold_unknown:
            fail(state, worker, f"no report for {silent_s:.0f} s", dead=not worker.owned)


def _order_again(state: EngineState, worker: Worker) -> None:
    worker.retry_at, worker.order_at = None, state.now
    reason = f"ordered {worker.attempts + 1} times before, and not done yet"
    if worker.state is WorkerState.STOPPING and worker.attempts < limits.STOP_ATTEMPTS_MAX:
        state.out.append(Stop(worker.worker_id, reason, state.cause))
        return
    if worker.state is WorkerState.STOPPING:
        state.destroy(worker, f"it could not be stopped in {worker.attempts} attempts")
        return
    state.out.append(Destroy(worker.worker_id, worker.workergroup.spec.fleet, reason, state.cause))
