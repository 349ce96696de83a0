"""What fleets say, taken in: that orders were carried out or failed, that instances ended, and what there is in all.

A list is one witness among others: what is missing from it may be too new for it, and a worker that reports is alive
whatever a list says. What bears our mark and is unknown to us is destroyed after a grace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Destroy
from nullworker.core.failures import fail, never_created, why_retired
from nullworker.core.reconcile.unknown_instance import UnknownInstance
from nullworker.core.worker import Worker, WorkerState, WorkerTransition

#: In these it reports, and its reports are the better witness.
_REPORTING = frozenset(
    {WorkerState.LOADING, WorkerState.READY, WorkerState.HELD, WorkerState.DRAINING, WorkerState.ERROR}
)

if TYPE_CHECKING:
    from nullworker.core.events import FleetListed, InstanceFailed
    from nullworker.core.state import EngineState


def created(state: EngineState, worker_id: int) -> None:
    """The instance exists. Its worker may have reported before the fleet's answer came."""
    worker = state.workers.get(worker_id)
    if worker is not None and worker.state is WorkerState.ASKED:
        state.transition(worker, WorkerTransition.CREATED)


def started(state: EngineState, worker_id: int) -> None:
    """The instance runs again: its process is a new one, and counts from 0."""
    worker = state.workers.get(worker_id)
    if worker is not None and worker.state is WorkerState.STARTING:
        worker.order.done()
        worker.order.answered_at = state.now


def stopped(state: EngineState, worker_id: int) -> None:
    """The instance was stopped as ordered."""
    worker = state.workers.get(worker_id)
    if worker is None or worker.state is not WorkerState.STOPPING:
        return
    worker.order.done()
    worker.new_process()
    state.await_no_report(worker)
    state.set_unresponsive(worker, unresponsive=False)  # it is not expected to report, and its next process is another
    state.transition(worker, WorkerTransition.STOPPED)
    if worker.retire is not None:
        state.destroy(worker, worker.retire, why_retired(state, worker))


def gone(state: EngineState, worker_id: int) -> None:
    """The instance is destroyed."""
    for key in [key for key in state.unknown_instances if key[1] == worker_id]:
        del state.unknown_instances[key]
    worker = state.workers.get(worker_id)
    if worker is None:
        return
    if worker.state is WorkerState.DESTROYING:
        state.transition(worker, WorkerTransition.GO)
    else:
        fail(state, worker, Cause.FAILED_GONE, "its instance is gone without an order", dead=True)


def exited(state: EngineState, worker_id: int, detail: str) -> None:
    """The instance ended without an order."""
    worker = state.workers.get(worker_id)
    if worker is None:
        return
    if worker.state is WorkerState.STOPPING:
        return  # the fleet's answer to our order will say the same
    fail(state, worker, Cause.FAILED_EXITED, detail, dead=True)


def failed(state: EngineState, event: InstanceFailed) -> None:
    """The fleet could not carry out an order, or cannot say whether it did."""
    worker = state.workers.get(event.worker_id)
    if worker is None:
        return
    if event.verb == "create" and worker.state is WorkerState.ASKED:
        if event.definite:
            cause = Cause.FAILED_NO_PLACE if event.short else Cause.FAILED_CREATE
            never_created(state, worker, cause, f"it could not be created: {event.detail}")
        else:
            # It may exist: the fleet's list or its report will tell.
            worker.workergroup.last_error, worker.order.answered_at = event.detail, state.now
    elif event.verb == "start" and worker.state is WorkerState.STARTING:
        fail(state, worker, Cause.FAILED_START, f"it could not be started: {event.detail}", dead=True)
    elif (event.verb == "stop" and worker.state is WorkerState.STOPPING) or (
        event.verb == "destroy" and worker.state is WorkerState.DESTROYING
    ):
        order = worker.order
        order.attempts += 1
        order.retry_at = state.now + min(limits.ORDER_RETRY_MAX_S, 2.0 ** min(order.attempts, 10))
        state.note_worker(
            worker,
            "order_failed",
            Cause.ORDER_FAILED,
            f"{event.verb} failed {order.attempts} times, again at once it is due: {event.detail}",
        )
        state.set_timer_for(worker)


def listed(state: EngineState, event: FleetListed) -> None:
    """Compares all that a fleet has with all that we know of."""
    present = dict(event.instances)
    for worker in list(state.workers.values()):
        if worker.owned and worker.workergroup.spec.fleet == event.fleet:
            listed_as = present.get(worker.worker_id)
            if listed_as is None:
                _missing(state, worker, event.asked_at)
            else:
                _present(state, worker, listed_as, event.asked_at)
    _unknown_instances(state, event, present)


