"""The engine's whole state, and the few ways to change it that keep its tables in step with each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import limits
from nullworker.core.commands import Command, Destroy, Note, Refuse
from nullworker.core.pool import Group, Pool
from nullworker.core.reservations import Reservation, Stage, Step
from nullworker.core.timers import Timer, Timers
from nullworker.core.workers import TRANSITIONS, ImpossibleTransition, State, Turn, Worker

if TYPE_CHECKING:
    from nullworker.core.endpoints import Workergroup


class Ledger:
    """Pools, workers, reservations and timers; ``now`` and ``cause`` of the event in hand; the commands it leads to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.cause = 0
        self.out: list[Command] = []
        self.pools: dict[int, Pool] = {}
        self.groups: dict[int, Group] = {}
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
        self.strangers: dict[tuple[str, int], float] = {}
        #: Endpoints that the event in hand touched, in the order of touching.
        self.touched: dict[int, None] = {}
        #: What the event in hand changed, for whoever writes it down: worker ids and request_idxs.
        self.changed_workers: dict[int, None] = {}
        self.changed_reservations: dict[int, None] = {}
        #: Workers that hold nothing since the event in hand: those that only waited for that are to go.
        self.freed: list[Worker] = []

    # ------------------------------------------------------------------------------------------------------- general

    def note(self, kind: str, reason: str, *, endpoint_id: int = 0, worker_id: int = 0, request_idx: int = 0) -> None:
        """Records something that was decided or noticed."""
        self.out.append(Note(kind, endpoint_id, worker_id, request_idx, reason, self.cause))

    def touch(self, endpoint_id: int) -> None:
        """Lets the endpoint be routed and scaled when the event has been taken in."""
        self.touched[endpoint_id] = None

    # ------------------------------------------------------------------------------------------------------- workers

    def add_worker(self, group: Group, worker_id: int, state: State, *, owned: bool = True) -> Worker:
        """Takes a new worker in."""
        worker = Worker(worker_id, group, state, self.now, owned=owned, generation=group.generation)
        worker.order_at = worker.reported_at = self.now
        self.workers[worker_id] = worker
        pool = self.pool_of(worker)
        pool.workers[worker_id] = worker
        self.changed_workers[worker_id] = None
        pool.reckon(worker)
        self.watch(worker)
        return worker

    def pool_of(self, worker: Worker) -> Pool:
        """The pool of the worker's endpoint."""
        return self.pools[worker.group.spec.endpoint_id]

    def turn(self, worker: Worker, turn: Turn) -> None:
        """Takes one turn in the worker's life.

        Raises:
            ImpossibleTransition: the table has none such in its state.
        """
        following = TRANSITIONS[worker.state].get(turn)
        if following is None:
            raise ImpossibleTransition(worker.worker_id, worker.state, turn)
        worker.state = following
        worker.state_since = self.now
        self.changed_workers[worker.worker_id] = None
        pool = self.pool_of(worker)
        pool.reckon(worker)
        self.touch(pool.endpoint_id)
        if following is State.GONE:
            self._forget(worker, pool)
        else:
            self.watch(worker)

    def _forget(self, worker: Worker, pool: Pool) -> None:
        del self.workers[worker.worker_id]
        del pool.workers[worker.worker_id]
        if worker.unheard:
            pool.unheard -= 1
        group = worker.group
        if group.deleted and group.workers == 0:
            self.forget_group(group, "its last worker is")
        if pool.deleted and not pool.workers:
            for group_id in list(pool.groups):
                self.groups.pop(group_id, None)
            del self.pools[pool.endpoint_id]
            self.note(
                "endpoint_deleted", f"endpoint {pool.name} is gone: its last worker is", endpoint_id=pool.endpoint_id
            )

    def forget_group(self, group: Group, why: str) -> None:
        """Nothing is left of a deleted workergroup."""
        spec = group.spec
        self.groups.pop(spec.workergroup_id, None)
        self.pools[spec.endpoint_id].groups.pop(spec.workergroup_id, None)
        self.note(
            "workergroup_deleted", f"workergroup {spec.workergroup_id} is gone: {why}", endpoint_id=spec.endpoint_id
        )

    def set_suspect(self, worker: Worker, *, suspect: bool) -> None:
        """Takes the worker out of routing, or back in."""
        if worker.suspect != suspect:
            worker.suspect = suspect
            self._changed(worker)

    def set_doubt(self, worker: Worker, until: float) -> None:
        """The worker may hold something that we do not know of, or come to hold it until then: its reports will tell.

        Of a worker that numbers its reports the second one after ``until`` was made after it, for it makes one when
        the one before has arrived. Others may send an old one again.
        """
        worker.doubt_until = max(until, worker.doubt_until or until)
        worker.doubt_reports = 2
        self.watch(worker)

    @staticmethod
    def expect_end(worker: Worker, request_idx: int, count: int = 1) -> None:
        """The worker may tell so many ends of this request yet that say nothing of what it is granted later."""
        worker.loose[request_idx] = worker.loose.pop(request_idx, 0) + count
        if len(worker.loose) > limits.FINISHED_MEMORY:
            del worker.loose[next(iter(worker.loose))]

    def lessen_doubt(self, worker: Worker) -> None:
        """A fresh report came. When there is no doubt left, a worker that was only kept for it goes."""
        until = worker.doubt_until
        if until is None or self.now < (until if worker.seq else until + limits.RESEND_S):
            return
        worker.doubt_reports -= 1 if worker.seq else 2
        if worker.doubt_reports <= 0:
            worker.doubt_until = None
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
        if worker.unheard:
            worker.unheard = False
            pool = self.pool_of(worker)
            pool.unheard -= 1
            self.touch(pool.endpoint_id)

    def not_heard(self, worker: Worker) -> None:
        """What came may be of before our start, or our sleep: the worker is waited for like those that are silent."""
        if not worker.unheard and self.now < self.quiet_until:
            worker.unheard = True
            self.pool_of(worker).unheard += 1

    def _changed(self, worker: Worker) -> None:
        pool = self.pool_of(worker)
        pool.reckon(worker)
        self.touch(pool.endpoint_id)

    def watch(self, worker: Worker) -> None:
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
        if state is State.ASKED:
            return worker.state_since + limits.CREATE_UNKNOWN_S
        if state in (State.STOPPING, State.DESTROYING):
            return worker.order_at + limits.ORDER_TIMEOUT_S
        if state in (State.CREATING, State.LOADING, State.STARTING):
            boot = worker.state_since + worker.group.spec.boot_timeout_s
            return min(boot, self._silence_due(worker)) if state is State.LOADING else boot
        if state in (State.READY, State.HELD, State.DRAINING, State.ERROR):
            return self._silence_due(worker)
        return None  # an inactive one may stay so for ever

    def _silence_due(self, worker: Worker) -> float:
        since = max(worker.reported_at, self.listening_since)
        if not worker.suspect:
            return since + limits.SUSPECT_AFTER_S
        return since + (limits.SILENCE_FAILS_HELD_S if worker.held or worker.doubt else limits.SILENCE_FAILS_S)

    def destroy(self, worker: Worker, reason: str) -> None:
        """Orders the worker's end; one that is not ours is merely forgotten. What it holds must be dropped before."""
        if not worker.owned:
            if worker.state is not State.DESTROYING:
                self.turn(worker, Turn.DESTROY)
            self.turn(worker, Turn.GO)
            return
        worker.attempts, worker.retry_at, worker.order_at = 0, None, self.now
        self.turn(worker, Turn.DESTROY)
        self.out.append(Destroy(worker.worker_id, worker.group.spec.fleet, reason, self.cause))

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
        worker.spare = False
        worker.unproven += reservation.stage is Stage.GRANTED
        reservation.worker_id = worker.worker_id
        if worker.state is State.READY:
            self.turn(worker, Turn.TAKEN)
        else:
            self._changed(worker)

    def confirm(self, worker: Worker, reservation: Reservation) -> None:
        """The worker says that it has the session that it was granted."""
        reservation.step(Step.CONFIRM)
        self.changed_reservations[reservation.request_idx] = None
        reservation.used += 1
        worker.unproven -= 1
        self._changed(worker)

    def lapse(self, worker: Worker, reservation: Reservation) -> None:
        """Its session has ended, and its client was sent to the worker again a moment ago: that is a grant."""
        reservation.step(Step.LAPSE)
        # Besides the last answer, and that of the session, whose end is expected already, there may have been others:
        # what came of those may be told yet, and says nothing of the session to come.
        if reservation.answers > 2:
            self.expect_end(worker, reservation.request_idx, reservation.answers - 2)
        reservation.used = reservation.answers - 1
        reservation.granted_at, reservation.received = self.now, worker.received
        worker.unproven += 1
        self.changed_reservations[reservation.request_idx] = None
        self.timers.set(reservation.expires_at, Timer.GRANT, reservation.request_idx)
        self._changed(worker)

    def saw(self, worker: Worker, sessions: int) -> None:
        """The worker was seen to hold this many sessions at once: a report of it listed them."""
        worker.group.seen = max(worker.group.seen, sessions)
        most = worker.occupancy_known
        if most is not None and sessions > most:
            self.set_occupancy(worker, sessions)

    def drop(self, worker: Worker, reservation: Reservation) -> None:
        """The worker holds the reservation no longer. To be called before the reservation takes its step."""
        del worker.held[reservation.request_idx]
        worker.unproven -= reservation.stage is Stage.GRANTED
        worker.held_cost = worker.held_cost - reservation.cost if worker.held else 0.0
        reservation.worker_id = 0
        if reservation.sent:
            self.expect_end(worker, reservation.request_idx, reservation.answers - reservation.used)
            if self.now < reservation.expires_at:
                self.set_doubt(worker, reservation.expires_at)  # an answer of it may be on its way to the worker
        if not worker.held:
            self.freed.append(worker)
        if not worker.held and worker.state is State.HELD:
            worker.free_since = self.now
            self.turn(worker, Turn.FREED)
        else:
            self._changed(worker)

    def end(self, reservation: Reservation) -> None:
        """The reservation is over, wherever it was."""
        if reservation.worker_id:
            worker = self.workers.get(reservation.worker_id)
            if worker is not None:
                self.drop(worker, reservation)
        elif reservation.stage is Stage.WAITING:
            pool = self.pools.get(reservation.endpoint_id)
            if pool is not None:
                pool.remove_waiter(reservation)
                self.touch(pool.endpoint_id)
        reservation.step(Step.END)
        self.changed_reservations[reservation.request_idx] = None
        if self.reservations.get(reservation.request_idx) is reservation:
            del self.reservations[reservation.request_idx]

    def requeue(self, reservation: Reservation) -> None:
        """Its grant did not take: it waits again, at its old place (or is told that its endpoint goes)."""
        worker = self.workers.get(reservation.worker_id)
        pool = self.pools[reservation.endpoint_id]
        if pool.deleted:
            self.end(reservation)
            reason = f"endpoint {pool.name} is being deleted"
            self.out.append(Refuse(reservation.request_idx, pool.endpoint_id, reason, self.cause))
            return
        if worker is not None:
            self.drop(worker, reservation)
        reservation.step(Step.REFUTE)
        self.changed_reservations[reservation.request_idx] = None
        reservation.refused += 1
        reservation.answers = reservation.used = 0
        reservation.verdict_at = None
        reservation.worker_id = 0
        reservation.absent = not reservation.present and self.now - reservation.seen_at > limits.POLL_GRACE_S
        pool.add_waiter(reservation, self.now)
        self.touch(pool.endpoint_id)
        self.timers.set(self.now, Timer.WAITER, reservation.request_idx)

    # --------------------------------------------------------------------------------------------------- definitions

    def put_group(self, spec: Workergroup) -> None:
        """Creates or changes a workergroup; its endpoint must exist."""
        group = self.groups.get(spec.workergroup_id)
        if group is None:
            group = Group(spec)
            self.groups[spec.workergroup_id] = group
            self.pools[spec.endpoint_id].groups[spec.workergroup_id] = group
        elif group.spec.endpoint_id != spec.endpoint_id or group.deleted:
            return  # a workergroup does not move between endpoints: its workers carry the old one's token
        group.spec = spec
        group.failures, group.next_try_at, group.last_error = 0, 0.0, ""
        pool = self.pools[spec.endpoint_id]
        for worker in pool.workers.values():
            if worker.group is group:
                pool.reckon(worker)
        self.touch(spec.endpoint_id)
