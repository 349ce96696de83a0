"""The engine's whole state, and the few ways to change it that keep its tables in step with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Command, Destroy, Note, Refuse
from nullworker.core.endpoint import Endpoint, Workergroup
from nullworker.core.reservation import Reservation, ReservationTransition, Stage
from nullworker.core.timers import Timer, Timers
from nullworker.core.worker import TRANSITIONS, ImpossibleWorkerTransition, Worker, WorkerState, WorkerTransition

if TYPE_CHECKING:
    from nullworker.core.parameters import WorkergroupSpec


class EngineState:
    """Pools, workers, reservations and timers; ``now`` and ``cause`` of the event in hand; the commands it leads to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cause = 0
        self.out: list[Command] = []
        self.endpoints: dict[int, Endpoint] = {}
        self.workergroups: dict[int, Workergroup] = {}
        self.workers: dict[int, Worker] = {}
        self.reservations: dict[int, Reservation] = {}
        self.timers = Timers()
        self.next_worker_id = 1
        #: Whether anything but configuration has come yet.
        self.begun = False
        #: Silence before this is ours (we were down or suspended), not the workers'.
        self.listening_since = 0.0
        #: Until then nothing is trimmed.
        self.quiet_until = 0.0
        #: Instances that bear our mark and that we do not know: (fleet, worker id) -> since when.
        self.unknown_instances: dict[tuple[str, int], float] = {}
        #: Endpoints that the event in hand touched, in the order of touching.
        self.dirty: dict[int, None] = {}
        #: What the event in hand changed, for whoever writes it down: worker ids and request_idxs.
        self.changed_workers: dict[int, None] = {}
        self.changed_reservations: dict[int, None] = {}
        #: Workers that hold nothing since the event in hand: those that only waited for that are to go.
        self.freed: list[Worker] = []

    # ------------------------------------------------------------------------------------------------------- general

    def note(self, kind: str, reason: str, *, endpoint_id: int = 0, worker_id: int = 0, request_idx: int = 0) -> None:
        """Records something that was decided or noticed."""
        self.out.append(Note(kind, endpoint_id, worker_id, request_idx, reason, self.cause))

    def mark_dirty(self, endpoint_id: int) -> None:
        """Lets the endpoint be routed and scaled when the event has been taken in."""
        self.dirty[endpoint_id] = None

    # ------------------------------------------------------------------------------------------------------- workers

    def add_worker(self, workergroup: Workergroup, worker_id: int, state: WorkerState, *, owned: bool = True) -> Worker:
        """Takes a new worker in."""
        worker = Worker(worker_id, workergroup, state, self.now, owned=owned, generation=workergroup.generation)
        worker.order_at = worker.reported_at = self.now
        self.workers[worker_id] = worker
        endpoint = self.endpoint_of(worker)
        endpoint.workers[worker_id] = worker
        self.changed_workers[worker_id] = None
        endpoint.update_sums(worker)
        self.set_timer_for(worker)
        return worker

    def endpoint_of(self, worker: Worker) -> Endpoint:
        """The pool of the worker's endpoint."""
        return self.endpoints[worker.workergroup.spec.endpoint_id]

    def transition(self, worker: Worker, transition: WorkerTransition) -> None:
        """Takes one turn in the worker's life.

        Raises:
            ImpossibleTransition: the table has none such in its state.
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
        if worker.awaiting_report:
            endpoint.awaiting_report -= 1
        workergroup = worker.workergroup
        if workergroup.deleted and workergroup.workers == 0:
            self.forget_workergroup(workergroup, "its last worker is")
        if endpoint.deleted and not endpoint.workers:
            for workergroup_id in list(endpoint.workergroups):
                self.workergroups.pop(workergroup_id, None)
            del self.endpoints[endpoint.endpoint_id]
            self.note(
                "endpoint_deleted",
                f"endpoint {endpoint.name} is gone: its last worker is",
                endpoint_id=endpoint.endpoint_id,
            )

    def forget_workergroup(self, workergroup: Workergroup, why: str) -> None:
        """Nothing is left of a deleted workergroup."""
        spec = workergroup.spec
        self.workergroups.pop(spec.workergroup_id, None)
        self.endpoints[spec.endpoint_id].workergroups.pop(spec.workergroup_id, None)
        self.note(
            "workergroup_deleted", f"workergroup {spec.workergroup_id} is gone: {why}", endpoint_id=spec.endpoint_id
        )

    def set_unresponsive(self, worker: Worker, *, unresponsive: bool) -> None:
        """Takes the worker out of routing, or back in."""
        if worker.unresponsive != unresponsive:
            worker.unresponsive = unresponsive
            self._changed(worker)

    def set_may_hold_unknown(self, worker: Worker, until: float) -> None:
        """The worker may hold something that we do not know of, or come to hold it until then: its reports will tell.

        Of a worker that numbers its reports the second one after ``until`` was made after it, for it makes one when
        the one before has arrived. Others may send an old one again.
        """
        worker.may_hold_unknown_until = max(until, worker.may_hold_unknown_until or until)
        worker.reports_wanted = 2
        self.set_timer_for(worker)

    @staticmethod
    def expect_finish(worker: Worker, request_idx: int, count: int = 1) -> None:
        """The worker may tell so many ends of this request yet that say nothing of what it is granted later."""
        worker.pending_finishes[request_idx] = worker.pending_finishes.pop(request_idx, 0) + count
        if len(worker.pending_finishes) > limits.FINISHED_MEMORY:
            del worker.pending_finishes[next(iter(worker.pending_finishes))]

    def report_lessens_unknown(self, worker: Worker) -> None:
        """A fresh report came. When there is no doubt left, a worker that was only kept for it goes."""
        until = worker.may_hold_unknown_until
        if until is None or self.now < (until if worker.seq else until + limits.RESEND_S):
            return
        worker.reports_wanted -= 1 if worker.seq else 2
        if worker.reports_wanted <= 0:
            worker.may_hold_unknown_until = None
            self._changed(worker)
            if not worker.held:
                self.freed.append(worker)

    def set_retire(self, worker: Worker, reason: str) -> None:
        """Marks the worker to go when it is free ("": it stays after all)."""
        if worker.retire != reason:
            self.changed_workers[worker.worker_id] = None
            worker.retire = reason
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

    def heard(self, worker: Worker) -> None:
        """A fresh report came in."""
        worker.reported_at = self.now
        if worker.awaiting_report:
            worker.awaiting_report = False
            endpoint = self.endpoint_of(worker)
            endpoint.awaiting_report -= 1
            self.mark_dirty(endpoint.endpoint_id)

    def await_report(self, worker: Worker) -> None:
        """What came may be of before our start, or our sleep: the worker is waited for like those that are silent."""
        if not worker.awaiting_report and self.now < self.quiet_until:
            worker.awaiting_report = True
            self.endpoint_of(worker).awaiting_report += 1

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
        state = worker.state
        if worker.retry_at is not None:
            return worker.retry_at
        if state is WorkerState.ASKED:
            return worker.state_since + limits.CREATE_UNKNOWN_S
        if state in (WorkerState.STOPPING, WorkerState.DESTROYING):
            return worker.order_at + limits.ORDER_TIMEOUT_S
        if state in (WorkerState.CREATING, WorkerState.LOADING, WorkerState.STARTING):
            boot = worker.state_since + worker.workergroup.spec.boot_timeout_s
            return min(boot, self._silence_due(worker)) if state is WorkerState.LOADING else boot
        if state in (WorkerState.READY, WorkerState.HELD, WorkerState.DRAINING, WorkerState.ERROR):
            return self._silence_due(worker)
        return None  # an inactive one may stay so for ever

    def _silence_due(self, worker: Worker) -> float:
        since = max(worker.reported_at, self.listening_since)
        if not worker.unresponsive:
            return since + limits.SUSPECT_AFTER_S
        return since + (
            limits.SILENCE_FAILS_HELD_S if worker.held or worker.may_hold_unknown else limits.SILENCE_FAILS_S
        )

    def destroy(self, worker: Worker, reason: str) -> None:
        """Orders the worker's end; one that is not ours is merely forgotten. What it holds must be dropped before."""
        if not worker.owned:
            if worker.state is not WorkerState.DESTROYING:
                self.transition(worker, WorkerTransition.DESTROY)
            self.transition(worker, WorkerTransition.GO)
            return
        worker.attempts, worker.retry_at, worker.order_at = 0, None, self.now
        self.transition(worker, WorkerTransition.DESTROY)
        self.out.append(Destroy(worker.worker_id, worker.workergroup.spec.fleet, reason, self.cause))

    # -------------------------------------------------------------------------------------------------- reservations

    def hold(self, worker: Worker, reservation: Reservation) -> None:
        """The worker holds the reservation (a grant or a session)."""
        orphan = worker.held.get(reservation.request_idx)
        if orphan is not None:
            self.drop(worker, orphan)  # the same request again: it is one and the same session
        worker.held[reservation.request_idx] = reservation
        reservation.granted_at = reservation.granted_at or self.now  # one that we took over: since we know of it
        self.changed_reservations[reservation.request_idx] = None
        worker.held_cost += reservation.cost
        worker.cold_spare = False
        worker.grant_count += reservation.stage is Stage.GRANTED
        reservation.worker_id = worker.worker_id
        if worker.state is WorkerState.READY:
            self.transition(worker, WorkerTransition.TAKEN)
        else:
            self._changed(worker)

    def confirm(self, worker: Worker, reservation: Reservation) -> None:
        """The worker says that it has the session that it was granted."""
        reservation.transition(ReservationTransition.CONFIRM)
        self.changed_reservations[reservation.request_idx] = None
        reservation.accounted += 1
        worker.grant_count -= 1
        self._changed(worker)

    def reopen(self, worker: Worker, reservation: Reservation) -> None:
        """Its session has ended, and its client was sent to the worker again a moment ago: that is a grant."""
        reservation.transition(ReservationTransition.REOPEN)
        # Besides the last answer, and that of the session, whose end is expected already, there may have been others:
        # what came of those may be told yet, and says nothing of the session to come.
        if reservation.deliveries > 2:
            self.expect_finish(worker, reservation.request_idx, reservation.deliveries - 2)
        reservation.accounted = reservation.deliveries - 1
        reservation.granted_at, reservation.received = self.now, worker.received
        worker.grant_count += 1
        self.changed_reservations[reservation.request_idx] = None
        self.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
        self._changed(worker)

    def saw_sessions(self, worker: Worker, sessions: int) -> None:
        """The worker was seen to hold this many sessions at once: a report of it listed them."""
        worker.workergroup.seen = max(worker.workergroup.seen, sessions)
        most = worker.occupancy_known
        if most is not None and sessions > most:
            self.set_occupancy(worker, sessions)

    def drop(self, worker: Worker, reservation: Reservation) -> None:
        """The worker holds the reservation no longer. To be called before the reservation takes its step."""
        del worker.held[reservation.request_idx]
        worker.grant_count -= reservation.stage is Stage.GRANTED
        worker.held_cost = worker.held_cost - reservation.cost if worker.held else 0.0
        reservation.worker_id = 0
        if reservation.sent:
            self.expect_finish(worker, reservation.request_idx, reservation.deliveries - reservation.accounted)
            if self.now < reservation.expires_at:
                self.set_may_hold_unknown(
                    worker, reservation.expires_at
                )  # an answer of it may be on its way to the worker
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
                endpoint.remove_waiter(reservation)
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
            self.out.append(Refuse(reservation.request_idx, endpoint.endpoint_id, reason, self.cause))
            return
        if worker is not None:
            self.drop(worker, reservation)
        reservation.transition(ReservationTransition.REQUEUE)
        self.changed_reservations[reservation.request_idx] = None
        reservation.refused += 1
        reservation.deliveries = reservation.accounted = 0
        reservation.answer_again_at = None
        reservation.worker_id = 0
        reservation.absent = not reservation.present and self.now - reservation.seen_at > limits.POLL_GRACE_S
        endpoint.add_waiter(reservation, self.now)
        self.mark_dirty(endpoint.endpoint_id)
        self.timers.set(self.now, Timer.WAITER, reservation.request_idx)

    # --------------------------------------------------------------------------------------------------- definitions

    def put_workergroup(self, spec: WorkergroupSpec) -> None:
        """Creates or changes a workergroup; its endpoint must exist."""
        workergroup = self.workergroups.get(spec.workergroup_id)
        if workergroup is None:
            workergroup = Workergroup(spec)
            self.workergroups[spec.workergroup_id] = workergroup
            self.endpoints[spec.endpoint_id].workergroups[spec.workergroup_id] = workergroup
        elif workergroup.spec.endpoint_id != spec.endpoint_id or workergroup.deleted:
            return  # a workergroup does not move between endpoints: its workers carry the old one's token
        workergroup.spec = spec
        workergroup.failures, workergroup.next_try_at, workergroup.last_error = 0, 0.0, ""
        endpoint = self.endpoints[spec.endpoint_id]
        for worker in endpoint.workers.values():
            if worker.workergroup is workergroup:
                endpoint.update_sums(worker)
        self.mark_dirty(spec.endpoint_id)
