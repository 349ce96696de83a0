"""What workers say, taken in: how they are, what they hold, and what they are done with.

A fresh report is the truth about sessions: one that it lists is confirmed or adopted, a confirmed one that it does not
list has ended. A grant is not refuted by a report that does not list it: the client may be on its way. `reconcile` says
which reports are fresh, and which ends belong to which grant.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.failures import fail
from nullworker.core.intake.fleet_events import unknown_reported
from nullworker.core.reconcile.report_order import NOT_USED, ReportAge
from nullworker.core.recovery import take_back_unsent
from nullworker.core.reservation import Reservation, ReservationTransition, Stage
from nullworker.core.routing import answer
from nullworker.core.worker import ACTIVE, BOOTING, Failure, Worker, WorkerState, WorkerTransition

if TYPE_CHECKING:
    from nullworker.core.events import Finished, ReportRefused, RequestsFinished, WorkerReported
    from nullworker.core.reconcile.deliveries import Delivery
    from nullworker.core.state import EngineState

#: In these nothing that it says matters any more.
_NOT_LISTENED_TO = frozenset({WorkerState.STOPPING, WorkerState.INACTIVE, WorkerState.DESTROYING})


def report(state: EngineState, event: WorkerReported) -> None:
    """Takes in a worker's status."""
    worker = state.workers.get(event.worker_id)
    if worker is None:
        unknown_reported(state, event.worker_id, holds=bool(event.request_idxs))
        return
    if worker.state in _NOT_LISTENED_TO:
        return
    order = worker.report_order
    late_reports, numbered_before, loadtime_before = order.late_reports + 1, order.numbers, order.loadtime_s
    serves = worker.state in ACTIVE
    age = order.classify(event, state.now, state.listening, worker.trust.reported_at, serves=serves)
    if age is not ReportAge.FRESH:
        if age is ReportAge.UNPLACED:
            worker.trust.unplaced_at = state.now
        if age in NOT_USED:
            return
        if age is ReportAge.SIGN_OF_LIFE:
            _lives(state, worker, event)
            return
        worker.forget_counts()
        if age is ReportAge.COUNTS_FROM_ZERO:
            reason = f"{late_reports} reports in a row were older than one before: it is a new process"
            state.note_worker(worker, "worker_counts_anew", Cause.NEW_PROCESS, reason)
    state.heard(worker)
    if order.numbers is not numbered_before or order.loadtime_s != loadtime_before:
        state.changed_workers[worker.worker_id] = None
    if event.url and event.url != worker.url:
        worker.url = event.url
        state.changed_workers[worker.worker_id] = None
    if event.perf != worker.perf and math.isfinite(event.perf) and event.perf > 0:
        state.set_perf(worker, min(event.perf, limits.AMOUNT_MAX))
    if event.error:
        worker.failure = Failure(Cause.FAILED_REPORTED, event.error)
        _sessions(state, worker, event)
        fail(state, worker, Cause.FAILED_REPORTED, event.error, dead=False)
    elif not event.ready and not event.request_idxs:
        _sessions(state, worker, event)
        _loading(state, worker)
    else:
        if worker.state in BOOTING or (worker.state is WorkerState.ERROR and not worker.owned):
            _ready(state, worker)
        if worker.trust.unresponsive and worker.trust.is_responsive_by(numbered=bool(event.seq)):
            _responsive(state, worker)
        _sessions(state, worker, event)


def refused(state: EngineState, event: ReportRefused) -> None:
    """A worker lives, and what it says cannot be taken: it gets nothing new, and its silence does not fail it."""
    worker = state.workers.get(event.worker_id)
    if worker is None or worker.state in _NOT_LISTENED_TO:
        return
    worker.trust.refused_at = state.now
    if not worker.trust.refusal:  # said once, until a report is taken
        state.note_worker(worker, "report_refused", Cause.REPORT_REFUSED, event.reason)
    worker.trust.refusal = event.reason


