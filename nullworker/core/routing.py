"""Who gets which worker: first come, first served, the worker that was freed last.

A grant is a promise that nobody has confirmed. It ends in a session (the worker reports it), in a refusal (the worker
says so, or is dead), or after `GRANT_TTL_S` without either; in the last two cases the waiter has its old place again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Grant, Refuse
from nullworker.core.parameters import EndpointState
from nullworker.core.reservation import Reservation, ReservationTransition, Stage
from nullworker.core.timers import Timer
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.events import Asked
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker


def ask(state: EngineState, event: Asked) -> None:
    """A client asks, for the first time or again."""
    reservation = state.reservations.get(event.request_idx)
    if reservation is None:
        _ask_first(state, event)
        return
    if reservation.endpoint_id != event.endpoint_id:
        _refuse(state, event, "the request belongs to another endpoint")
        return
    reservation.present, reservation.unseen = True, False
    reservation.seen_at = state.now
    if reservation.stage is Stage.WAITING:
        state.endpoints[reservation.endpoint_id].set_returned(reservation, state.now)
        state.mark_dirty(reservation.endpoint_id)
    elif reservation.stage is Stage.SESSION:
        answer(state, reservation, "it holds this worker already")
    else:
        _ask_again(state, reservation, state.workers[reservation.worker_id])


def _ask_again(state: EngineState, reservation: Reservation, worker: Worker) -> None:
    """One who was granted the worker has not got through to it."""
    if worker.state is WorkerState.ERROR:
        state.requeue(reservation)
    elif _is_taken(worker):
        # While it is in doubt, what it holds is not believed either (a report from before a restart may list what has
        # ended): its next reports tell, or the grant runs out.
        if not worker.may_hold_unknown:
            state.requeue(reservation)
    elif reservation.deliveries == 0:
        answer(state, reservation, "this worker was kept for it between two polls")
    elif reservation.deliveries == 1 and state.now - reservation.answered_at < limits.WORKER_ANSWER_S:
        reservation.answer_again_at = state.now + limits.VERDICT_S
        state.timers.set(reservation.answer_again_at, Timer.GRANT, reservation.request_idx)
    elif reservation.deliveries == 1:
        # Its answer was lost, or the worker's: the worker gives the same session for the same request again.
        answer(state, reservation, "its grant has not been confirmed yet")
    # Asked for the third time: the worker does not answer it. It waits for the verdict (a refusal, an exit, a session,
    # the end of the grant) instead of asking in a loop.


def _is_taken(worker: Worker) -> bool:
    """Whether the worker has turned out to hold as many other sessions as it takes, since it was granted."""
    most = worker.occupancy_known
    return most is not None and len(worker.held) - worker.grant_count >= most


def _ask_first(state: EngineState, event: Asked) -> None:
    endpoint = state.endpoints.get(event.endpoint_id)
    if endpoint is None:
        _refuse(state, event, "there is no such endpoint")
    elif endpoint.deleted:
        _refuse(state, event, f"endpoint {endpoint.name} is being deleted")
    elif not 0 <= event.cost <= limits.AMOUNT_MAX:
        _refuse(state, event, f"its cost is {event.cost:g}, and must be from 0 to {limits.AMOUNT_MAX:g}")
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
        endpoint.add_waiter(reservation, state.now)
        state.mark_dirty(endpoint.endpoint_id)


def _refuse(state: EngineState, event: Asked, reason: str) -> None:
    state.out.append(Refuse(event.request_idx, event.endpoint_id, reason, state.cause))


def answer(state: EngineState, reservation: Reservation, reason: str) -> None:
    """Answers the waiter's call with its worker, and gives it time to use the answer."""
    worker = state.workers[reservation.worker_id]
    reservation.deliveries += 1
    reservation.answered_at, reservation.answer_again_at = state.now, None
    reservation.present, reservation.number_known = False, True
    reservation.expires_at = state.now + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
    state.changed_reservations[reservation.request_idx] = None
    if reservation.stage is Stage.GRANTED:
        state.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
    state.out.append(
        Grant(
            reservation.request_idx,
            reservation.endpoint_id,
            worker.worker_id,
            worker.url,
            reservation.cost,
            limits.GRANT_TTL_S,
            reason,
            state.cause,
        )
    )


