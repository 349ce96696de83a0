"""What clients do, taken in: they ask, ask again, are told to ask later, leave, and fall silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.reservation import Reservation, Stage
from nullworker.core.routing import answer
from nullworker.core.timers import Timer
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.events import Asked
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker

_UNCONFIRMED = "its grant has not been confirmed yet"


def ask(state: EngineState, event: Asked) -> None:
    """A client asks, for the first time or again."""
    reservation = state.reservations.get(event.request_idx)
    if reservation is None:
        _ask_first(state, event)
        return
    if reservation.endpoint_id != event.endpoint_id:
        _refuse(state, event, Cause.WRONG_ENDPOINT, "the request belongs to another endpoint")
        return
    reservation.present, reservation.unseen = True, False
    reservation.seen_at = state.now
    if reservation.stage is Stage.WAITING:
        state.endpoints[reservation.endpoint_id].line.set_returned(reservation, state.now)
        state.mark_dirty(reservation.endpoint_id)
    elif reservation.stage is Stage.SESSION:
        worker, delivery = state.workers[reservation.worker_id], reservation.delivery
        is_uncertain = delivery.restored or delivery.unlisted  # no report has listed it since a restart
        if state.is_contested(worker) or (worker.is_overfull and is_uncertain):
            delivery.withheld = True  # its worker's next reports tell whether it has this session still
        else:
            answer(state, reservation, Cause.CONFIRMED, "it holds this worker already")
    else:
        _ask_again(state, reservation, state.workers[reservation.worker_id])


def _ask_first(state: EngineState, event: Asked) -> None:
    endpoint = state.endpoints.get(event.endpoint_id)
    if endpoint is None:
        _refuse(state, event, Cause.NO_ENDPOINT, "there is no such endpoint")
    elif endpoint.deleted:
        _refuse(state, event, Cause.ENDPOINT_DELETED, f"endpoint {endpoint.name} is being deleted")
    elif not 0 <= event.cost <= limits.AMOUNT_MAX:
        reason = f"its cost is {event.cost:g}, and must be from 0 to {limits.AMOUNT_MAX:g}"
        _refuse(state, event, Cause.COST_OUT_OF_BOUNDS, reason)
    else:
        timeout_s = event.replay_timeout_s if event.replay_timeout_s >= 0 else 0.0  # NaN is not either
        reservation = Reservation(
            event.request_idx,
            event.endpoint_id,
            event.cost,
            state.now,
            state.now,
            min(timeout_s, limits.REPLAY_TIMEOUT_MAX_S),
        )
        state.reservations[event.request_idx] = reservation
        state.changed_reservations[event.request_idx] = None
        endpoint.line.add(reservation, state.now)
        state.mark_dirty(endpoint.endpoint_id)


def _refuse(state: EngineState, event: Asked, cause: Cause, reason: str) -> None:
    state.refuse(event.request_idx, event.endpoint_id, cause, reason)


def _ask_again(state: EngineState, reservation: Reservation, worker: Worker) -> None:
    """A client that was granted the worker asks again: it did not reach the worker, or its answer was lost."""
    delivery = reservation.delivery
    if worker.state is WorkerState.ERROR:
        state.requeue(reservation)
    elif worker.is_taken:
        # While it may hold something unknown, what it holds is not certain either (a report from before a restart may
        # list what has ended): its next reports tell, or the grant expires.
        if not worker.trust.may_hold_unknown:
            state.requeue(reservation)
    elif worker.is_overfull:
        return  # promised to another, too, as far as is known after a restart: its reports tell, or the grant expires
    elif delivery.count == 0:
        answer(state, reservation, Cause.KEPT_FOR_POLL, "this worker was kept for it between two polls")
    elif delivery.count == 1 and state.now - delivery.answered_at < limits.WORKER_ANSWER_S:
        delivery.answer_again_at = state.now + limits.REFUSAL_REPORT_S
        state.timers.set(delivery.answer_again_at, Timer.GRANT, reservation.request_idx)
    elif delivery.count == 1:
        # Its answer was lost, or the worker's: the worker gives the same session for the same request again.
        answer(state, reservation, Cause.UNCONFIRMED, _UNCONFIRMED)
    # Asked for the third time: the worker does not answer it. It waits for what comes (a refusal, an exit, a session,
    # the end of the grant) instead of asking in a loop.


def hold_ended(state: EngineState, request_idx: int) -> None:
    """The held call was answered WAITING; the next poll is due within `POLL_GRACE_S`."""
    reservation = state.reservations.get(request_idx)
    if reservation is None or not reservation.present:
        return
    reservation.present = False
    reservation.seen_at = state.now
    if not reservation.number_known:
        reservation.number_known = True
        state.changed_reservations[request_idx] = None
    state.timers.set(state.now + limits.POLL_GRACE_S, Timer.WAITER, request_idx)


def gone(state: EngineState, request_idx: int) -> None:
    """The waiter went away. A grant that it was answered may be in use already: that one runs its time."""
    reservation = state.reservations.get(request_idx)
    if reservation is None:
        return
    reservation.present = reservation.delivery.withheld = False
    unanswered = reservation.stage is Stage.GRANTED and reservation.delivery.count == 0
    if reservation.stage is Stage.WAITING or unanswered:
        waited_s = state.now - reservation.asked_at
        endpoint_id = reservation.endpoint_id
        state.end(reservation)
        state.note(
            "waiter_gone",
            Cause.CLIENT_LEFT,
            f"it left after {waited_s:.1f} s",
            endpoint_id=endpoint_id,
            request_idx=request_idx,
        )


def waiter_due(state: EngineState, request_idx: int) -> None:
    """A waiter's time is up: to count as absent, or to be forgotten."""
    reservation = state.reservations.get(request_idx)
    if reservation is None or reservation.stage is not Stage.WAITING or reservation.present:
        return
    forget_at = reservation.seen_at + reservation.replay_timeout_s
    if state.now >= forget_at:
        endpoint_id = reservation.endpoint_id
        state.end(reservation)
        state.note(
            "waiter_forgotten",
            Cause.CLIENT_SILENT,
            f"not seen for {state.now - reservation.seen_at:.1f} s, replay_timeout {reservation.replay_timeout_s:g} s",
            endpoint_id=endpoint_id,
            request_idx=request_idx,
        )
        return
    absent_at = reservation.seen_at + limits.POLL_GRACE_S
    if state.now >= absent_at:
        state.endpoints[reservation.endpoint_id].line.set_absent(reservation)
        state.timers.set(forget_at, Timer.WAITER, request_idx)
        state.mark_dirty(reservation.endpoint_id)
    else:
        state.timers.set(min(absent_at, forget_at), Timer.WAITER, request_idx)