def _lives(state: EngineState, worker: Worker, event: WorkerReported) -> None:
    """The framework's own heartbeat, of a worker that numbers its other reports: it may be up to `RESEND_S` old.

    So it says that the worker lives. If it lists just what is known, and comes that much later than something unknown
    could have begun, it also says that nothing has. A grant that it lists is a session, this one or an earlier one of
    the same client. Otherwise what it lists is not used: a numbered report says it.
    """
    worker.trust.reported_at = state.now
    for request_idx in event.request_idxs:
        held = worker.held.get(request_idx)
        finished = request_idx in worker.finishes.finished_at
        if held is None or held.stage is not Stage.GRANTED:
            continue
        if not held.delivery.is_of_before(event, finished=finished):
            state.confirm(worker, held, may_be_old=True)
            if held.present:
                _answer(state, worker, held)
    sessions = {idx for idx, held in worker.held.items() if held.stage is Stage.SESSION}
    if sessions == set(event.request_idxs):
        _tells(state, worker, numbered=False)
    if not worker.trust.may_hold_unknown:
        _responsive(state, worker)


def _responsive(state: EngineState, worker: Worker) -> None:
    if worker.trust.unresponsive and worker.state is WorkerState.READY:
        worker.free_since = state.now  # what it did meanwhile is not known: its idle time begins again
    state.set_unresponsive(worker, unresponsive=False)


def _loading(state: EngineState, worker: Worker) -> None:
    if worker.state in (WorkerState.ASKED, WorkerState.CREATING):
        state.transition(worker, WorkerTransition.LOADS)
    elif worker.state is WorkerState.READY:
        worker.ready_at = None
        state.transition(worker, WorkerTransition.LOADS)


def _ready(state: EngineState, worker: Worker) -> None:
    booted_s = state.now - worker.state_since
    worker.ready_at = worker.free_since = state.now
    worker.failure = None
    worker.workergroup.got_ready(state.now, worker.order.given_at)
    state.transition(worker, WorkerTransition.GETS_READY)
    if worker.held:  # one that joined by itself, had failed, and is well again
        state.transition(worker, WorkerTransition.TAKEN)
    if worker.cold_spare:
        state.endpoint_of(worker).serves_last(worker)
    reason = f"ready with perf {worker.perf_expected:g}, {booted_s:.1f} s after the last change"
    state.note_worker(worker, "worker_ready", Cause.READY, reason)


# ------------------------------------------------------------------------------------------------------ what it lists


def _sessions(state: EngineState, worker: Worker, event: WorkerReported) -> None:
    if not worker.held and not event.request_idxs:  # what is usual of a free worker
        if worker.trust.may_hold_unknown_until is not None:
            _tells(state, worker, numbered=bool(event.seq))
        return
    listed = dict.fromkeys(event.request_idxs)  # each once, and found at once
    sessions = [held for held in worker.held.values() if held.stage is Stage.SESSION]
    for session in sessions:
        if session.request_idx in listed:
            session.delivery.restored = session.delivery.unlisted = False
            if session.delivery.withheld and session.present:
                _answer(state, worker, session)
        else:
            _not_listed(state, worker, session, numbered=bool(event.seq))
    of_before, left_out = False, 0
    unknown = [request_idx for request_idx in listed if request_idx not in worker.held]
    cost = _cost_of_each(worker, event.load, len(unknown)) if unknown else 0.0
    for request_idx in listed:
        held = worker.held.get(request_idx)
        finished = request_idx in worker.finishes.finished_at
        if held is None:
            made_after = worker.report_order.made_after if event.seq else 0.0
            if worker.finishes.has_just_finished(request_idx, made_after, state.now, state.listening.since):
                of_before = True  # or the same request again: reports that go on listing it will tell
            elif _adopt(state, worker, request_idx, cost):
                take_back_unsent(state, worker)
            else:
                left_out += 1
        elif held.stage is Stage.GRANTED and held.delivery.is_of_before(event, finished=finished):
            of_before = True
        elif held.stage is Stage.GRANTED:
            worker.refusals = 0
            of_before_restart = state.now < state.listening.since + limits.RESEND_S
            state.confirm(worker, held, may_be_old=of_before_restart and held.delivery.is_taken_over)
            if held.present:  # asking again, for it never heard the worker's answer
                _answer(state, worker, held)
    state.saw_sessions(worker, len(listed) - left_out)
    if left_out:
        _left_out(state, worker, left_out)
    if of_before or left_out:
        state.doubt(worker)
        state.await_report(worker)
    else:
        _tells(state, worker, numbered=bool(event.seq))


