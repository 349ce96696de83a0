"""The engine's whole state, and the few ways to change it that keep its tables in step with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.commands import Command, Destroy, Note, Refuse, Stop
from nullworker.core.endpoint import Endpoint
from nullworker.core.reconcile.trust import Listening, Trust
from nullworker.core.reservation import Reservation, ReservationTransition, Stage
from nullworker.core.timers import Timer, Timers
from nullworker.core.waiting_line import WaitingLine
from nullworker.core.worker import (
    TRANSITIONS,
    ImpossibleWorkerTransition,
    Worker,
    WorkerState,
    WorkerTransition,
)
from nullworker.core.workergroup import Workergroup

if TYPE_CHECKING:
    from nullworker.core.parameters import Parameters, WorkergroupSpec
    from nullworker.core.reconcile.unknown_instance import UnknownInstance


class EngineState:
    """Endpoints, workers, reservations and timers; the event in hand, and the commands that it leads to."""

    def __init__(self, timers: Timers) -> None:
        self.now = 0.0
        self.event_number = 0
        self.out: list[Command] = []
        self.endpoints: dict[int, Endpoint] = {}
        self.workergroups: dict[int, Workergroup] = {}
        self.workers: dict[int, Worker] = {}
        self.reservations: dict[int, Reservation] = {}
        self.timers = timers
        self.next_worker_id = 1
        #: Whether anything but configuration has come yet.
        self.begun = False
        self.listening = Listening()
        #: Instances that bear our mark and that are not known, by (fleet, worker id).
        self.unknown_instances: dict[tuple[str, int], UnknownInstance] = {}
        #: Endpoints that the event in hand changed, in the order of the changes: they are to be settled.
        self.dirty: dict[int, None] = {}
        #: What the event in hand changed, to be written down: worker ids and request_idxs.
        self.changed_workers: dict[int, None] = {}
        self.changed_reservations: dict[int, None] = {}
        #: Workers that hold nothing since the event in hand: those that only waited for that are to go.
        self.freed: list[Worker] = []

    # ------------------------------------------------------------------------------------------------------- general

    def begin(self, now: float) -> None:
        """Another event is taken in at ``now``."""
        self.now = now
        self.event_number += 1
        self.out, self.changed_workers, self.changed_reservations = [], {}, {}

    def note(
        self,
        kind: str,
        cause: Cause,
        reason: str,
        *,
        endpoint_id: int = 0,
        worker_id: int = 0,
        request_idx: int = 0,
    ) -> None:
        """Records something that was decided or noticed.

        Args:
            kind: a machine word for what happened.
            cause: why.
            reason: the same as a sentence with numbers, for people.
            endpoint_id: the endpoint that it is about; 0: none.
            worker_id: the worker that it is about; 0: none.
            request_idx: the request that it is about; 0: none.
        """
        self.out.append(Note(kind, endpoint_id, worker_id, request_idx, cause, reason, self.event_number))

    def note_worker(self, worker: Worker, kind: str, cause: Cause, reason: str, *, request_idx: int = 0) -> None:
        """Records something about a worker; see `note`."""
        endpoint_id = worker.workergroup.spec.endpoint_id
        self.note(kind, cause, reason, endpoint_id=endpoint_id, worker_id=worker.worker_id, request_idx=request_idx)

    def mark_dirty(self, endpoint_id: int) -> None:
        """Lets the endpoint be routed and scaled when the event has been taken in."""
        self.dirty[endpoint_id] = None

    # ------------------------------------------------------------------------------------------------------- workers

    def add_worker(
        self, workergroup: Workergroup, worker_id: int, worker_state: WorkerState, *, owned: bool = True
    ) -> Worker:
        """Takes a new worker in.

        Args:
            workergroup: its workergroup.
            worker_id: its number, which no other has or had.
            worker_state: where it is in its life.
            owned: whether it is ours to start, stop and destroy.
        """
        worker = Worker(worker_id, workergroup, worker_state, self.now, Trust(self.now), owned=owned)
        worker.order.given_at = self.now
        self.workers[worker_id] = worker
        endpoint = self.endpoint_of(worker)
        endpoint.workers[worker_id] = worker
        self.changed_workers[worker_id] = None
        endpoint.update_sums(worker)
        self.set_timer_for(worker)
        return worker

    def endpoint_of(self, worker: Worker) -> Endpoint:
        """The worker's endpoint."""
        return self.endpoints[worker.workergroup.spec.endpoint_id]

    def transition(self, worker: Worker, transition: WorkerTransition) -> None:
        """Takes one step in the worker's life.

        Raises:
            ImpossibleWorkerTransition: the table has none such in its state.
        """
        following = TRANSITIONS[worker.state].get(transition)
        if following is None:
            raise ImpossibleWorkerTransition(worker.worker_id, worker.state, transition)
        worker.state = following
        worker.state_since = self.now
        self.changed_workers[worker.worker_id] = None
        endpoint = self.endpoint_of(worker)
        endpoint.update_sums(worker)
        self.mark_dirty(endpoint.endpoint_id)
        if following is WorkerState.GONE:
            self._forget(worker, endpoint)
        else:
            self.set_timer_for(worker)

    def _forget(self, worker: Worker, endpoint: Endpoint) -> None:
        del self.workers[worker.worker_id]
        del endpoint.workers[worker.worker_id]
        endpoint.bound_partly_free()  # its entries are left there
        if worker.trust.awaiting_report:
            endpoint.awaiting_report -= 1
        workergroup = worker.workergroup
        if workergroup.deleted and workergroup.workers == 0:
            self.forget_workergroup(workergroup, Cause.LAST_WORKER_GONE, "its last worker is")
        if endpoint.deleted and not endpoint.workers:
            self.forget_endpoint(endpoint, Cause.LAST_WORKER_GONE, "its last worker is")

    def destroy(self, worker: Worker, cause: Cause, reason: str) -> None:
        """Orders the worker's end; one that is not ours is merely forgotten. What it holds must be dropped before."""
        if not worker.owned:
            if worker.state is not WorkerState.DESTROYING:
                self.transition(worker, WorkerTransition.DESTROY)
            self.transition(worker, WorkerTransition.GO)
            return
        worker.order.given(self.now)
        self.transition(worker, WorkerTransition.DESTROY)
        self.out.append(Destroy(worker.worker_id, worker.workergroup.spec.fleet, cause, reason, self.event_number))

    def stop(self, worker: Worker, cause: Cause, reason: str) -> None:
        """Orders the worker to stop, so that it can be started again. It must hold nothing."""
        worker.order.given(self.now)
        worker.ready_at = None
        self.transition(worker, WorkerTransition.STOP)
        self.out.append(Stop(worker.worker_id, cause, reason, self.event_number))

    # ------------------------------------------------------------------------------------- what is known of a worker

    def set_retire(self, worker: Worker, cause: Cause | None) -> None:
        """Marks the worker to go when it is free (None: it stays after all)."""
        if worker.retire is not cause:
            self.changed_workers[worker.worker_id] = None
            worker.retire = cause
            self._changed(worker)

    def set_perf(self, worker: Worker, perf: float) -> None:
        """Notes the worker's measured perf."""
        if worker.perf != perf:
            self.changed_workers[worker.worker_id] = None
            worker.perf = perf
            self._changed(worker)

    def set_occupancy(self, worker: Worker, occupancy: int) -> None:
        """Notes how many reservations the worker takes."""
        if worker.occupancy != occupancy:
            worker.occupancy = occupancy
            self._changed(worker)

    def saw_sessions(self, worker: Worker, count: int) -> None:
        """The worker was seen to hold this many sessions at once: a report of it listed them."""
        worker.workergroup.most_sessions_seen = max(worker.workergroup.most_sessions_seen, count)
        most = worker.occupancy_known
        if most is not None and count > most:
            self.set_occupancy(worker, count)

    def set_unresponsive(self, worker: Worker, *, unresponsive: bool) -> None:
        """Takes the worker out of routing, or back in."""
        if worker.trust.unresponsive != unresponsive:
            worker.trust.unresponsive = unresponsive
            worker.trust.doubted = worker.trust.doubted and unresponsive
            self._changed(worker)

    def may_hold_until(self, worker: Worker, until: float) -> None:
        """The worker may hold something unknown, or come to hold it until then: it is not ended before it tells."""
        worker.trust.may_hold_until(until)
        self.set_timer_for(worker)

    def doubt(self, worker: Worker, *, used_late: bool = False) -> None:
        """The worker may hold something unknown now, and gets nothing new before it has told.

        Args:
            worker: it.
            used_late: what it may hold is a session by a grant that ran out; a report without a number that comes
                within `RESEND_S` may have been made before that.
        """
        worker.trust.doubted = worker.trust.doubted or used_late
        self.may_hold_until(worker, self.now)
        self.set_unresponsive(worker, unresponsive=True)

    def is_contested(self, worker: Worker) -> bool:
        """Whether what it reported may be of before our start or return, for it cannot hold all of it.

        Its next reports will tell which of its sessions there are.
        """
        may_be_old = worker.trust.may_hold_unknown and self.now < self.listening.since + limits.RESEND_S
        return may_be_old and worker.is_overfull

    def was_absent(self, now: float) -> None:
        """The engine was suspended until ``now``: it creates and ends nothing for a while, and then looks again."""
        self.listening.absent(now)
        for endpoint_id in self.endpoints:
            self.timers.set(self.listening.quiet_until, Timer.SCALE, endpoint_id)

    def heard(self, worker: Worker) -> None:
        """A fresh report came in."""
        trust = worker.trust
        trust.reported_at = self.now
        trust.refusal = ""
        if trust.awaiting_report:
            self.await_no_report(worker)

    def await_no_report(self, worker: Worker) -> None:
        """The worker is not waited for any more."""
        if worker.trust.awaiting_report:
            worker.trust.awaiting_report = False
            endpoint = self.endpoint_of(worker)
            endpoint.awaiting_report -= 1
            self.mark_dirty(endpoint.endpoint_id)

    def await_report(self, worker: Worker) -> None:
        """What came may be of before our start or suspension: the worker is waited for like those that are silent."""
        if not worker.trust.awaiting_report and self.listening.is_quiet(self.now):
            worker.trust.awaiting_report = True
            self.endpoint_of(worker).awaiting_report += 1

    def report_tells(self, worker: Worker, *, numbered: bool) -> bool:
        """A report contradicts nothing; whether it is the one after which the worker holds nothing unknown."""
        if worker.trust.may_hold_unknown_until is not None and worker.trust.heard(
            self.now, self.listening, numbered=numbered
        ):
            self._changed(worker)
            if not worker.held:
                self.freed.append(worker)
            return True
        return False

    def _changed(self, worker: Worker) -> None:
        endpoint = self.endpoint_of(worker)
        endpoint.update_sums(worker)
        self.mark_dirty(endpoint.endpoint_id)

    def set_timer_for(self, worker: Worker) -> None:
        """Sees to it that the worker is looked at when its present state has lasted for too long."""
        due = self.due(worker)
        if due is not None and (worker.timer_at is None or due < worker.timer_at):
            worker.timer_at = due
            self.timers.set(due, Timer.WORKER, worker.worker_id)

    def due(self, worker: Worker) -> float | None:
        """When time alone will change something about the worker."""
        lasting = worker.state
        if worker.order.retry_at is not None:
            return worker.order.retry_at
        if lasting is WorkerState.ASKED:
            return worker.state_since + limits.CREATE_UNKNOWN_S
        if lasting in (WorkerState.STOPPING, WorkerState.DESTROYING):
            return worker.order.given_at + limits.ORDER_TIMEOUT_S
        if lasting in (WorkerState.CREATING, WorkerState.LOADING, WorkerState.STARTING):
            boot = worker.state_since + worker.workergroup.spec.boot_timeout_s
            if lasting is not WorkerState.LOADING:
                return boot
            return min(boot, worker.trust.silence_due(self.listening, held=bool(worker.held)))
        if lasting in (WorkerState.READY, WorkerState.HELD, WorkerState.DRAINING, WorkerState.ERROR):
            return worker.trust.silence_due(self.listening, held=bool(worker.held))
        return None  # an inactive one may stay so for ever

    # -------------------------------------------------------------------------------------------------- reservations

    def grant(self, worker: Worker, reservation: Reservation) -> None:
        """The worker is given to one that waits."""
        self.endpoint_of(worker).line.remove(reservation)
        reservation.transition(ReservationTransition.GRANT)
        reservation.granted_at = self.now
        reservation.delivery.granted(worker.report_order.received)
        self.hold(worker, reservation)

    def hold(self, worker: Worker, reservation: Reservation) -> None:
        """The worker holds the reservation (a grant or a session)."""
        orphan = worker.held.get(reservation.request_idx)
        if orphan is not None:
            self.drop(worker, orphan)  # the same request again: it may be one and the same session
            self.changed_workers[worker.worker_id] = None
            worker.finishes.expect_session(reservation.request_idx)  # or not, and then its end is none of the grant's
        worker.held[reservation.request_idx] = reservation
        reservation.granted_at = reservation.granted_at or self.now  # one that was taken over: since it is known
        self.changed_reservations[reservation.request_idx] = None
        worker.held_cost += reservation.cost
        worker.cold_spare = False
        worker.grant_count += reservation.stage is Stage.GRANTED
        reservation.worker_id = worker.worker_id
        if worker.state is WorkerState.READY:
            self.transition(worker, WorkerTransition.TAKEN)
        else:
            self._changed(worker)

    def confirm(self, worker: Worker, reservation: Reservation, *, may_be_old: bool = False) -> None:
        """The worker says that it has the session that it was granted.

        Args:
            worker: it.
            reservation: the grant.
            may_be_old: what it says may be of an earlier session, and its client still on its way.
        """
        reservation.transition(ReservationTransition.CONFIRM)
        self.changed_reservations[reservation.request_idx] = None
        reservation.delivery.accounted += not may_be_old
        reservation.delivery.maybe_earlier = may_be_old
        worker.grant_count -= 1
        self._changed(worker)

    def reopen(self, worker: Worker, reservation: Reservation) -> None:
        """Its session has ended, and its client was sent to the worker again a moment ago: that is a grant."""
        reservation.transition(ReservationTransition.REOPEN)
        earlier = reservation.delivery.reopened(worker.report_order.received)
        if earlier:
            worker.finishes.expect(reservation.request_idx, earlier)
            self.changed_workers[worker.worker_id] = None
        reservation.granted_at = self.now
        worker.grant_count += 1
        self.changed_reservations[reservation.request_idx] = None
        self.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
        self._changed(worker)

    def drop(self, worker: Worker, reservation: Reservation) -> None:
        """The worker holds the reservation no longer. To be called before the reservation takes its transition."""
        del worker.held[reservation.request_idx]
        worker.grant_count -= reservation.stage is Stage.GRANTED
        worker.held_cost = worker.held_cost - reservation.cost if worker.held else 0.0
        reservation.worker_id = 0
        if reservation.delivery.pending:
            worker.finishes.expect(reservation.request_idx, reservation.delivery.unaccounted)
            self.changed_workers[worker.worker_id] = None
            if self.now < reservation.expires_at:
                self.may_hold_until(worker, reservation.expires_at)  # its client may be on its way to the worker
        if not worker.held:
            self.freed.append(worker)
        if not worker.held and worker.state is WorkerState.HELD:
            worker.free_since = self.now
            self.transition(worker, WorkerTransition.FREED)
        else:
            self._changed(worker)

    def end(self, reservation: Reservation) -> None:
        """The reservation is over, wherever it was."""
        if reservation.worker_id:
            worker = self.workers.get(reservation.worker_id)
            if worker is not None:
                self.drop(worker, reservation)
        elif reservation.stage is Stage.WAITING:
            endpoint = self.endpoints.get(reservation.endpoint_id)
            if endpoint is not None:
                endpoint.line.remove(reservation)
                self.mark_dirty(endpoint.endpoint_id)
        reservation.transition(ReservationTransition.END)
        self.changed_reservations[reservation.request_idx] = None
        if self.reservations.get(reservation.request_idx) is reservation:
            del self.reservations[reservation.request_idx]

    def requeue(self, reservation: Reservation) -> None:
        """Its grant did not take: it waits again, at its old place (or is told that its endpoint goes)."""
        worker = self.workers.get(reservation.worker_id)
        endpoint = self.endpoints[reservation.endpoint_id]
        if endpoint.deleted:
            self.end(reservation)
            reason = f"endpoint {endpoint.name} is being deleted"
            self.refuse(reservation.request_idx, endpoint.endpoint_id, Cause.ENDPOINT_DELETED, reason)
            return
        if worker is not None:
            self.drop(worker, reservation)
        if reservation.stage is Stage.SESSION:
            reservation.transition(ReservationTransition.REOPEN)
        reservation.transition(ReservationTransition.REQUEUE)
        self.changed_reservations[reservation.request_idx] = None
        reservation.delivery.withdrawn()
        reservation.worker_id = 0
        reservation.absent = not reservation.present and self.now - reservation.seen_at > limits.POLL_GRACE_S
        endpoint.line.add(reservation, self.now)
        self.mark_dirty(endpoint.endpoint_id)
        self.timers.set(self.now, Timer.WAITER, reservation.request_idx)

    def refuse(self, request_idx: int, endpoint_id: int, cause: Cause, reason: str) -> None:
        """Tells a client that it gets no worker."""
        self.out.append(Refuse(request_idx, endpoint_id, cause, reason, self.event_number))

    # --------------------------------------------------------------------------------------------------- definitions

    def put_endpoint(self, endpoint_id: int, name: str, parameters: Parameters) -> None:
        """Creates an endpoint, or changes its name and parameters."""
        endpoint = self.endpoints.get(endpoint_id)
        if endpoint is None:
            line = WaitingLine(parameters.target_queue_time)
            self.endpoints[endpoint_id] = Endpoint(endpoint_id, name, parameters, line)
            return
        endpoint.name, endpoint.parameters, endpoint.overdue_at = name, parameters, None
        endpoint.line.set_target(parameters.target_queue_time, self.now)
        for worker in endpoint.workers.values():
            if worker.held:
                endpoint.update_sums(worker)
                endpoint.update_partly_free(worker)  # by the new max_queue_time
        endpoint.scale_down_at = None

    def put_workergroup(self, spec: WorkergroupSpec) -> None:
        """Creates or changes a workergroup; its endpoint must exist."""
        workergroup = self.workergroups.get(spec.workergroup_id)
        endpoint = self.endpoints[spec.endpoint_id]
        if workergroup is None:
            workergroup = Workergroup(spec)
            self.workergroups[spec.workergroup_id] = workergroup
            endpoint.workergroups[spec.workergroup_id] = workergroup
        elif workergroup.spec.endpoint_id != spec.endpoint_id or workergroup.deleted:
            return  # a workergroup does not move between endpoints: its workers carry the old one's token
        workergroup.changed(spec)
        for worker in endpoint.workers.values():
            if worker.workergroup is workergroup:
                endpoint.update_sums(worker)
        self.mark_dirty(spec.endpoint_id)

    def forget_workergroup(self, workergroup: Workergroup, cause: Cause, why: str) -> None:
        """Nothing is left of a deleted workergroup; ``why`` ends the sentence about it."""
        spec = workergroup.spec
        self.workergroups.pop(spec.workergroup_id, None)
        self.endpoints[spec.endpoint_id].workergroups.pop(spec.workergroup_id, None)
        reason = f"workergroup {spec.workergroup_id} is gone: {why}"
        self.note("workergroup_deleted", cause, reason, endpoint_id=spec.endpoint_id)

    def forget_endpoint(self, endpoint: Endpoint, cause: Cause, why: str) -> None:
        """Nothing is left of a deleted endpoint; ``why`` ends the sentence about it."""
        for workergroup_id in list(endpoint.workergroups):
            self.workergroups.pop(workergroup_id, None)
        self.endpoints.pop(endpoint.endpoint_id, None)
        reason = f"endpoint {endpoint.name} is gone: {why}"
        self.note("endpoint_deleted", cause, reason, endpoint_id=endpoint.endpoint_id)
