"""What fleets say, taken in: that orders were carried out or failed, that instances ended, and what there is in all.

A list is one witness among others: what is missing from it may be too new for it, and a worker that reports is alive
whatever a list says. What bears our mark and is unknown to us is destroyed after a grace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Destroy
from nullworker.core.verdicts import fail, never_was, stop
from nullworker.core.workers import State, Turn, Worker

#: In these it reports, and its reports are the better witness.
_REPORTING = frozenset({State.LOADING, State.READY, State.HELD, State.DRAINING, State.ERROR})

if TYPE_CHECKING:
    from nullworker.core.events import FleetListed, InstanceFailed
    from nullworker.core.ledger import Ledger


def created(ledger: Ledger, worker_id: int) -> None:
    """The instance exists. Its worker may have reported before the fleet's answer came."""
    worker = ledger.workers.get(worker_id)
    if worker is not None and worker.state is State.ASKED:
        ledger.turn(worker, Turn.CREATED)


def started(ledger: Ledger, worker_id: int) -> None:
    """The instance runs again: its process is a new one, and counts anew."""
    worker = ledger.workers.get(worker_id)
    if worker is not None and worker.state is State.STARTING:
        worker.attempts, worker.retry_at, worker.answered_at = 0, None, ledger.now


def stopped(ledger: Ledger, worker_id: int) -> None:
    """The instance was stopped as ordered."""
    worker = ledger.workers.get(worker_id)
    if worker is None or worker.state is not State.STOPPING:
        return
    worker.attempts, worker.retry_at = 0, None
    worker.new_process()
    ledger.set_suspect(worker, suspect=False)  # nobody expects to hear of it, and the next process is another
    ledger.turn(worker, Turn.STOPPED)
    if worker.retire:
        ledger.destroy(worker, worker.retire)


def gone(ledger: Ledger, worker_id: int) -> None:
    """The instance is destroyed."""
    for key in [key for key in ledger.strangers if key[1] == worker_id]:
        del ledger.strangers[key]
    worker = ledger.workers.get(worker_id)
    if worker is None:
        return
    if worker.state is State.DESTROYING:
        ledger.turn(worker, Turn.GO)
    else:
        fail(ledger, worker, "its instance is gone, and nobody here ordered that", dead=True)


def exited(ledger: Ledger, worker_id: int, detail: str) -> None:
    """The instance ended by itself or by somebody else's hand."""
    worker = ledger.workers.get(worker_id)
    if worker is None:
        return
    if worker.state is State.STOPPING:
        return  # the fleet's answer to our order will say the same
    fail(ledger, worker, detail, dead=True)


def failed(ledger: Ledger, event: InstanceFailed) -> None:
    """The fleet could not carry out an order, or cannot say whether it did."""
    worker = ledger.workers.get(event.worker_id)
    if worker is None:
        return
    if event.verb == "create" and worker.state is State.ASKED:
        if event.definite:
            never_was(ledger, worker, f"it could not be created: {event.detail}")
        else:
            # It may exist: the fleet's list or its report will tell.
            worker.group.last_error, worker.answered_at = event.detail, ledger.now
    elif event.verb == "start" and worker.state is State.STARTING:
        fail(ledger, worker, f"it could not be started: {event.detail}", dead=True)
    elif (event.verb == "stop" and worker.state is State.STOPPING) or (
        event.verb == "destroy" and worker.state is State.DESTROYING
    ):
        worker.attempts += 1
        worker.retry_at = ledger.now + min(limits.ORDER_RETRY_MAX_S, 2.0 ** min(worker.attempts, 10))
        ledger.note(
            "order_failed",
            f"{event.verb} failed {worker.attempts} times, again at once it is due: {event.detail}",
            endpoint_id=worker.group.spec.endpoint_id,
            worker_id=worker.worker_id,
        )
        ledger.watch(worker)


