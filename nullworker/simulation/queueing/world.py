"""The world: a broker, consumers, workers, and a dispatcher that decides by `nullworker.demand`."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from nullworker.demand.plan import Reading, covers
from nullworker.demand.reservations import HOLDING, LIVE, Phase, ReservationState
from nullworker.demand.round import Demand
from nullworker.simulation.event_queue import EventQueue
from nullworker.simulation.queueing.broker import Broker, Job

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.queueing.plan import QueuePlan

#: A consumer asks for a job, and renews its lease, so often.
CONSUMER_POLL_S = 0.5
#: A dispatcher that was killed is started again after this.
RESTART_S = 3.0


@dataclass(eq=False, slots=True)
class Consumer:
    """One run of a user's consumer."""

    job: Job | None = None
    waits_since: float | None = None
    is_dead: bool = False


@dataclass(eq=False, slots=True)
class Reservation:
    """One of ours: what the dispatcher knows of it, and what is true."""

    state: ReservationState
    consumer: Consumer | None = None
    worked: bool = False  # its consumer took a job


@dataclass(slots=True)
class Sample:
    """The world at a reading, for the checkers."""

    at: float
    live: int
    free_jobs: int  # that somebody could take
    our_jobs: int  # at which our consumers are


@dataclass(slots=True)
class History:
    """What happened, for the checkers."""

    jobs: list[Job] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    opened: int = 0
    ended_at_work: list[float] = field(default_factory=list)  # when a reservation was ended while its consumer worked


