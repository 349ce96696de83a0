"""When a worker has failed, when it goes, and what becomes of those whom it served.

Only its own failure, an operator's word or its fleet's ends a worker that holds something. A failure that leaves the
instance running (an error message, silence) lets a session run on: its job may be well, and only the holder knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Destroy, Stop
from nullworker.core.reservations import Stage
from nullworker.core.timers import Timer
from nullworker.core.workers import State, Turn, Worker

if TYPE_CHECKING:
    from nullworker.core.ledger import Ledger
    from nullworker.core.pool import Group


def fail(ledger: Ledger, worker: Worker, reason: str, *, dead: bool) -> None:
    """The worker has failed; ``dead`` when its process certainly runs no more."""
    state = worker.state
    if state in (State.DESTROYING, State.GONE, State.INACTIVE):
        return
    endpoint_id = worker.group.spec.endpoint_id
    if state is not State.ERROR:
        ledger.note(
            "worker_failed", f"{reason} (while {state.value})", endpoint_id=endpoint_id, worker_id=worker.worker_id
        )
        _blame(ledger, worker, reason)
        worker.error = reason
        ledger.turn(worker, Turn.FAIL)
    _drop_all(ledger, worker, reason, dead=dead)
    if dead:
        worker.doubt_until = None
    if not worker.held and not worker.doubt and (worker.owned or dead):
        ledger.destroy(worker, f"failed: {reason}")


def never_was(ledger: Ledger, worker: Worker, reason: str) -> None:
    """The worker was certainly not created: it has failed, and there is nothing to destroy."""
    ledger.note(
        "worker_failed",
        f"{reason} (while {worker.state.value})",
        endpoint_id=worker.group.spec.endpoint_id,
        worker_id=worker.worker_id,
    )
    _blame(ledger, worker, reason)
    ledger.turn(worker, Turn.GO)


def _drop_all(ledger: Ledger, worker: Worker, reason: str, *, dead: bool) -> None:
    """Frees those whom the worker held: all of them if it is ``dead``, else those who are still asking."""
    for reservation in list(worker.held.values()):
        asks = reservation.answers == 0 or reservation.present  # was not told yet, or did not get through
        if reservation.stage is Stage.GRANTED and (dead or asks):
            ledger.requeue(reservation)
            continue
        if not dead:
            continue
        request_idx = reservation.request_idx
        ledger.end(reservation)
        ledger.note(
            "session_lost",
            f"its worker failed: {reason}",
            endpoint_id=worker.group.spec.endpoint_id,
            worker_id=worker.worker_id,
            request_idx=request_idx,
        )


def _blame(ledger: Ledger, worker: Worker, reason: str) -> None:
    """Counts a failure against the workergroup, unless the worker had proven itself."""
    group = worker.group
    group.last_error = reason
    group.ready_since = None
    if worker.proven or (worker.ready_at is not None and ledger.now - worker.ready_at >= limits.PROVEN_AFTER_S):
        return
    if worker.order_at > group.failed_at:  # else it was ordered together with the one that failed before it
        back_off(ledger, group)


def back_off(ledger: Ledger, group: Group) -> None:
    """One more failure: the next attempt is put off, for twice as long as before."""
    group.failures += 1
    group.failed_at = ledger.now
    pause_s = min(limits.BACKOFF_MAX_S, 2.0 ** min(group.failures - 1, 30))
    group.next_try_at = ledger.now + pause_s
    ledger.timers.set(group.next_try_at, Timer.SCALE, group.spec.endpoint_id)
    ledger.note(
        "workergroup_backs_off",
        f"workergroup {group.spec.workergroup_id} failed {group.failures} times in a row, next try in {pause_s:g} s: "
        f"{group.last_error}",
        endpoint_id=group.spec.endpoint_id,
    )


def released(ledger: Ledger, worker: Worker) -> None:
    """The worker holds nothing now: one that was only waiting for that goes."""
    if worker.held or worker.doubt:
        return
    if worker.state is State.ERROR:
        if worker.owned:
            ledger.destroy(worker, f"failed, and released now: {worker.error}")
    elif worker.retire and worker.state in (State.READY, State.DRAINING):
        if worker.owned:
            ledger.destroy(worker, f"free now, and {worker.retire}")
        elif ledger.pool_of(worker).deleted or worker.group.deleted:
            ledger.destroy(worker, worker.retire)


def retire(ledger: Ledger, worker: Worker, reason: str, *, force: bool = False) -> None:
    """The worker goes when it is free (``force``: now, whatever it holds)."""
    if worker.state in (State.DESTROYING, State.GONE):
        return
    ledger.set_retire(worker, reason)
    if force:
        _drop_all(ledger, worker, reason, dead=True)
        worker.doubt_until = None
        ledger.destroy(worker, reason)
    elif worker.held:
        if worker.state is State.HELD:
            ledger.turn(worker, Turn.DRAIN)
    elif (
        worker.state is not State.STOPPING
        and not worker.doubt
        and (worker.owned or worker.group.deleted or ledger.pool_of(worker).deleted)
    ):
        ledger.destroy(worker, reason)


def stop(ledger: Ledger, worker: Worker, reason: str) -> None:
    """Orders the worker to stop, so that it can be started again. It must hold nothing."""
    worker.attempts, worker.retry_at, worker.order_at = 0, None, ledger.now
    worker.ready_at = None
    ledger.turn(worker, Turn.STOP)
    ledger.out.append(Stop(worker.worker_id, reason, ledger.cause))


def worker_due(ledger: Ledger, worker_id: int) -> None:
    """Looks at a worker whose state has lasted for as long as it may."""
    worker = ledger.workers.get(worker_id)
    if worker is None or worker.timer_at is None or worker.timer_at > ledger.now:
        return  # an older reminder: another is set
    worker.timer_at = None
    due = ledger.due(worker)
    if due is not None and due <= ledger.now:
        _overdue(ledger, worker)
    if worker_id in ledger.workers:
        ledger.watch(worker)


def _overdue(ledger: Ledger, worker: Worker) -> None:
    state = worker.state
    if state in (State.STOPPING, State.DESTROYING):
        _order_again(ledger, worker)
    elif state is State.ASKED:
        fail(ledger, worker, f"its fleet did not confirm the creation for {limits.CREATE_UNKNOWN_S:g} s", dead=True)
    elif state in (State.CREATING, State.STARTING) or (
        state is State.LOADING and ledger.now - worker.state_since >= worker.group.spec.boot_timeout_s
    ):
        limit_s = worker.group.spec.boot_timeout_s
        fail(ledger, worker, f"it did not become ready within {limit_s:g} s", dead=False)
    elif not worker.suspect:
        ledger.set_suspect(worker, suspect=True)
    else:
        silent_s = ledger.now - max(worker.reported_at, ledger.listening_since)
        if (worker.held or worker.doubt) and silent_s >= limits.SILENCE_FAILS_HELD_S:
            fail(ledger, worker, f"no report for {silent_s:.0f} s, while held", dead=True)
        elif not worker.held and not worker.doubt:
            fail(ledger, worker, f"no report for {silent_s:.0f} s", dead=not worker.owned)


def _order_again(ledger: Ledger, worker: Worker) -> None:
    worker.retry_at, worker.order_at = None, ledger.now
    reason = f"ordered {worker.attempts + 1} times before, and not done yet"
    if worker.state is State.STOPPING and worker.attempts < limits.STOP_ATTEMPTS_MAX:
        ledger.out.append(Stop(worker.worker_id, reason, ledger.cause))
        return
    if worker.state is State.STOPPING:
        ledger.destroy(worker, f"it could not be stopped in {worker.attempts} attempts")
        return
    ledger.out.append(Destroy(worker.worker_id, worker.group.spec.fleet, reason, ledger.cause))