def listed(ledger: Ledger, event: FleetListed) -> None:
    """Compares all that a fleet has with all that we know of."""
    present = dict(event.instances)
    for worker in list(ledger.workers.values()):
        if worker.owned and worker.group.spec.fleet == event.fleet:
            state = present.get(worker.worker_id)
            if state is None:
                _missing(ledger, worker, event.asked_at)
            else:
                _present(ledger, worker, state, event.asked_at)
    _strangers(ledger, event, present)


def _missing(ledger: Ledger, worker: Worker, asked_at: float) -> None:
    if worker.state_since >= asked_at - limits.LIST_LAG_S or _lives(worker, asked_at):
        return
    if worker.state is State.ASKED and not _answered(worker, asked_at):
        return
    if worker.state is State.DESTROYING:
        ledger.turn(worker, Turn.GO)
    elif worker.state is State.INACTIVE:
        ledger.destroy(worker, "its fleet does not list it any more")
    else:
        fail(ledger, worker, "its fleet does not list it any more", dead=True)


def _answered(worker: Worker, asked_at: float) -> bool:
    """Whether the fleet is done with the create or start: while it is at it, its lists say nothing about it."""
    return worker.answered_at is not None and worker.answered_at < asked_at - limits.LIST_LAG_S


def _lives(worker: Worker, asked_at: float) -> bool:
    """Whether the worker's own reports contradict a list that says otherwise."""
    return worker.state in _REPORTING and worker.reported_at + limits.SUSPECT_AFTER_S > asked_at


def _present(ledger: Ledger, worker: Worker, state: str, asked_at: float) -> None:
    if worker.state_since >= asked_at:
        return
    if state == "exited":
        _ended(ledger, worker, asked_at)
    elif worker.state is State.ASKED:
        ledger.turn(worker, Turn.CREATED)
    elif state == "stopped":
        if worker.state is State.STOPPING:
            stopped(ledger, worker.worker_id)
        elif (
            worker.state not in (State.INACTIVE, State.DESTROYING)
            and worker.state_since < asked_at - limits.LIST_LAG_S
            and not _lives(worker, asked_at)
            and (worker.state is not State.STARTING or _answered(worker, asked_at))
        ):
            fail(ledger, worker, "its fleet lists it as stopped, and nobody here ordered that", dead=True)
    elif worker.state is State.INACTIVE and worker.state_since < asked_at - limits.LIST_LAG_S:
        # Stopped, said the fleet, and lists it as running: it is paid for. Start and stop it properly.
        ledger.turn(worker, Turn.START)
        stop(ledger, worker, "its fleet lists it as running after it was stopped")


def _ended(ledger: Ledger, worker: Worker, asked_at: float) -> None:
    """A list shows the worker as ended. It may have reported since; and one list is one witness."""
    if worker.state is State.STOPPING:
        stopped(ledger, worker.worker_id)
    elif worker.state in _REPORTING:
        if worker.reported_at >= asked_at:
            return
        if worker.suspect:
            fail(ledger, worker, "its fleet lists it as ended, and it does not report", dead=True)
        else:
            ledger.set_suspect(worker, suspect=True)
    elif worker.state is not State.DESTROYING:
        fail(ledger, worker, "its fleet lists it as ended", dead=True)


def _strangers(ledger: Ledger, event: FleetListed, present: dict[int, str]) -> None:
    for key in [k for k in ledger.strangers if k[0] == event.fleet and k[1] not in present]:
        del ledger.strangers[key]
    for worker_id in present:
        key = (event.fleet, worker_id)
        if worker_id in ledger.workers:
            ledger.strangers.pop(key, None)
            continue
        since = ledger.strangers.setdefault(key, ledger.now)
        ledger.next_worker_id = max(ledger.next_worker_id, worker_id + 1)  # its number is taken
        age_s = ledger.now - since
        if age_s >= limits.LIST_LAG_S:
            reason = f"it bears our mark, and nobody here knows it, for {age_s:.0f} s"
            ledger.out.append(Destroy(worker_id, event.fleet, reason, ledger.cause))