def _tells(state: EngineState, worker: Worker, *, numbered: bool) -> None:
    """A report contradicts nothing. Those whose sessions it makes certain are answered with them."""
    if state.report_tells(worker, numbered=numbered):
        _responsive(state, worker)
        for session in list(worker.held.values()):
            is_listed = session.stage is Stage.SESSION and not session.delivery.unlisted
            if session.delivery.withheld and session.present and is_listed:
                answer(state, session, Cause.CONFIRMED, "its worker reported the session")


def _answer(state: EngineState, worker: Worker, session: Reservation) -> None:
    """Answers the client with its session; not yet, where the report that lists it may be one of before a restart."""
    if state.is_contested(worker):
        session.delivery.withheld = True
    else:
        answer(state, session, Cause.CONFIRMED, "its worker reported the session")


def _not_listed(state: EngineState, worker: Worker, session: Reservation, *, numbered: bool) -> None:
    if session.delivery.restored:
        # The report may have been made before the session; one without a number may be as old as it is sent again.
        session.delivery.restored = not numbered and state.now < state.listening.since + limits.RESEND_S
        session.delivery.unlisted = True
        state.await_report(worker)
        return
    worker.finishes.remember_finished(session.request_idx, state.now)
    worker.finishes.expect_session(session.request_idx)
    state.changed_workers[worker.worker_id] = None
    _ended(state, worker, session, Cause.NOT_LISTED_BY_WORKER, "its worker lists it no longer")


def _cost_of_each(worker: Worker, load: float, unknown: int) -> float:
    """What each of so many sessions costs, of the load that the worker reports beyond what is known."""
    known_load = min(load, limits.AMOUNT_MAX) if math.isfinite(load) else 0.0
    return max(0.0, known_load - worker.held_cost) / unknown


def _adopt(state: EngineState, worker: Worker, request_idx: int, cost: float) -> bool:
    """A session that our tables do not have on this worker: it is real all the same. ``cost`` is its share of load.

    Returns:
        Whether it was taken over: False where the worker lists more than are taken over from one.
    """
    endpoint = state.endpoint_of(worker)
    known = state.reservations.get(request_idx)
    if known is not None and known.endpoint_id == endpoint.endpoint_id:
        if known.stage is Stage.WAITING:
            endpoint.line.remove(known)
            known.transition(ReservationTransition.CONFIRM)
            state.hold(worker, known)
            if known.present:
                _answer(state, worker, known)
            return True
        if known.stage is Stage.GRANTED and known.delivery.count == 0:
            other = state.workers[known.worker_id]
            state.drop(other, known)
            known.transition(ReservationTransition.CONFIRM)
            state.hold(worker, known)
            return True
    if not worker.adoptions.take(state.now, sum([held.adopted for held in worker.held.values()])):
        return False
    adopted = Reservation(request_idx, endpoint.endpoint_id, cost, state.now, state.now, 0.0, present=False)
    adopted.stage, adopted.adopted = Stage.SESSION, True
    adopted.delivery.orphan = known is not None
    if known is None:
        state.reservations[request_idx] = adopted
    state.hold(worker, adopted)
    reason = "its worker reports it" + (" beside another worker's" if known is not None else "")
    state.note_worker(worker, "session_adopted", Cause.ADOPTED, reason, request_idx=request_idx)
    return True


def _left_out(state: EngineState, worker: Worker, count: int) -> None:
    noted = worker.adoptions.leave_out(count, state.now)
    if noted:
        reason = f"it lists {noted} or more unknown sessions beyond those taken over, and gets nothing new meanwhile"
        state.note_worker(worker, "sessions_left_out", Cause.TOO_MANY_UNKNOWN, reason)


# ------------------------------------------------------------------------------------------------- what it is done with


def finished(state: EngineState, event: RequestsFinished) -> None:
    """Takes in what a worker is done with."""
    worker = state.workers.get(event.worker_id)
    if worker is None:
        return
    new = worker.finishes.new_finishes(event.requests, state.now)
    if new:
        worker.trust.told_end_at = state.now
        state.changed_workers[worker.worker_id] = None
    for request, earlier in new:
        held = worker.held.get(request.request_idx)
        if held is not None and _accounts_for_an_answer(held, request, earlier=earlier):
            held.delivery.accounted += 1
            held.delivery.maybe_earlier = held.delivery.maybe_earlier and request.status == "Rejected"
            _has_received(worker, held.delivery)
    for request, earlier in new:
        held = None if earlier else worker.held.get(request.request_idx)
        if request.status == "Rejected":
            _rejected(state, worker, held)
        else:
            _done(state, worker, held, request)