def grant_due(state: EngineState, request_idx: int) -> None:
    """A grant's time is up: the worker did not confirm it. Or its waiter, asking again, is to be answered again."""
    reservation = state.reservations.get(request_idx)
    if reservation is None or reservation.stage is not Stage.GRANTED:
        return
    delivery = reservation.delivery
    if delivery.answer_again_at is not None and delivery.answer_again_at <= state.now:
        delivery.answer_again_at = None
        if reservation.present and not state.workers[reservation.worker_id].is_taken:
            answer(state, reservation, Cause.UNCONFIRMED, _UNCONFIRMED)
            return
    if state.now < reservation.expires_at:
        return
    heard_all_at = state.listening.since + limits.GRANT_REPORT_S
    if delivery.count and state.now < heard_all_at:
        # We were away: what would have confirmed it may be among what comes in now.
        reservation.expires_at = heard_all_at
        state.timers.set(reservation.expires_at, Timer.GRANT, request_idx)
        return
    _expire(state, reservation)


def _expire(state: EngineState, reservation: Reservation) -> None:
    worker = state.workers[reservation.worker_id]
    answered, kept_s = reservation.delivery.count, state.now - reservation.granted_at
    if answered:
        cause = Cause.UNCONFIRMED
        reason = f"worker {worker.worker_id} did not confirm it within {kept_s:.1f} s"
    else:
        cause = Cause.NOT_ASKED_AGAIN
        reason = f"worker {worker.worker_id} was kept for it for {kept_s:.1f} s, and its client did not ask again"
    state.note_worker(worker, "grant_expired", cause, reason, request_idx=reservation.request_idx)
    if answered:
        state.doubt(worker, used_late=True)
    if reservation.present or answered == 0:
        state.requeue(reservation)
    else:
        state.end(reservation)  # it was answered and neither used the grant nor asked again


def refuse_all(state: EngineState, endpoint: Endpoint, cause: Cause, reason: str) -> None:
    """Tells all that wait that there will be no worker.

    Args:
        state: the engine's state.
        endpoint: their endpoint.
        cause: why.
        reason: the same as a sentence.
    """
    for reservation in list(endpoint.line.waiting.values()):
        state.end(reservation)
        state.refuse(reservation.request_idx, endpoint.endpoint_id, cause, reason)
