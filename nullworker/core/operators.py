"""What operators do, taken in: endpoints and workergroups come, change and go; an engine comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits, routing, scaling
from nullworker.core.commands import Create, Destroy, Start, Stop
from nullworker.core.endpoints import EndpointState
from nullworker.core.pool import Pool
from nullworker.core.reservations import Reservation, Stage
from nullworker.core.timers import Timer
from nullworker.core.verdicts import retire, stop
from nullworker.core.workers import ACTIVE, BOOTING, State, Turn

if TYPE_CHECKING:
    from nullworker.core.events import (
        EndpointDeleted,
        EndpointPut,
        Restored,
        RestoredReservation,
        RestoredWorker,
        WorkergroupDeleted,
        WorkergroupPut,
        WorkerJoined,
        WorkersUpdated,
    )
    from nullworker.core.ledger import Ledger


def endpoint_put(ledger: Ledger, event: EndpointPut) -> None:
    """An endpoint is made, or its parameters change."""
    pool = ledger.pools.get(event.endpoint_id)
    if pool is None:
        ledger.pools[event.endpoint_id] = Pool(event.endpoint_id, event.name, event.parameters)
        ledger.touch(event.endpoint_id)
        return
    if pool.deleted:
        return
    waiters = list(pool.waiting.values())
    for waiter in waiters:
        pool.remove_waiter(waiter)
    pool.name, pool.parameters, pool.press_at = event.name, event.parameters, None
    for waiter in waiters:
        pool.add_waiter(waiter, ledger.now)  # by the new target_queue_time
    for worker in pool.workers.values():
        if worker.held:
            pool.reckon(worker)
            pool.offer(worker)  # by the new max_queue_time
    pool.trim_at = None
    if pool.parameters.state is EndpointState.STOPPED:
        for worker in list(pool.workers.values()):
            if worker.owned and not (worker.held or worker.doubt) and worker.state in (State.READY, State.STARTING):
                stop(ledger, worker, "its endpoint is stopped")
    ledger.touch(event.endpoint_id)


def endpoint_deleted(ledger: Ledger, event: EndpointDeleted) -> None:
    """An endpoint goes: its waiters are told, its free workers go now, its held ones when they are released."""
    pool = ledger.pools.get(event.endpoint_id)
    if pool is None:
        return
    pool.deleted = True
    routing.refuse_all(ledger, pool, f"endpoint {pool.name} is being deleted")
    for worker in list(pool.workers.values()):
        retire(ledger, worker, f"endpoint {pool.name} is deleted", force=event.force)
    if not pool.workers and event.endpoint_id in ledger.pools:
        for group_id in list(pool.groups):
            ledger.groups.pop(group_id, None)
        ledger.pools.pop(event.endpoint_id, None)
        ledger.note(
            "endpoint_deleted", f"endpoint {pool.name} is gone: it had no workers", endpoint_id=event.endpoint_id
        )


def workergroup_put(ledger: Ledger, event: WorkergroupPut) -> None:
    """A workergroup is made or changed."""
    if event.workergroup.endpoint_id in ledger.pools:
        ledger.put_group(event.workergroup)


def workergroup_deleted(ledger: Ledger, event: WorkergroupDeleted) -> None:
    """A workergroup goes: its free workers now, its held ones when they are released."""
    group = ledger.groups.get(event.workergroup_id)
    if group is None:
        return
    group.deleted = True
    pool = ledger.pools[group.spec.endpoint_id]
    for worker in [w for w in pool.workers.values() if w.group is group]:
        retire(ledger, worker, f"workergroup {event.workergroup_id} is deleted")
    if not group.workers and event.workergroup_id in ledger.groups:
        ledger.forget_group(group, "it had no workers")
    ledger.touch(pool.endpoint_id)


def workers_updated(ledger: Ledger, event: WorkersUpdated) -> None:
    """A rolling update of a workergroup, or its cancelling."""
    group = ledger.groups.get(event.workergroup_id)
    if group is None:
        return
    pool = ledger.pools[group.spec.endpoint_id]
    workers = [w for w in pool.workers.values() if w.group is group and w.owned]
    if event.cancel:
        for worker in workers:
            if worker.retire == _UPDATE:
                ledger.set_retire(worker, "")
                if worker.state is State.DRAINING:
                    ledger.turn(worker, Turn.UNDRAIN)
                    if not worker.held:  # it was only kept for a doubt
                        worker.free_since = ledger.now
                        ledger.turn(worker, Turn.FREED)
        return
    group.generation += 1
    for worker in workers:
        if not worker.retire:
            retire(ledger, worker, _UPDATE)


_UPDATE = "its workergroup is updated"


def worker_joined(ledger: Ledger, event: WorkerJoined) -> None:
    """A worker that somebody else started is here."""
    group = ledger.groups.get(event.workergroup_id)
    if group is None or event.worker_id in ledger.workers or group.deleted:
        return
    ledger.add_worker(group, event.worker_id, State.CREATING, owned=False)
    _number_taken(ledger, event.worker_id)
    ledger.note(
        "worker_joined",
        "it reported with the endpoint's join token",
        endpoint_id=group.spec.endpoint_id,
        worker_id=event.worker_id,
    )


def _number_taken(ledger: Ledger, worker_id: int) -> None:
    """Workers that we make have numbers beyond this one; none of them ever reaches those kept for joining."""
    if worker_id < limits.JOINED_IDS_FROM:
        ledger.next_worker_id = max(ledger.next_worker_id, worker_id + 1)


# -------------------------------------------------------------------------------------------------------------- restart


def restored(ledger: Ledger, event: Restored) -> None:
    """Takes over what an engine before this one knew. Nobody is granted before he has reported."""
    ledger.next_worker_id = max(ledger.next_worker_id, event.next_worker_id)
    ledger.listening_since = ledger.now
    if event.workers:
        ledger.quiet_until = ledger.now + limits.QUIET_S
    holding = {reservation.worker_id for reservation in event.reservations}
    for record in event.workers:
        _restore_worker(ledger, record, holds=record.worker_id in holding)
    _order_again(ledger)
    for reservation in event.reservations:
        _restore_reservation(ledger, reservation)
    for record in event.workers:
        retiring = ledger.workers.get(record.worker_id)
        if retiring is not None and record.retire:
            retire(ledger, retiring, record.retire)
    for pool in ledger.pools.values():
        ledger.touch(pool.endpoint_id)
        ledger.timers.set(ledger.quiet_until, Timer.SCALE, pool.endpoint_id)
    left = len(event.workers) + len(event.reservations) - len(ledger.workers) - len(ledger.reservations)
    ledger.note(
        "restored",
        f"{len(ledger.workers)} workers and {len(ledger.reservations)} reservations taken over"
        + (f"; {left} that have nowhere to belong to any more were not" if left else ""),
    )


def _restore_worker(ledger: Ledger, record: RestoredWorker, *, holds: bool) -> None:
    group = ledger.groups.get(record.workergroup_id)
    if group is None or record.worker_id in ledger.workers:
        return  # no such workergroup any more: its fleet will list the instance as a stranger
    _number_taken(ledger, record.worker_id)
    state = _RESTORED_AS.get(record.state)
    if state is None:
        return
    if holds and state in BOOTING:
        state = State.READY  # it was granted, so it was ready: its record is older
    worker = ledger.add_worker(group, record.worker_id, state, owned=record.owned)
    worker.url, worker.perf = record.url, record.perf
    worker.free_since = ledger.now
    pool = ledger.pool_of(worker)
    if state in ACTIVE:
        worker.unheard = worker.suspect = True
        worker.doubt_until, worker.doubt_reports = ledger.now, 2  # the doubts of before are not known
        pool.unheard += 1
        worker.ready_at = ledger.now
    pool.reckon(worker)


#: How a worker comes back, by the state it was last written down in. One that held something, was on its way out or
#: had failed is asked like the others: its next report tells.
_RESTORED_AS: dict[str, State] = {
    **{state.value: state for state in State if state is not State.GONE},
    State.HELD.value: State.READY,
    State.DRAINING.value: State.READY,
    State.ERROR.value: State.READY,
}


def _order_again(ledger: Ledger) -> None:
    """Repeats the orders that were under way: nobody knows whether they were carried out, and twice is no harm.

    But for creations beyond a `max_workers` that was lowered meanwhile: those of the newest are given up.
    """
    for pool in ledger.pools.values():
        most = pool.parameters.max_workers
        asked = [worker for worker in pool.workers.values() if worker.state is State.ASKED]
        given_up = set(asked[-(pool.existing - most) :]) if pool.existing > most else set()
        for worker in list(pool.workers.values()):
            reason = f"the engine was restarted while it was {worker.state.value}"
            if not worker.owned:
                continue
            if worker in given_up:
                ledger.destroy(worker, f"{reason}, and max_workers is {most}")
            elif worker.state is State.ASKED:
                ledger.out.append(Create(worker.worker_id, worker.group.spec.workergroup_id, reason, ledger.cause))
            elif worker.state is State.STARTING:
                ledger.out.append(Start(worker.worker_id, reason, ledger.cause))
            elif worker.state is State.STOPPING:
                ledger.out.append(Stop(worker.worker_id, reason, ledger.cause))
            elif worker.state is State.DESTROYING:
                ledger.out.append(Destroy(worker.worker_id, worker.group.spec.fleet, reason, ledger.cause))


def _restore_reservation(ledger: Ledger, record: RestoredReservation) -> None:
    pool = ledger.pools.get(record.endpoint_id)
    if pool is None or record.request_idx in ledger.reservations:
        return
    reservation = Reservation(
        record.request_idx,
        record.endpoint_id,
        record.cost,
        ledger.now,
        ledger.now,
        record.replay_timeout_s,
        present=False,
        told=True,
    )
    worker = ledger.workers.get(record.worker_id)
    if record.worker_id and (worker is None or worker.state not in ACTIVE):
        return  # its worker is gone, or was ordered to go after it was released
    if pool.deleted and worker is None:
        return  # it can wait for nothing
    ledger.reservations[record.request_idx] = reservation
    if worker is None:
        reservation.unseen = True
        pool.add_waiter(reservation, ledger.now)
        ledger.timers.set(ledger.now, Timer.WAITER, record.request_idx)
        return
    # An answer of a moment before the end may be on its way to its client.
    reservation.answers, reservation.used = 1, int(not record.sent)
    reservation.granted_at, reservation.answered_at = ledger.now, float("-inf")
    reservation.expires_at = ledger.now + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
    if record.confirmed:
        reservation.stage, reservation.restored = Stage.SESSION, True
    else:
        reservation.stage = Stage.GRANTED
        ledger.timers.set(reservation.expires_at, Timer.GRANT, record.request_idx)
    ledger.hold(worker, reservation)


# ------------------------------------------------------------------------------------------------------------ questions


def why_waiting(ledger: Ledger, request_idx: int) -> str:
    """One sentence on why a waiter has no worker yet."""
    reservation = ledger.reservations.get(request_idx)
    if reservation is None or reservation.stage is Stage.SESSION:
        return ""
    pool = ledger.pools.get(reservation.endpoint_id)
    if pool is None:
        return "its endpoint is gone"
    if reservation.stage is Stage.GRANTED:
        return f"worker {reservation.worker_id} has not confirmed its grant yet"
    return why_short(ledger, pool)


def workers_counted(count: int) -> str:
    """The number of workers and its verb: "1 worker is", "2 workers are"."""
    return "1 worker is" if count == 1 else f"{count} workers are"


def why_short(ledger: Ledger, pool: Pool) -> str:
    """One sentence on why an endpoint has no free worker."""
    state = pool.parameters.state
    if state is EndpointState.STOPPED:
        return "the endpoint is stopped"
    if not pool.wanting:
        return "nobody who waits has asked for a worker lately"
    failing = [g for g in pool.groups.values() if g.failures and ledger.now < g.next_try_at]
    if pool.booting:
        return f"{workers_counted(pool.booting)} coming up for {len(pool.waiting)} waiting"
    if failing and len(failing) == len(pool.groups):
        group = min(failing, key=lambda g: g.next_try_at)
        return (
            f"workers of workergroup {group.spec.workergroup_id} failed to start {group.failures} times, next try in "
            f"{group.next_try_at - ledger.now:.0f} s: {group.last_error}"
        )
    if state is EndpointState.SUSPENDED:
        return "the endpoint is suspended: no worker is recruited"
    if not pool.groups:
        return "the endpoint has no workergroup"
    if pool.existing >= pool.parameters.max_workers:
        return f"{_told_by_state(pool)}, and max_workers is {pool.parameters.max_workers}"
    wanted = scaling.need(pool)
    if pool.wanting > wanted.places:
        return f"it waits for less than target_queue_time {pool.parameters.target_queue_time:g} s"
    return f"{_told_by_state(pool)}, and another is wanted"


def _told_by_state(pool: Pool) -> str:
    """How many workers are in which state: "3 workers are held, 1 is destroying"; free ones are none to be granted."""
    told = {state.value: count for state, count in pool.counts.items() if count and state is not State.READY}
    mute = pool.counts[State.READY] - len(pool.free)
    if mute:
        told["free but not heard of lately"] = mute
    if not told:
        return "there is no worker"
    (first, count), *others = told.items()
    rest = (f"{n} {'is' if n == 1 else 'are'} {state}" for state, n in others)
    return ", ".join((f"{workers_counted(count)} {first}", *rest))
