"""Who gets which worker: first come, first served, the worker that was freed last.

A grant is a promise that nobody has confirmed. It ends in a session (the worker reports it), in a refusal (the worker
says so, or is dead), or after `GRANT_TTL_S` without either; in the last two cases the waiter has its old place again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Grant, Refuse
from nullworker.core.endpoints import EndpointState
from nullworker.core.reservations import Reservation, Stage, Step
from nullworker.core.timers import Timer
from nullworker.core.workers import State

if TYPE_CHECKING:
    from nullworker.core.events import Asked
    from nullworker.core.ledger import Ledger
    from nullworker.core.pool import Pool
    from nullworker.core.workers import Worker


def ask(ledger: Ledger, event: Asked) -> None:
    """A client asks, for the first time or again."""
    reservation = ledger.reservations.get(event.request_idx)
    if reservation is None:
        _ask_first(ledger, event)
        return
    if reservation.endpoint_id != event.endpoint_id:
        _refuse(ledger, event, "the request belongs to another endpoint")
        return
    reservation.present, reservation.unseen = True, False
    reservation.seen_at = ledger.now
    if reservation.stage is Stage.WAITING:
        ledger.pools[reservation.endpoint_id].returns(reservation, ledger.now)
        ledger.touch(reservation.endpoint_id)
    elif reservation.stage is Stage.SESSION:
        answer(ledger, reservation, "it holds this worker already")
    else:
        _ask_again(ledger, reservation, ledger.workers[reservation.worker_id])


def _ask_again(ledger: Ledger, reservation: Reservation, worker: Worker) -> None:
    """One who was granted the worker has not got through to it."""
    if worker.state is State.ERROR:
        ledger.requeue(reservation)
    elif _is_taken(worker):
        # While it is in doubt, what it holds is not believed either (a report from before a restart may list what has
        # ended): its next reports tell, or the grant runs out.
        if not worker.doubt:
            ledger.requeue(reservation)
    elif reservation.answers == 0:
        answer(ledger, reservation, "this worker was kept for it between two polls")
    elif reservation.answers == 1 and ledger.now - reservation.answered_at < limits.WORKER_ANSWER_S:
        reservation.verdict_at = ledger.now + limits.VERDICT_S
        ledger.timers.set(reservation.verdict_at, Timer.GRANT, reservation.request_idx)
    elif reservation.answers == 1:
        # Its answer was lost, or the worker's: the worker gives the same session for the same request again.
        answer(ledger, reservation, "its grant has not been confirmed yet")
    # Asked for the third time: the worker does not answer it. It waits for the verdict (a refusal, an exit, a session,
    # the end of the grant) instead of asking in a loop.


def _is_taken(worker: Worker) -> bool:
    """Whether the worker has turned out to hold as many other sessions as it takes, since it was granted."""
    most = worker.occupancy_known
    return most is not None and len(worker.held) - worker.unproven >= most


def _ask_first(ledger: Ledger, event: Asked) -> None:
    pool = ledger.pools.get(event.endpoint_id)
    if pool is None:
        _refuse(ledger, event, "there is no such endpoint")
    elif pool.deleted:
        _refuse(ledger, event, f"endpoint {pool.name} is being deleted")
    elif not 0 <= event.cost <= limits.AMOUNT_MAX:
        _refuse(ledger, event, f"its cost is {event.cost:g}, and must be from 0 to {limits.AMOUNT_MAX:g}")
    else:
        timeout_s = event.replay_timeout_s if event.replay_timeout_s >= 0 else 0.0  # NaN is not either
        reservation = Reservation(
            event.request_idx,
            event.endpoint_id,
            event.cost,
            ledger.now,
            ledger.now,
            min(timeout_s, limits.REPLAY_TIMEOUT_MAX_S),
        )
        ledger.reservations[event.request_idx] = reservation
        ledger.changed_reservations[event.request_idx] = None
        pool.add_waiter(reservation, ledger.now)
        ledger.touch(pool.endpoint_id)


def _refuse(ledger: Ledger, event: Asked, reason: str) -> None:
    ledger.out.append(Refuse(event.request_idx, event.endpoint_id, reason, ledger.cause))


def answer(ledger: Ledger, reservation: Reservation, reason: str) -> None:
    """Answers the waiter's call with its worker, and gives it time to use the answer."""
    worker = ledger.workers[reservation.worker_id]
    reservation.answers += 1
    reservation.answered_at, reservation.verdict_at = ledger.now, None
    reservation.present, reservation.told = False, True
    reservation.expires_at = ledger.now + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
    ledger.changed_reservations[reservation.request_idx] = None
    if reservation.stage is Stage.GRANTED:
        ledger.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
    ledger.out.append(
        Grant(
            reservation.request_idx,
            reservation.endpoint_id,
            worker.worker_id,
            worker.url,
            reservation.cost,
            limits.GRANT_TTL_S,
            reason,
            ledger.cause,
        )
    )


def assign(ledger: Ledger, pool: Pool) -> None:
    """Grants as long as there are both a waiter who can take a worker and a worker who can take a reservation."""
    if not pool.waiting or pool.deleted or pool.parameters.state is EndpointState.STOPPED:
        return
    while (reservation := pool.first_waiter()) is not None and (worker := pool.pick()) is not None:
        _grant(ledger, pool, reservation, worker)


