"""What operators do, taken in: endpoints and workergroups come, change and go; an engine comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits, routing, scaling
from nullworker.core.commands import Create, Destroy, Start, Stop
from nullworker.core.endpoint import Endpoint
from nullworker.core.failures import retire, stop
from nullworker.core.parameters import EndpointState
from nullworker.core.reservation import Reservation, Stage
from nullworker.core.timers import Timer
from nullworker.core.worker import ACTIVE, BOOTING, WorkerState, WorkerTransition

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
    from nullworker.core.state import EngineState


def endpoint_put(state: EngineState, event: EndpointPut) -> None:
    """An endpoint is made, or its parameters change."""
    endpoint = state.endpoints.get(event.endpoint_id)
    if endpoint is None:
        state.endpoints[event.endpoint_id] = Endpoint(event.endpoint_id, event.name, event.parameters)
        state.mark_dirty(event.endpoint_id)
        return
    if endpoint.deleted:
        return
    waiters = list(endpoint.waiting.values())
    for waiter in waiters:
        endpoint.remove_waiter(waiter)
    endpoint.name, endpoint.parameters, endpoint.overdue_at = event.name, event.parameters, None
    for waiter in waiters:
        endpoint.add_waiter(waiter, state.now)  # by the new target_queue_time
    for worker in endpoint.workers.values():
        if worker.held:
            endpoint.update_sums(worker)
            endpoint.update_partly_free(worker)  # by the new max_queue_time
    endpoint.scale_down_at = None
    if endpoint.parameters.state is EndpointState.STOPPED:
        for worker in list(endpoint.workers.values()):
            if (
                worker.owned
                and not (worker.held or worker.may_hold_unknown)
                and worker.state in (WorkerState.READY, WorkerState.STARTING)
            ):
                stop(state, worker, "its endpoint is stopped")
    state.mark_dirty(event.endpoint_id)


def endpoint_deleted(state: EngineState, event: EndpointDeleted) -> None:
    """An endpoint goes: its waiters are told, its free workers go now, its held ones when they are released."""
    endpoint = state.endpoints.get(event.endpoint_id)
    if endpoint is None:
        return
    endpoint.deleted = True
    routing.refuse_all(state, endpoint, f"endpoint {endpoint.name} is being deleted")
    for worker in list(endpoint.workers.values()):
        retire(state, worker, f"endpoint {endpoint.name} is deleted", force=event.force)
    if not endpoint.workers and event.endpoint_id in state.endpoints:
        for workergroup_id in list(endpoint.workergroups):
            state.workergroups.pop(workergroup_id, None)
        state.endpoints.pop(event.endpoint_id, None)
        state.note(
            "endpoint_deleted", f"endpoint {endpoint.name} is gone: it had no workers", endpoint_id=event.endpoint_id
        )


def workergroup_put(state: EngineState, event: WorkergroupPut) -> None:
    """A workergroup is made or changed."""
    if event.workergroup.endpoint_id in state.endpoints:
        state.put_workergroup(event.workergroup)


def workergroup_deleted(state: EngineState, event: WorkergroupDeleted) -> None:
    """A workergroup goes: its free workers now, its held ones when they are released."""
    workergroup = state.workergroups.get(event.workergroup_id)
    if workergroup is None:
        return
    workergroup.deleted = True
    endpoint = state.endpoints[workergroup.spec.endpoint_id]
    for worker in [w for w in endpoint.workers.values() if w.workergroup is workergroup]:
        retire(state, worker, f"workergroup {event.workergroup_id} is deleted")
    if not workergroup.workers and event.workergroup_id in state.workergroups:
        state.forget_workergroup(workergroup, "it had no workers")
    state.mark_dirty(endpoint.endpoint_id)


def workers_updated(state: EngineState, event: WorkersUpdated) -> None:
    """A rolling update of a workergroup, or its cancelling."""
    workergroup = state.workergroups.get(event.workergroup_id)
    if workergroup is None:
        return
    endpoint = state.endpoints[workergroup.spec.endpoint_id]
    workers = [w for w in endpoint.workers.values() if w.workergroup is workergroup and w.owned]
    if event.cancel:
        for worker in workers:
            if worker.retire == _UPDATE:
                state.set_retire(worker, "")
                if worker.state is WorkerState.DRAINING:
                    state.transition(worker, WorkerTransition.UNDRAIN)
                    if not worker.held:  # it was only kept for a doubt
                        worker.free_since = state.now
                        state.transition(worker, WorkerTransition.FREED)
        return
    workergroup.generation += 1
    for worker in workers:
        if not worker.retire:
            retire(state, worker, _UPDATE)


_UPDATE = "its workergroup is updated"


def worker_joined(state: EngineState, event: WorkerJoined) -> None:
    """A worker that somebody else started is here."""
    workergroup = state.workergroups.get(event.workergroup_id)
    if workergroup is None or event.worker_id in state.workers or workergroup.deleted:
        return
    state.add_worker(workergroup, event.worker_id, WorkerState.CREATING, owned=False)
    _number_taken(state, event.worker_id)
    state.note(
        "worker_joined",
        "it reported with the endpoint's join token",
        endpoint_id=workergroup.spec.endpoint_id,
        worker_id=event.worker_id,
    )


def _number_taken(state: EngineState, worker_id: int) -> None:
    """Workers that we make have numbers beyond this one; none of them ever reaches those kept for joining."""
    if worker_id < limits.JOINED_IDS_FROM:
        state.next_worker_id = max(state.next_worker_id, worker_id + 1)


# -------------------------------------------------------------------------------------------------------------- restart


def restored(state: EngineState, event: Restored) -> None:
    """Takes over what an engine before this one knew. Nobody is granted before he has reported."""
    state.next_worker_id = max(state.next_worker_id, event.next_worker_id)
    state.listening_since = state.now
    if event.workers:
        state.quiet_until = state.now + limits.QUIET_S
    holding = {reservation.worker_id for reservation in event.reservations}
    for record in event.workers:
        _restore_worker(state, record, holds=record.worker_id in holding)
    _order_again(state)
    for reservation in event.reservations:
        _restore_reservation(state, reservation)
    for record in event.workers:
        retiring = state.workers.get(record.worker_id)
        if retiring is not None and record.retire:
            retire(state, retiring, record.retire)
    for endpoint in state.endpoints.values():
        state.mark_dirty(endpoint.endpoint_id)
        state.timers.set(state.quiet_until, Timer.SCALE, endpoint.endpoint_id)
    left = len(event.workers) + len(event.reservations) - len(state.workers) - len(state.reservations)
    state.note(
        "restored",
        f"{len(state.workers)} workers and {len(state.reservations)} reservations taken over"
        + (f"; {left} that have nowhere to belong to any more were not" if left else ""),
    )


def _restore_worker(state: EngineState, record: RestoredWorker, *, holds: bool) -> None:
    workergroup = state.workergroups.get(record.workergroup_id)
    if workergroup is None or record.worker_id in state.workers:
        return  # no such workergroup any more: its fleet will list the instance as a stranger
    _number_taken(state, record.worker_id)
    restored_as = _RESTORED_AS.get(record.state)
    if restored_as is None:
        return
    if holds and restored_as in BOOTING:
        restored_as = WorkerState.READY  # it was granted, so it was ready: its record is older
    worker = state.add_worker(workergroup, record.worker_id, restored_as, owned=record.owned)
    worker.url, worker.perf = record.url, record.perf
    worker.free_since = state.now
    endpoint = state.endpoint_of(worker)
    if restored_as in ACTIVE:
        worker.awaiting_report = worker.unresponsive = True
        worker.may_hold_unknown_until, worker.reports_wanted = state.now, 2  # the doubts of before are not known
        endpoint.awaiting_report += 1
        worker.ready_at = state.now
    endpoint.update_sums(worker)


#: How a worker comes back, by the state it was last written down in. One that held something, was on its way out or
#: had failed is asked like the others: its next report tells.
_RESTORED_AS: dict[str, WorkerState] = {
    **{state.value: state for state in WorkerState if state is not WorkerState.GONE},
    WorkerState.HELD.value: WorkerState.READY,
    WorkerState.DRAINING.value: WorkerState.READY,
    WorkerState.ERROR.value: WorkerState.READY,
}


def _order_again(state: EngineState) -> None:
    """Repeats the orders that were under way: nobody knows whether they were carried out, and twice is no harm.

    But for creations beyond a `max_workers` that was lowered meanwhile: those of the newest are given up.
    """
    for endpoint in state.endpoints.values():
        most = endpoint.parameters.max_workers
        asked = [worker for worker in endpoint.workers.values() if worker.state is WorkerState.ASKED]
        given_up = set(asked[-(endpoint.existing - most) :]) if endpoint.existing > most else set()
        for worker in list(endpoint.workers.values()):
            reason = f"the engine was restarted while it was {worker.state.value}"
            if not worker.owned:
                continue
            if worker in given_up:
                state.destroy(worker, f"{reason}, and max_workers is {most}")
            elif worker.state is WorkerState.ASKED:
                state.out.append(Create(worker.worker_id, worker.workergroup.spec.workergroup_id, reason, state.cause))
            elif worker.state is WorkerState.STARTING:
                state.out.append(Start(worker.worker_id, reason, state.cause))
            elif worker.state is WorkerState.STOPPING:
                state.out.append(Stop(worker.worker_id, reason, state.cause))
            elif worker.state is WorkerState.DESTROYING:
                state.out.append(Destroy(worker.worker_id, worker.workergroup.spec.fleet, reason, state.cause))


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
        endpoint.add_waiter(reservation, state.now)
        state.timers.set(state.now, Timer.WAITER, record.request_idx)
        return
    # An answer of a moment before the end may be on its way to its client.
    reservation.deliveries, reservation.accounted = 1, int(not record.sent)
    reservation.granted_at, reservation.answered_at = state.now, float("-inf")
    reservation.expires_at = state.now + limits.GRANT_TTL_S + limits.GRANT_REPORT_S
    if record.confirmed:
        reservation.stage, reservation.restored = Stage.SESSION, True
    else:
        reservation.stage = Stage.GRANTED
        state.timers.set(reservation.expires_at, Timer.GRANT, record.request_idx)
    state.hold(worker, reservation)


# ------------------------------------------------------------------------------------------------------------ questions


def why_waiting(state: EngineState, request_idx: int) -> str:
    """One sentence on why a waiter has no worker yet."""
    reservation = state.reservations.get(request_idx)
    if reservation is None or reservation.stage is Stage.SESSION:
        return ""
    endpoint = state.endpoints.get(reservation.endpoint_id)
    if endpoint is None:
        return "its endpoint is gone"
    if reservation.stage is Stage.GRANTED:
        return f"worker {reservation.worker_id} has not confirmed its grant yet"
    return why_short(state, endpoint)


def workers_counted(count: int) -> str:
    """The number of workers and its verb: "1 worker is", "2 workers are"."""
    return "1 worker is" if count == 1 else f"{count} workers are"


def why_short(state: EngineState, endpoint: Endpoint) -> str:
    """One sentence on why an endpoint has no free worker."""
    endpoint_state = endpoint.parameters.state
    if endpoint_state is EndpointState.STOPPED:
        return "the endpoint is stopped"
    if not endpoint.active_waiters:
        return "nobody who waits has asked for a worker lately"
    failing = [g for g in endpoint.workergroups.values() if g.failures and state.now < g.next_try_at]
    if endpoint.booting:
        return f"{workers_counted(endpoint.booting)} coming up for {len(endpoint.waiting)} waiting"
    if failing and len(failing) == len(endpoint.workergroups):
        workergroup = min(failing, key=lambda g: g.next_try_at)
        return (
            f"workers of workergroup {workergroup.spec.workergroup_id} failed to start {workergroup.failures} times, "
            f"next try in {workergroup.next_try_at - state.now:.0f} s: {workergroup.last_error}"
        )
    if endpoint_state is EndpointState.SUSPENDED:
        return "the endpoint is suspended: no worker is recruited"
    if not endpoint.workergroups:
        return "the endpoint has no workergroup"
    if endpoint.existing >= endpoint.parameters.max_workers:
        return f"{_told_by_state(endpoint)}, and max_workers is {endpoint.parameters.max_workers}"
    wanted = scaling.need(endpoint)
    if endpoint.active_waiters > wanted.places:
        return f"it waits for less than target_queue_time {endpoint.parameters.target_queue_time:g} s"
    return f"{_told_by_state(endpoint)}, and another is wanted"


def _told_by_state(endpoint: Endpoint) -> str:
    """How many workers are in which state: "3 workers are held, 1 is destroying"; free ones are none to be granted."""
    told = {state.value: count for state, count in endpoint.counts.items() if count and state is not WorkerState.READY}
    mute = endpoint.counts[WorkerState.READY] - len(endpoint.free)
    if mute:
        told["free but not heard of lately"] = mute
    if not told:
        return "there is no worker"
    (first, count), *others = told.items()
    rest = (f"{n} {'is' if n == 1 else 'are'} {state}" for state, n in others)
    return ", ".join((f"{workers_counted(count)} {first}", *rest))