def _has_received(worker: Worker, delivery: Delivery) -> None:
    """The worker has received all that are accounted for: a report with a lower count is an old one."""
    worker.report_order.has_received(delivery.received_at_least)


def _accounts_for_an_answer(held: Reservation, request: Finished, *, earlier: bool) -> bool:
    """Whether the end is of a request that no report has told of, for certain, since the reservation was granted."""
    refused = request.status == "Rejected"
    if held.delivery.orphan:  # its client was sent there again, and refused as often
        return refused and held.delivery.unaccounted > 0
    if earlier or held.stage is Stage.GRANTED:
        return not earlier
    if refused:  # beside its own session; a message may tell of several such
        return not held.delivery.withheld  # if it is, it was not sent there since: the refusal is of before a restart
    return held.delivery.maybe_earlier


def _done(state: EngineState, worker: Worker, held: Reservation | None, request: Finished) -> None:
    worker.finishes.remember_finished(request.request_idx, state.now)
    if request.status == "Success" and worker.failure is None:  # else it ends because the worker has failed
        worker.proven = True
        worker.workergroup.proven()
    if held is None:
        return
    if held.present:
        state.requeue(held)  # the attempt came to nothing, and its client asks again
    elif not held.delivery.pending:
        if held.stage is Stage.GRANTED and request.status == "Success":
            held.delivery.accounted -= 1
            state.confirm(worker, held)  # it came and went between two reports
        _ended(state, worker, held, Cause.FINISHED, f"its worker reported the end of its session ({request.status})")
    # Else this may be the end of one session, and the client, sent there again, has another: reports tell.


def _ended(state: EngineState, worker: Worker, reservation: Reservation, cause: Cause, reason: str) -> None:
    request_idx = reservation.request_idx
    pending = reservation.delivery.pending
    if reservation.delivery.withheld:
        state.requeue(reservation)  # it was an earlier session: its client still waits
        return
    # Where we were away, what its client made of our last answer may be among what comes in now.
    if pending and state.now < max(reservation.expires_at, state.listening.since + limits.GRANT_REPORT_S):
        state.reopen(worker, reservation)
        return
    state.end(reservation)
    if pending:
        # This report may have been made before its client came to the worker again, and have been long under way.
        state.doubt(worker, used_late=True)
    state.note_worker(worker, "session_ended", cause, reason, request_idx=request_idx)


def _rejected(state: EngineState, worker: Worker, reservation: Reservation | None) -> None:
    """A refusal at k held means that the worker takes k, until it is seen to take more."""
    if reservation is None or reservation.delivery.orphan:
        return
    if reservation.stage is Stage.SESSION:
        _second_refused(state, worker, reservation)
        return
    others = len(worker.held) - 1
    state.note_worker(
        worker,
        "grant_refused",
        Cause.REFUSED_BY_WORKER,
        f"worker {worker.worker_id} refused it while holding {others} others",
        request_idx=reservation.request_idx,
    )
    if others:
        state.set_occupancy(worker, others)
    else:
        worker.refusals += 1
        state.doubt(worker)  # its reports will say what it really holds
    state.requeue(reservation)
    if worker.refusals >= limits.REFUSALS_MAX:
        reason = f"it refused {worker.refusals} reservations in a row while it held none"
        fail(state, worker, Cause.FAILED_REFUSALS, reason, dead=False)


def _second_refused(state: EngineState, worker: Worker, session: Reservation) -> None:
    """A client asked twice, and the worker, which has its session, refused the second: that session stays unused.

    It stays with the worker until the worker ends it; the client gets another worker when it asks again.
    """
    delivery = session.delivery
    if delivery.withheld:
        return  # its client was not sent there since: the refusal is of before a restart
    if delivery.pending:
        worker.finishes.expect(session.request_idx, delivery.unaccounted)
        state.changed_workers[worker.worker_id] = None
        state.may_hold_until(worker, session.expires_at)
    delivery.orphan, session.present = True, False
    state.reservations.pop(session.request_idx, None)
