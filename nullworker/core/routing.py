"""Which waiter gets which worker: first come, first served, the worker that was freed last.

A grant is a promise that the worker has not confirmed. It ends in a session (the worker reports it), in a refusal (the
worker says so, or is dead), or after `GRANT_TTL_S` without either; in the last two cases the waiter has its old place
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Grant
from nullworker.core.parameters import EndpointState
from nullworker.core.reservation import Stage
from nullworker.core.timers import Timer

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint
    from nullworker.core.reservation import Reservation
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker


def assign(state: EngineState, endpoint: Endpoint) -> None:
    """Grants as long as there are both a waiter that can take a worker and a worker that can take a reservation."""
    line = endpoint.line
    if not line.waiting or endpoint.deleted or endpoint.parameters.state is EndpointState.STOPPED:
        return
    while (reservation := line.first()) is not None and (worker := endpoint.pick()) is not None:
        _grant(state, endpoint, reservation, worker)


def _grant(state: EngineState, endpoint: Endpoint, reservation: Reservation, worker: Worker) -> None:
    waiters = len(endpoint.line)
    state.grant(worker, reservation)
    if reservation.present:
        waited_s = state.now - reservation.asked_at
        why = f"first of {waiters} waiting, after {waited_s:.3f} s; of the free workers it became free last"
        answer(state, reservation, Cause.FIRST_IN_LINE, why)
    else:
        # Between two polls: the worker is kept until the next one is due.
        reservation.expires_at = reservation.seen_at + limits.POLL_GRACE_S
        state.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
        state.note_worker(
            worker,
            "grant_kept",
            Cause.KEPT_FOR_POLL,
            f"first of {waiters} waiting, and between two polls: worker {worker.worker_id} is kept for its next one",
            request_idx=reservation.request_idx,
        )


def answer(state: EngineState, reservation: Reservation, cause: Cause, reason: str) -> None:
    """Answers the waiter's call with its worker, and gives it time to use the answer.

    Args:
        state: the engine's state.
        reservation: a grant or a session, whose /route/ call is open.
        cause: why it has this worker.
        reason: the same as a sentence.
    """
    worker = state.workers[reservation.worker_id]
    reservation.delivery.delivered(state.now)
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
            cause,
            reason,
            state.event_number,
        )
    )