def assign(state: EngineState, endpoint: Endpoint) -> None:
    """Grants as long as there are both a waiter who can take a worker and a worker who can take a reservation."""
    if not endpoint.waiting or endpoint.deleted or endpoint.parameters.state is EndpointState.STOPPED:
        return
    while (reservation := endpoint.first_waiter()) is not None and (worker := endpoint.pick()) is not None:
        _grant(state, endpoint, reservation, worker)


def _grant(state: EngineState, endpoint: Endpoint, reservation: Reservation, worker: Worker) -> None:
    waiters = len(endpoint.waiting)
    endpoint.remove_waiter(reservation)
    reservation.transition(ReservationTransition.GRANT)
    reservation.granted_at = state.now
    reservation.deliveries = reservation.accounted = 0
    reservation.received = worker.received
    state.hold(worker, reservation)
    if reservation.present:
        waited_s = state.now - reservation.asked_at
        why = f"first of {waiters} waiting, after {waited_s:.3f} s; of the free workers it became free last"
        answer(state, reservation, why)
    else:
        # Between two polls: the worker is kept until the next one is due.
        reservation.expires_at = reservation.seen_at + limits.POLL_GRACE_S
        state.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
        state.note(
            "grant_kept",
            f"first of {waiters} waiting, and between two polls: worker {worker.worker_id} is kept for its next one",
            endpoint_id=reservation.endpoint_id,
            worker_id=worker.worker_id,
            request_idx=reservation.request_idx,
        )


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
    reservation.present = False
    if reservation.stage is Stage.WAITING or (reservation.stage is Stage.GRANTED and reservation.deliveries == 0):
        waited_s = state.now - reservation.asked_at
        endpoint_id = reservation.endpoint_id
        state.end(reservation)
        state.note("waiter_gone", f"it left after {waited_s:.1f} s", endpoint_id=endpoint_id, request_idx=request_idx)


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
            f"not seen for {state.now - reservation.seen_at:.1f} s, replay_timeout {reservation.replay_timeout_s:g} s",
            endpoint_id=endpoint_id,
            request_idx=request_idx,
        )
        return
    absent_at = reservation.seen_at + limits.POLL_GRACE_S
    if state.now >= absent_at:
        state.endpoints[reservation.endpoint_id].set_absent(reservation)
        state.timers.set(forget_at, Timer.WAITER, request_idx)
        state.mark_dirty(reservation.endpoint_id)
    else:
        state.timers.set(min(absent_at, forget_at), Timer.WAITER, request_idx)


def grant_due(state: EngineState, request_idx: int) -> None:
    """A grant's time is up: nobody confirmed it. Or its waiter, asking again, has waited for the worker's word."""
    reservation = state.reservations.get(request_idx)
    if reservation is None or reservation.stage is not Stage.GRANTED:
        return
    if reservation.answer_again_at is not None and reservation.answer_again_at <= state.now:
        reservation.answer_again_at = None
        if reservation.present and not _is_taken(state.workers[reservation.worker_id]):
            answer(state, reservation, "its grant has not been confirmed yet")
            return
    if state.now < reservation.expires_at:
        return
    if reservation.deliveries and state.now < state.listening_since + limits.GRANT_REPORT_S:
        # We were away: what would have confirmed it may be among what comes in now.
        reservation.expires_at = state.listening_since + limits.GRANT_REPORT_S
        state.timers.set(reservation.expires_at, Timer.GRANT, request_idx)
        return
    worker_id, answered, present = reservation.worker_id, reservation.deliveries, reservation.present
    kept_s = state.now - reservation.granted_at
    state.note(
        "grant_expired",
        f"worker {worker_id} did not confirm it within {kept_s:.1f} s"
        if answered
        else f"worker {worker_id} was kept for it for {kept_s:.1f} s, and its client did not ask again",
        endpoint_id=reservation.endpoint_id,
        worker_id=worker_id,
        request_idx=request_idx,
    )
    if answered:
        worker = state.workers[worker_id]
        state.set_may_hold_unknown(worker, state.now)  # it may have been used all the same
        state.set_unresponsive(worker, unresponsive=True)
    if present or answered == 0:
        state.requeue(reservation)
    else:
        state.end(reservation)  # it was answered and neither used the grant nor asked again


def refuse_all(state: EngineState, endpoint: Endpoint, reason: str) -> None:
    """Tells everyone who waits that there will be no worker."""
    for reservation in list(endpoint.waiting.values()):
        state.end(reservation)
        state.out.append(Refuse(reservation.request_idx, endpoint.endpoint_id, reason, state.cause))