def _missing(state: EngineState, worker: Worker, asked_at: float) -> None:
    if worker.state_since >= asked_at - limits.LIST_LAG_S or _lives(worker, asked_at):
        return
    if worker.state is WorkerState.ASKED and not _answered(worker, asked_at):
        return
    if worker.state is WorkerState.DESTROYING:
        state.transition(worker, WorkerTransition.GO)
    elif worker.state is WorkerState.INACTIVE:
        state.destroy(worker, Cause.FAILED_NOT_LISTED, "its fleet does not list it any more")
    else:
        fail(state, worker, Cause.FAILED_NOT_LISTED, "its fleet does not list it any more", dead=True)


def _answered(worker: Worker, asked_at: float) -> bool:
    """Whether the fleet is done with the create or start: while it is at it, its lists say nothing about it."""
    answered_at = worker.order.answered_at
    return answered_at is not None and answered_at < asked_at - limits.LIST_LAG_S


def _lives(worker: Worker, asked_at: float) -> bool:
    """Whether the worker's own reports contradict a list that says otherwise."""
    return worker.state in _REPORTING and worker.trust.lived_at + limits.UNRESPONSIVE_AFTER_S > asked_at


def _present(state: EngineState, worker: Worker, listed_as: str, asked_at: float) -> None:
    if worker.state_since >= asked_at:
        return
    if listed_as == "exited":
        _ended(state, worker, asked_at)
    elif worker.state is WorkerState.ASKED:
        state.transition(worker, WorkerTransition.CREATED)
    elif listed_as == "stopped":
        if worker.state is WorkerState.STOPPING:
            stopped(state, worker.worker_id)
        elif (
            worker.state not in (WorkerState.INACTIVE, WorkerState.DESTROYING)
            and worker.state_since < asked_at - limits.LIST_LAG_S
            and not _lives(worker, asked_at)
            and (worker.state is not WorkerState.STARTING or _answered(worker, asked_at))
        ):
            reason = "its fleet lists it as stopped, without an order"
            fail(state, worker, Cause.FAILED_LISTED_STOPPED, reason, dead=True)
    elif worker.state is WorkerState.INACTIVE and worker.state_since < asked_at - limits.LIST_LAG_S:
        # Stopped, said the fleet, and lists it as running: it is paid for. Start and stop it properly.
        state.transition(worker, WorkerTransition.START)
        reason = "its fleet lists it as running after it was stopped"
        state.stop(worker, Cause.RUNS_THOUGH_STOPPED, reason)


def _ended(state: EngineState, worker: Worker, asked_at: float) -> None:
    """A list shows the worker as ended. It may have reported since; and one list is one witness."""
    if worker.state is WorkerState.STOPPING:
        stopped(state, worker.worker_id)
    elif worker.state in _REPORTING:
        if worker.trust.lived_at >= asked_at:
            return
        if worker.trust.unresponsive:
            reason = "its fleet lists it as ended, and it does not report"
            fail(state, worker, Cause.FAILED_LISTED_ENDED, reason, dead=True)
        else:
            state.set_unresponsive(worker, unresponsive=True)
    elif worker.state is not WorkerState.DESTROYING:
        fail(state, worker, Cause.FAILED_LISTED_ENDED, "its fleet lists it as ended", dead=True)


def _unknown_instances(state: EngineState, event: FleetListed, present: dict[int, str]) -> None:
    for key in [k for k in state.unknown_instances if k[0] == event.fleet and k[1] not in present]:
        del state.unknown_instances[key]
    for worker_id, listed_as in present.items():
        key = (event.fleet, worker_id)
        if worker_id in state.workers:
            state.unknown_instances.pop(key, None)
            continue
        unknown = state.unknown_instances.setdefault(key, UnknownInstance(state.now))
        state.next_worker_id = max(state.next_worker_id, worker_id + 1)  # its number is taken
        age_s = state.now - unknown.since
        if age_s < limits.LIST_LAG_S:
            continue
        if listed_as == "running" and unknown.holds(state.now):
            _keep(state, worker_id, unknown)
            continue
        reason = f"it bears our mark and has been unknown to the engine for {age_s:.0f} s"
        state.out.append(Destroy(worker_id, event.fleet, Cause.UNKNOWN_INSTANCE, reason, state.event_number))


def _keep(state: EngineState, worker_id: int, unknown: UnknownInstance) -> None:
    """What holds something is destroyed when it is released: that we do not know it is our fault, not its holder's."""
    if not unknown.kept:
        unknown.kept = True
        reason = f"worker {worker_id} is unknown to the engine, and is destroyed once it reports that it holds nothing"
        state.note("unknown_instance_kept", Cause.UNKNOWN_INSTANCE, reason, worker_id=worker_id)


def unknown_reported(state: EngineState, worker_id: int, *, holds: bool) -> None:
    """An instance that the engine does not know, but that bears our mark and has our token, reports what it holds."""
    for (_, unknown_id), unknown in state.unknown_instances.items():
        if unknown_id == worker_id:
            unknown.held_at = state.now if holds else None
