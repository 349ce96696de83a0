"""What workers say, taken in: reports may be lost, repeated, late or out of order, and the state never moves backwards.

A fresh report is the truth about sessions: one that it lists is confirmed or adopted, a confirmed one that it does not
list has ended. A grant is not refuted by a report that does not list it: the client may be on its way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from nullworker.core import limits
from nullworker.core.failures import fail
from nullworker.core.reservation import Reservation, ReservationTransition, Stage
from nullworker.core.routing import answer
from nullworker.core.worker import BOOTING, Worker, WorkerState, WorkerTransition

if TYPE_CHECKING:
    from nullworker.core.events import Finished, RequestsFinished, WorkerReported
    from nullworker.core.state import EngineState

_K = TypeVar("_K")

_DEAF = frozenset({WorkerState.STOPPING, WorkerState.INACTIVE, WorkerState.DESTROYING})


def report(state: EngineState, event: WorkerReported) -> None:
    """Takes in a worker's status."""
    worker = state.workers.get(event.worker_id)
    if worker is None or worker.state in _DEAF or _is_late(state, worker, event):
        return
    worker.received, worker.late_reports = event.received, 0
    if event.seq:
        worker.seq = event.seq
    elif event.loadtime_s > 0:
        worker.loadtime_s = event.loadtime_s
    state.heard(worker)
    if event.url and event.url != worker.url:
        worker.url = event.url
        state.changed_workers[worker.worker_id] = None
    if math.isfinite(event.perf) and event.perf > 0:
        state.set_perf(worker, min(event.perf, limits.AMOUNT_MAX))
    if event.error:
        worker.error = event.error
        _sessions(state, worker, event)
        fail(state, worker, event.error, dead=False)
        return
    if not event.ready and not event.request_idxs:
        _sessions(state, worker, event)
        _loading(state, worker)
        return
    if worker.state in BOOTING or (worker.state is WorkerState.ERROR and not worker.owned):
        _ready(state, worker)
    if worker.unresponsive and worker.state is WorkerState.READY:
        worker.free_since = state.now  # what it did while we did not know is not known: its idle clock begins anew
    state.set_unresponsive(worker, unresponsive=False)
    _sessions(state, worker, event)


def _is_late(state: EngineState, worker: Worker, event: WorkerReported) -> bool:
    if event.seq and event.seq == worker.seq:
        return True  # the same again
    if not (event.seq < worker.seq if event.seq and worker.seq else _was_made_before(worker, event)):
        return False
    worker.late_reports += 1
    if (
        worker.late_reports < limits.LATE_REPORTS_MAX
        or state.now - max(worker.reported_at, state.listening_since) < limits.LATE_REPORTS_S
    ):
        return True
    # So many in a row are no stragglers: the worker counts anew, a new process under the same id.
    state.note(
        "worker_counts_anew",
        f"{worker.late_reports} reports in a row were older than one before: it is a new process",
        endpoint_id=worker.workergroup.spec.endpoint_id,
        worker_id=worker.worker_id,
    )
    worker.new_process()
    worker.seq, worker.loadtimes_before = 0, ()
    return False


def _was_made_before(worker: Worker, event: WorkerReported) -> bool:
    """Whether a report that has no number was made before the newest that came."""
    if event.loadtime_s in worker.loadtimes_before:
        return True
    if 0 < event.loadtime_s != worker.loadtime_s > 0:
        worker.new_process()
    return event.received < worker.received


def _loading(state: EngineState, worker: Worker) -> None:
    if worker.state in (WorkerState.ASKED, WorkerState.CREATING):
        state.transition(worker, WorkerTransition.LOADS)
    elif worker.state is WorkerState.READY:
        worker.ready_at = None
        state.transition(worker, WorkerTransition.LOADS)


def _ready(state: EngineState, worker: Worker) -> None:
    booted_s = state.now - worker.state_since
    worker.ready_at = worker.free_since = state.now
    worker.error = ""
    workergroup = worker.workergroup
    if workergroup.ready_since is None:
        workergroup.ready_since = state.now
    state.transition(worker, WorkerTransition.GETS_READY)
    if worker.held:  # an erring one that joined by itself, and is well again
        state.transition(worker, WorkerTransition.TAKEN)
    endpoint = state.endpoint_of(worker)
    if worker.cold_spare:
        endpoint.serves_last(worker)
    state.note(
        "worker_ready",
        f"ready with perf {worker.perf_expected:g}, {booted_s:.1f} s after the last change",
        endpoint_id=endpoint.endpoint_id,
        worker_id=worker.worker_id,
    )