def _grant(ledger: Ledger, pool: Pool, reservation: Reservation, worker: Worker) -> None:
    waiters = len(pool.waiting)
    pool.remove_waiter(reservation)
    reservation.step(Step.GRANT)
    reservation.granted_at = ledger.now
    reservation.answers = reservation.used = 0
    reservation.received = worker.received
    ledger.hold(worker, reservation)
    if reservation.present:
        waited_s = ledger.now - reservation.asked_at
        why = f"first of {waiters} waiting, after {waited_s:.3f} s; of the free workers it became free last"
        answer(ledger, reservation, why)
    else:
        # Between two polls: the worker is kept until the next one is due.
        reservation.expires_at = reservation.seen_at + limits.POLL_GRACE_S
        ledger.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
        ledger.note(
            "grant_kept",
            f"first of {waiters} waiting, and between two polls: worker {worker.worker_id} is kept for its next one",
            endpoint_id=reservation.endpoint_id,
            worker_id=worker.worker_id,
            request_idx=reservation.request_idx,
        )


def hold_ended(ledger: Ledger, request_idx: int) -> None:
    """The held call was answered WAITING; the next poll is due within `POLL_GRACE_S`."""
    reservation = ledger.reservations.get(request_idx)
    if reservation is None or not reservation.present:
        return
    reservation.present = False
    reservation.seen_at = ledger.now
    if not reservation.told:
        reservation.told = True
        ledger.changed_reservations[request_idx] = None
    ledger.timers.set(ledger.now + limits.POLL_GRACE_S, Timer.WAITER, request_idx)


def gone(ledger: Ledger, request_idx: int) -> None:
    """The waiter went away. A grant that it was answered may be in use already: that one runs its time."""
    reservation = ledger.reservations.get(request_idx)
    if reservation is None:
        return
    reservation.present = False
    if reservation.stage is Stage.WAITING or (reservation.stage is Stage.GRANTED and reservation.answers == 0):
        waited_s = ledger.now - reservation.asked_at
        endpoint_id = reservation.endpoint_id
        ledger.end(reservation)
        ledger.note("waiter_gone", f"it left after {waited_s:.1f} s", endpoint_id=endpoint_id, request_idx=request_idx)


def waiter_due(ledger: Ledger, request_idx: int) -> None:
    """A waiter's time is up: to count as absent, or to be forgotten."""
    reservation = ledger.reservations.get(request_idx)
    if reservation is None or reservation.stage is not Stage.WAITING or reservation.present:
        return
    forget_at = reservation.seen_at + reservation.replay_timeout_s
    if ledger.now >= forget_at:
        endpoint_id = reservation.endpoint_id
        ledger.end(reservation)
        ledger.note(
            "waiter_forgotten",
            f"not seen for {ledger.now - reservation.seen_at:.1f} s, replay_timeout {reservation.replay_timeout_s:g} s",
            endpoint_id=endpoint_id,
            request_idx=request_idx,
        )
        return
    absent_at = reservation.seen_at + limits.POLL_GRACE_S
    if ledger.now >= absent_at:
        ledger.pools[reservation.endpoint_id].leaves(reservation)
        ledger.timers.set(forget_at, Timer.WAITER, request_idx)
        ledger.touch(reservation.endpoint_id)
    else:
        ledger.timers.set(min(absent_at, forget_at), Timer.WAITER, request_idx)


def grant_due(ledger: Ledger, request_idx: int) -> None:
    """A grant's time is up: nobody confirmed it. Or its waiter, asking again, has waited for the worker's word."""
    reservation = ledger.reservations.get(request_idx)
    if reservation is None or reservation.stage is not Stage.GRANTED:
        return
    if reservation.verdict_at is not None and reservation.verdict_at <= ledger.now:
        reservation.verdict_at = None
        if reservation.present and not _is_taken(ledger.workers[reservation.worker_id]):
            answer(ledger, reservation, "its grant has not been confirmed yet")
            return
    if ledger.now < reservation.expires_at:
        return
    if reservation.answers and ledger.now < ledger.listening_since + limits.GRANT_REPORT_S:
        # We were away: what would have confirmed it may be among what comes in now.
        reservation.expires_at = ledger.listening_since + limits.GRANT_REPORT_S
        ledger.timers.set(reservation.expires_at, Timer.GRANT, request_idx)
        return
    worker_id, answered, present = reservation.worker_id, reservation.answers, reservation.present
    kept_s = ledger.now - reservation.granted_at
    ledger.note(
        "grant_expired",
        f"worker {worker_id} did not confirm it within {kept_s:.1f} s"
        if answered
        else f"worker {worker_id} was kept for it for {kept_s:.1f} s, and its client did not ask again",
        endpoint_id=reservation.endpoint_id,
        worker_id=worker_id,
        request_idx=request_idx,
    )
    if answered:
        worker = ledger.workers[worker_id]
        ledger.set_doubt(worker, ledger.now)  # it may have been used all the same
        ledger.set_suspect(worker, suspect=True)
    if present or answered == 0:
        ledger.requeue(reservation)
    else:
        ledger.end(reservation)  # it was answered and neither used the grant nor asked again


def refuse_all(ledger: Ledger, pool: Pool, reason: str) -> None:
    """Tells everyone who waits that there will be no worker."""
    for reservation in list(pool.waiting.values()):
        ledger.end(reservation)
        ledger.out.append(Refuse(reservation.request_idx, pool.endpoint_id, reason, ledger.cause))