class QueueWorld:
    """Runs one plan."""

    def __init__(self, plan: QueuePlan, demand: Callable[[], Demand] | None = None) -> None:
        self.plan = plan
        self.queue = EventQueue()
        self.broker = Broker(plan.traits)
        self.history = History()
        self.reservations: list[Reservation] = []
        self._random = Random(f"queue world {plan.seed}")
        self._new_demand = demand or (lambda: Demand(plan.limits))
        self._demand = self._new_demand()
        self._not_before_s = float("-inf")
        self._opened_at_s = float("-inf")
        self._kept_until: list[float] = []  # free workers, and until when each is kept
        self._down_until = 0.0
        for number, (at, length_s) in enumerate(plan.arrivals, 1):
            self.queue.at(at, self._arrives, Job(number, length_s))
        for at in plan.deaths:
            self.queue.at(at, self._kill_one)
        for at in plan.restarts:
            self.queue.at(at, self._restart)
        for since, until, length_s in plan.others:
            self.queue.at(since, self._other, Consumer(), until, length_s)
        self.queue.after(0.0, self._round)

    @property
    def now(self) -> float:
        """The world's time in seconds."""
        return self.queue.now

    def run_until(self, end: float) -> None:
        """Lets time pass."""
        self.queue.run_until(end)

    @property
    def live(self) -> int:
        """Reservations that are requested or held."""
        return sum(r.state.phase in LIVE for r in self.reservations)

    # ------------------------------------------------------------------------------------------------- the dispatcher

    def _round(self) -> None:
        self.queue.after(self.plan.poll_s, self._round)
        now = self.now
        if now < self._down_until:
            return
        if any(since <= now < until for since, until in self.plan.unread):
            self._demand.evidence.interrupt()
            return
        reading = Reading(self.broker.depth(now), now)
        self.reservations = [
            r for r in self.reservations if r.state.phase in LIVE or covers(r.state, reading, self.plan.limits.lag_s)
        ]
        states = [r.state for r in self.reservations]
        decision = self._demand.consider(reading, states, now)
        if decision.plan.open and now >= self._opened_at_s + self._demand.evidence.pause_s:
            self._opened_at_s = now
            count = 1 if self._demand.evidence.pause_s else decision.plan.open
            for _ in range(count):
                self._open()
        asked = [r for r in self.reservations if r.state.phase is Phase.ASKED]
        for reservation in asked[len(asked) - decision.plan.withdraw :]:
            self._close(reservation)
        for reservation in list(self.reservations):
            if any(reservation.state is state for state in decision.end):
                if reservation.consumer is not None and reservation.consumer.job is not None:
                    self.history.ended_at_work.append(now)
                self._end(reservation)
        self._sample()

    def _sample(self) -> None:
        now = self.now
        jobs = self.history.jobs
        free = sum(job.free_at is not None and job.free_at <= now for job in jobs)
        ours = sum(r.consumer is not None and r.consumer.job is not None for r in self.reservations)
        self.history.samples.append(Sample(now, self.live, free, ours))

    def _restart(self) -> None:
        """The dispatcher is killed: requests are forgotten, what is held goes on and is taken over."""
        self._down_until = self.now + RESTART_S
        self._demand = self._new_demand()
        for reservation in list(self.reservations):
            if reservation.state.phase is Phase.ASKED:
                self._close(reservation)
            else:
                state = reservation.state
                reservation.state = ReservationState(state.phase, state.asked_at_s, state.held_at_s, is_adopted=True)
        self.reservations = [r for r in self.reservations if r.state.phase in LIVE]

    # ---------------------------------------------------------------------------------------------- workers, consumers

    def _open(self) -> None:
        now = self.now
        reservation = Reservation(ReservationState(Phase.ASKED, now))
        self.reservations.append(reservation)
        self.history.opened += 1
        self._kept_until = [until for until in self._kept_until if until > now]
        delay_s = 0.05 if self._kept_until else self.plan.boot_s * self._random.uniform(0.5, 1.0)
        if self._kept_until:
            self._kept_until.pop()
        self.queue.after(delay_s, self._held, reservation)

    def _held(self, reservation: Reservation) -> None:
        if reservation.state.phase is not Phase.ASKED:
            self._kept_until.append(self.now + self.plan.kept_s)  # it came for one that was withdrawn
            return
        reservation.state.phase, reservation.state.held_at_s = Phase.HELD, self.now
        reservation.consumer = Consumer()
        self.queue.after(self.plan.load_s * self._random.uniform(0.5, 1.0), self._ask, reservation)

    def _ask(self, reservation: Reservation) -> None:
        """Our consumer asks for a job."""
        consumer, now = reservation.consumer, self.now
        if consumer is None or consumer.is_dead or reservation.state.phase not in HOLDING:
            return
        job = self.broker.take(consumer, now)
        if job is not None:
            reservation.worked = True
            consumer.job, consumer.waits_since = job, None
            self.queue.after(job.length_s, self._finish, reservation, job)
            self._renew(consumer)
            return
        if consumer.waits_since is None:
            consumer.waits_since = now
        patience_s = self.plan.patience_s
        if patience_s is not None and now - consumer.waits_since >= patience_s:
            self._end(reservation)
            return
        self.queue.after(CONSUMER_POLL_S, self._ask, reservation)

    def _renew(self, consumer: Consumer) -> None:
        if consumer.job is None or consumer.is_dead:
            return
        lease_s = self.plan.traits.lease_s
        if lease_s is not None and self.plan.traits.late_ack:
            self.broker.renew(consumer, self.now)
            self.queue.after(lease_s / 3, self._renew, consumer)

    def _finish(self, reservation: Reservation, job: Job) -> None:
        consumer = reservation.consumer
        if consumer is None or consumer.is_dead or consumer.job is not job:
            return
        self.broker.done(job, consumer, self.now)
        consumer.job = None
        if self.plan.many_jobs:
            self._ask(reservation)
        else:
            self._end(reservation)

    def _kill_one(self) -> None:
        """A worker is lost in the middle of a job, and its consumer with it."""
        at_work = [r for r in self.reservations if r.consumer is not None and r.consumer.job is not None]
        if not at_work:
            return
        victim = self._random.choice(at_work)
        consumer = victim.consumer
        assert consumer is not None
        assert consumer.job is not None
        consumer.is_dead = True
        self.broker.died(consumer.job, self.now)
        self.queue.after(self._random.uniform(0.0, 30.0), self._close, victim)

    def _end(self, reservation: Reservation) -> None:
        """The reservation ends in order, and its worker is free."""
        consumer = reservation.consumer
        if consumer is not None and consumer.job is not None and not consumer.is_dead:
            self.broker.died(consumer.job, self.now)
        if consumer is not None:
            consumer.is_dead, consumer.job = True, None
        if reservation.state.phase in HOLDING:
            self._kept_until.append(self.now + self.plan.kept_s)
        self._close(reservation)

    def _close(self, reservation: Reservation) -> None:
        state = reservation.state
        if state.phase is Phase.CLOSED:
            return
        was_held = state.phase in HOLDING
        state.phase, state.closed_at_s = Phase.CLOSED, self.now
        if reservation.consumer is not None:
            reservation.consumer.is_dead, reservation.consumer.job = True, None
        if was_held:
            self._demand.evidence.closed(state)

    # --------------------------------------------------------------------------------------------------------- others

    def _arrives(self, job: Job) -> None:
        self.history.jobs.append(job)
        self.broker.put(job, self.now)

    def _other(self, consumer: Consumer, until: float, length_s: float) -> None:
        """Somebody else's consumer asks for a job, until it is stopped."""
        if self.now >= until:
            return
        job = self.broker.take(consumer, self.now)
        if job is None:
            self.queue.after(CONSUMER_POLL_S, self._other, consumer, until, length_s)
            return
        consumer.job = job
        self._renew(consumer)
        self.queue.after(length_s, self._other_done, consumer, job, until, length_s)

    def _other_done(self, consumer: Consumer, job: Job, until: float, length_s: float) -> None:
        self.broker.done(job, consumer, self.now)
        consumer.job = None
        self._other(consumer, until, length_s)