def _sessions(state: EngineState, worker: Worker, event: WorkerReported) -> None:
    listed = dict.fromkeys(event.request_idxs)  # each once, and found at once
    for over in [r for r in worker.held.values() if r.stage is Stage.SESSION and r.request_idx not in listed]:
        if over.restored:
            over.restored = False
            continue
        _remember(worker.finished, over.request_idx, state.now)
        state.expect_finish(worker, over.request_idx)
        _ended(state, worker, over, "its worker lists it no longer")
    straggler = False
    unknown = [request_idx for request_idx in listed if request_idx not in worker.held]
    cost = _share_of_each(worker, event.load, len(unknown)) if unknown else 0.0
    for request_idx in listed:
        held = worker.held.get(request_idx)
        if held is None:
            finished_at = worker.finished.get(request_idx)
            if finished_at is not None and state.now - finished_at < limits.STRAGGLER_S:
                straggler = True  # or the same request again: reports that go on listing it will tell
            else:
                _adopt(state, worker, request_idx, cost)
        elif held.stage is Stage.GRANTED and _is_of_before(worker, held, event):
            straggler = True
        elif held.stage is Stage.GRANTED:
            worker.refusals = 0
            state.confirm(worker, held)
            if held.present:  # asking again, for it never heard the worker's answer
                answer(state, held, "its worker reported the session")
    state.saw_sessions(worker, len(listed))
    if straggler:
        state.set_may_hold_unknown(worker, state.now)
        state.set_unresponsive(worker, unresponsive=True)
        state.await_report(worker)
    else:
        state.report_lessens_unknown(worker)


def _is_of_before(worker: Worker, granted: Reservation, event: WorkerReported) -> bool:
    """Whether a report lists the session that the request had there before it was given the worker again."""
    return not event.seq and event.received <= granted.received and granted.request_idx in worker.finished


def _share_of_each(worker: Worker, load: float, unknown: int) -> float:
    """What each of so many sessions costs, of the load that the worker reports beyond what we know of."""
    known_load = min(load, limits.AMOUNT_MAX) if math.isfinite(load) else 0.0
    return max(0.0, known_load - worker.held_cost) / unknown


def _adopt(state: EngineState, worker: Worker, request_idx: int, cost: float) -> None:
    """A session that our tables do not have on this worker: it is real all the same. ``cost`` is its share of load."""
    endpoint = state.endpoint_of(worker)
    known = state.reservations.get(request_idx)
    if known is not None and known.endpoint_id == endpoint.endpoint_id:
        if known.stage is Stage.WAITING:
            endpoint.remove_waiter(known)
            known.transition(ReservationTransition.CONFIRM)
            state.hold(worker, known)
            if known.present:
                answer(state, known, "its worker reported the session")
            return
        if known.stage is Stage.GRANTED and known.deliveries == 0:
            other = state.workers[known.worker_id]
            state.drop(other, known)
            known.transition(ReservationTransition.CONFIRM)
            state.hold(worker, known)
            return
    adopted = Reservation(request_idx, endpoint.endpoint_id, cost, state.now, state.now, 0.0, present=False)
    adopted.stage = Stage.SESSION
    adopted.orphan = known is not None
    if known is None:
        state.reservations[request_idx] = adopted
    state.hold(worker, adopted)
    state.note(
        "session_adopted",
        "its worker reports it" + (" beside another worker's" if known is not None else ""),
        endpoint_id=endpoint.endpoint_id,
        worker_id=worker.worker_id,
        request_idx=request_idx,
    )


