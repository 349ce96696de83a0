"""A restart: what is to be written down of workers and reservations, and how the next engine takes it over.

`worker_record` and `reservation_record` say what is to be known again; `restored` is given it back. After a restart
nothing is granted to a worker before it has reported, and nothing is created or ended before all had time to report.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Create, Destroy, Start, Stop
from nullworker.core.events import RestoredReservation, RestoredWorker
from nullworker.core.failures import retire
from nullworker.core.reservation import Reservation, Stage
from nullworker.core.timers import Timer
from nullworker.core.worker import ACTIVE, BOOTING, WorkerState

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.events import Restored
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker


def worker_record(state: EngineState, worker_id: int) -> RestoredWorker | None:
    """The worker as it is to be written down; None: there is none, and its record goes."""
    known = state.workers.get(worker_id)
    if known is None:
        return None
    workergroup_id = known.workergroup.spec.workergroup_id
    return RestoredWorker(
        worker_id,
        workergroup_id,
        known.state.value,
        known.url,
        known.perf,
        known.owned,
        known.retire,
        known.report_order.numbers,
        known.report_order.loadtimes_s,
        known.finishes.ends_told,
        known.finishes.ends_expected,
    )


def reservation_record(state: EngineState, request_idx: int) -> RestoredReservation | None:
    """The reservation as it is to be written down; None: there is none that lasts, and its record goes.

    One whose client was never told its number does not last: that client cannot come back under it.
    """
    known = state.reservations.get(request_idx)
    if known is None or not (known.number_known or known.stage is not Stage.WAITING):
        return None
    worker = state.workers.get(known.worker_id)
    return RestoredReservation(
        request_idx,
        known.endpoint_id,
        known.cost,
        known.worker_id,
        known.stage is Stage.SESSION,
        known.replay_timeout_s,
        known.delivery.pending,
        worker.report_order.received if worker is not None else 0,
    )


# ------------------------------------------------------------------------------------------------------- taking it over


def restored(state: EngineState, event: Restored) -> None:
    """Takes over what an engine before this one knew."""
    state.next_worker_id = max(state.next_worker_id, event.next_worker_id)
    state.listening.started(state.now, with_workers=bool(event.workers))
    holding = {reservation.worker_id for reservation in event.reservations}
    for record in event.workers:
        _restore_worker(state, record, holds=record.worker_id in holding)
    for endpoint in state.endpoints.values():
        _order_again(state, endpoint)
    for reservation in event.reservations:
        _restore_reservation(state, reservation)
    for worker in state.workers.values():
        take_back_unsent(state, worker)
    for record in event.workers:
        retiring = state.workers.get(record.worker_id)
        if retiring is not None and record.retire is not None:
            retire(state, retiring, record.retire)
    for endpoint in state.endpoints.values():
        state.mark_dirty(endpoint.endpoint_id)
        state.timers.set(state.listening.quiet_until, Timer.SCALE, endpoint.endpoint_id)
    left = len(event.workers) + len(event.reservations) - len(state.workers) - len(state.reservations)
    state.note(
        "restored",
        Cause.RESTARTED,
        f"{len(state.workers)} workers and {len(state.reservations)} reservations taken over"
        + (f"; {left} that have nowhere to belong to any more were not" if left else ""),
    )


def _restore_worker(state: EngineState, record: RestoredWorker, *, holds: bool) -> None:
    workergroup = state.workergroups.get(record.workergroup_id)
    if workergroup is None or record.worker_id in state.workers:
        return  # no such workergroup any more: its fleet will list the instance as an unknown one
    if record.worker_id < limits.JOINED_IDS_FROM:
        state.next_worker_id = max(state.next_worker_id, record.worker_id + 1)
    restored_as = _RESTORED_AS.get(record.state)
    if restored_as is None:
        return
    if holds and restored_as in _RECORDED_BEFORE_A_GRANT:
        restored_as = WorkerState.READY  # it was granted, so it was ready: its record is older
    worker = state.add_worker(workergroup, record.worker_id, restored_as, owned=record.owned)
    worker.url, worker.perf = record.url, record.perf
    worker.report_order.numbers = record.numbered
    worker.report_order.restored(record.loadtimes_s)
    worker.finishes.restored(record.ends_told, record.ends_expected)
    worker.free_since = state.now
    endpoint = state.endpoint_of(worker)
    if restored_as in ACTIVE:
        worker.trust.restored(state.now)
        endpoint.awaiting_report += 1
        worker.ready_at = state.now
    endpoint.update_sums(worker)


#: States in which a worker holds nothing and from which it can get ready. A grant is written down at once, and what led
#: to it may be lost: a worker that is recorded so, and as granted, was ready.
_RECORDED_BEFORE_A_GRANT = BOOTING | {WorkerState.STOPPING, WorkerState.INACTIVE}

#: How a worker comes back, by the state it was last written down in. One that held something, was on its way out or
#: had failed is asked like the others: its next report tells.
_RESTORED_AS: dict[str, WorkerState] = {
    **{known.value: known for known in WorkerState if known is not WorkerState.GONE},
    WorkerState.HELD.value: WorkerState.READY,
    WorkerState.DRAINING.value: WorkerState.READY,
    WorkerState.ERROR.value: WorkerState.READY,
}


def _order_again(state: EngineState, endpoint: Endpoint) -> None:
    """Repeats the orders that were under way: whether they were carried out is not known, and twice is no harm.

    But for creations where there are more than `max_workers`, which was lowered meanwhile, or of which some came to
    nothing: a creation is written down at once, and that those before it were over may be lost. It is not known which
    of them are there, and to order one again may make it: so all that are not confirmed are given up.
    """
    most = endpoint.parameters.max_workers
    is_over = endpoint.existing > most
    for worker in list(endpoint.workers.values()):
        if is_over and worker.owned and worker.state is WorkerState.ASKED:
            reason = f"the engine was restarted while it was {worker.state.value}, and max_workers is {most}"
            state.destroy(worker, Cause.OVER_CAP, reason)
        elif worker.owned:
            _order_one_again(state, worker)


def _order_one_again(state: EngineState, worker: Worker) -> None:
    worker_id, spec = worker.worker_id, worker.workergroup.spec
    why = (Cause.RESTARTED, f"the engine was restarted while it was {worker.state.value}", state.event_number)
    if worker.state is WorkerState.ASKED:
        state.out.append(Create(worker_id, spec.workergroup_id, *why))
    elif worker.state is WorkerState.STARTING:
        state.out.append(Start(worker_id, *why))
    elif worker.state is WorkerState.STOPPING:
        state.out.append(Stop(worker_id, *why))
    elif worker.state is WorkerState.DESTROYING:
        state.out.append(Destroy(worker_id, spec.fleet, *why))


def take_back_unsent(state: EngineState, worker: Worker) -> None:
    """Of what a worker is to hold and cannot, whose client was sent nowhere waits again.

    A grant is written down before anything that led to it: the one before it on the worker may be there still. And a
    worker may report a session that is not known, beside one for which it is kept.
    """
    for reservation in list(worker.held.values()) if worker.is_overfull else ():
        if reservation.stage is Stage.GRANTED and not reservation.delivery.pending and worker.is_overfull:
            state.requeue(reservation)


def _restore_reservation(state: EngineState, record: RestoredReservation) -> None:
    endpoint = state.endpoints.get(record.endpoint_id)
    if endpoint is None or record.request_idx in state.reservations:
        return
    reservation = Reservation(
        record.request_idx,
        record.endpoint_id,
        record.cost,
        state.now,
        state.now,
        record.replay_timeout_s,
        present=False,
        number_known=True,
    )
    worker = state.workers.get(record.worker_id)
    if record.worker_id and (worker is None or worker.state not in ACTIVE):
        return  # its worker is gone, or was ordered to go after it was released
    if endpoint.deleted and worker is None:
        return  # it can wait for nothing
    state.reservations[record.request_idx] = reservation
    if worker is None:
        reservation.unseen = True
        endpoint.line.add(reservation, state.now)
        state.timers.set(state.now, Timer.WAITER, record.request_idx)
        return
    reservation.delivery.taken_over(sent=record.sent, session=record.confirmed)
    reservation.granted_at = state.now
    reservation.expires_at = state.now + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
    reservation.stage = Stage.SESSION if record.confirmed else Stage.GRANTED
    if not record.confirmed:
        state.timers.set(reservation.expires_at, Timer.GRANT, record.request_idx)
    state.hold(worker, reservation)
    if worker.report_order.loadtime_s > 0:  # else another process, which counts from 0, could not be told from it
        worker.report_order.has_received(record.received)  # a report that counts fewer is of before