def finished(state: EngineState, event: RequestsFinished) -> None:
    """Takes in what a worker is done with."""
    worker = state.workers.get(event.worker_id)
    if worker is None:
        return
    news = _new_finishes(state, worker, event)
    for request, earlier in news:
        held = worker.held.get(request.request_idx)
        if held is not None and held.stage is Stage.GRANTED and not earlier:
            held.accounted += 1
            # It has received this one since it was given the reservation: a report with a lower count is an old one.
            worker.received = max(worker.received, held.received + 1)
    for request, earlier in news:
        held = None if earlier else worker.held.get(request.request_idx)
        if request.status == "Rejected":
            _rejected(state, worker, held)
            continue
        _remember(worker.finished, request.request_idx, state.now)
        if request.status == "Success" and not worker.error:  # else it ends because it has failed
            worker.proven = True
            worker.workergroup.failures = 0
        if held is None:
            continue
        if held.present:
            state.requeue(held)  # the attempt came to nothing, and its client asks again
        elif not held.sent:
            if held.stage is Stage.GRANTED and request.status == "Success":
                held.accounted -= 1
                state.confirm(worker, held)  # it came and went between two reports
            _ended(state, worker, held, f"its worker says {request.status}")
        # Else this may be the end of one session, and the client, sent there again, has another: reports tell.


def _new_finishes(state: EngineState, worker: Worker, event: RequestsFinished) -> list[tuple[Finished, bool]]:
    """What was not told before, and whether it belongs to an earlier grant than the one that stands."""
    news = []
    for request in event.requests:
        attempt = (request.request_idx, request.entered_at)
        if attempt in worker.seen_attempts:
            continue
        _remember(worker.seen_attempts, attempt, state.now)
        earlier = worker.pending_finishes.get(request.request_idx, 0)
        if earlier > 1:
            worker.pending_finishes[request.request_idx] = earlier - 1
        else:
            worker.pending_finishes.pop(request.request_idx, None)
        news.append((request, earlier > 0))
    return news


def _remember(memory: dict[_K, float], key: _K, now: float) -> None:
    memory.pop(key, None)  # for its place is at the end now
    memory[key] = now
    while len(memory) > limits.FINISHED_MEMORY or next(iter(memory.values())) < now - limits.FINISHED_MEMORY_S:
        del memory[next(iter(memory))]


def _ended(state: EngineState, worker: Worker, reservation: Reservation, reason: str) -> None:
    request_idx = reservation.request_idx
    # Where we were away, what its client made of our last answer may be among what comes in now.
    if reservation.sent and state.now < max(reservation.expires_at, state.listening_since + limits.GRANT_REPORT_S):
        state.reopen(worker, reservation)
        return
    was_sent = reservation.sent
    state.end(reservation)
    if was_sent:
        # This report may have been made before its client came to the worker again, and have been long under way.
        state.set_may_hold_unknown(worker, state.now)
        state.set_unresponsive(worker, unresponsive=True)
    state.note(
        "session_ended",
        reason,
        endpoint_id=worker.workergroup.spec.endpoint_id,
        worker_id=worker.worker_id,
        request_idx=request_idx,
    )


def _rejected(state: EngineState, worker: Worker, reservation: Reservation | None) -> None:
    """A refusal at k held means that the worker takes k, until it is seen to take more."""
    if reservation is None or reservation.orphan:
        return
    if reservation.stage is Stage.SESSION:
        # It asked twice and the worker, which has its session, refused the second: nobody will use that session.
        # It stays with the worker until that ends it; the client gets another worker when it asks again.
        reservation.accounted += 1
        if reservation.sent:
            state.expect_finish(worker, reservation.request_idx, reservation.deliveries - reservation.accounted)
            state.set_may_hold_unknown(worker, reservation.expires_at)
        reservation.orphan, reservation.present = True, False
        state.reservations.pop(reservation.request_idx, None)
        return
    others = len(worker.held) - 1
    endpoint_id = worker.workergroup.spec.endpoint_id
    state.note(
        "grant_refused",
        f"worker {worker.worker_id} refused it while holding {others} others",
        endpoint_id=endpoint_id,
        worker_id=worker.worker_id,
        request_idx=reservation.request_idx,
    )
    if others:
        state.set_occupancy(worker, others)
    else:
        worker.refusals += 1
        state.set_may_hold_unknown(worker, state.now)  # its reports will say what it really holds
        state.set_unresponsive(worker, unresponsive=True)
    state.requeue(reservation)
    if worker.refusals >= limits.REFUSALS_MAX:
        fail(state, worker, f"it refused {worker.refusals} reservations in a row while it held none", dead=False)
