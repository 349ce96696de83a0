"""The world: a broker, consumers, workers, and a dispatcher that decides by `nullworker.demand`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from nullworker.demand.plan import Reading, covers
from nullworker.demand.reservations import HOLDING, LIVE, UNMOVED_CLAIMS, Belief, Phase, ReservationState
from nullworker.demand.round import Demand
from nullworker.simulation.event_queue import EventQueue
from nullworker.simulation.queueing.broker import Broker, Job, Returns
from nullworker.simulation.queueing.consumers import Consumer, Consumers, Habits

if TYPE_CHECKING:
    from nullworker.demand.depth import Depth
    from nullworker.demand.round import Decision
    from nullworker.simulation.queueing.plan import ForeignConsumer, Lying, QueuePlan

#: A dispatcher that was killed is started again after this.
RESTART_S = 3.0
#: The longest time until the dispatcher hears that a worker is lost.
NOTICED_S = 30.0


@dataclass(eq=False, slots=True)
class Reservation:
    """One of ours: what the dispatcher knows of it, and what is true."""

    state: ReservationState
    consumer: Consumer | None = None
    is_adopted: bool = False

    @property
    def jobs(self) -> int:
        """At which its consumer is."""
        return len(self.consumer.jobs) if self.consumer is not None else 0

    @property
    def at_work(self) -> bool:
        """Whether its consumer has a job that the broker gave to no other meanwhile."""
        return self.consumer is not None and not all(job.outlived for job in self.consumer.jobs)

    @property
    def is_through(self) -> bool:
        """Its consumer has done its job, and does not end."""
        consumer = self.consumer
        return consumer is not None and consumer.habits.stays and consumer.began > 0 and not consumer.jobs

    @property
    def is_dead(self) -> bool:
        """Its consumer is, and the dispatcher does not know."""
        return self.consumer is not None and self.consumer.is_over and self.state.phase in LIVE


@dataclass(slots=True)
class Sample:
    """The world at a reading, for the checkers."""

    at: float
    live: int
    asked: int  # of them, those that wait for a worker
    free_since: list[float]  # since when, of each job that a consumer could take; in order
    room: float  # so many of them at a time
    most_jobs: int  # free ones and ours; where numbers are late, when there were most since the sample before
    unshown: int  # of the free ones, those whose consumer is dead while nothing shows it
    idle: int  # jobs that our living consumers could take, as far as the dispatcher may know
    unsure: int  # reservations of which the dispatcher cannot know that they need no job, or cannot take one


@dataclass(slots=True)
class History:
    """What happened, for the checkers."""

    jobs: list[Job] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    opened: int = 0
    ended_at_work: list[float] = field(default_factory=list)  # when a reservation was ended while its consumer worked
    rescues: list[float] = field(default_factory=list)  # when one was opened for jobs that none of ours was at
    more: list[tuple[float, int]] = field(default_factory=list)  # when so many were as none of ours took what waits
    seen: Counter[str] = field(default_factory=Counter)  # what occurred, by `checkers.SOMETIMES`


class QueueWorld:
    """Runs one plan."""

    def __init__(self, plan: QueuePlan, *, tells: bool = False) -> None:
        """Plans what will happen; ``tells`` keeps each round that differs from the one before, in `rounds`."""
        self.plan = plan
        self.rounds: list[tuple[float, str]] = []  # when, and what was read, believed and decided
        self._tells = tells
        self.queue = EventQueue()
        self.broker = Broker(plan.traits)
        self.history = History()
        self.reservations: list[Reservation] = []
        self._consumers = Consumers(plan, self.broker, self.queue)
        self._random = Random(f"queue world {plan.seed}")
        self._demand = Demand(plan.limits)
        self._opened_at_s = float("-inf")
        self._kept_until: list[float] = []  # free workers, and until when each is kept
        self._down_until = 0.0
        self._last: Depth | None = None
        self._took: list[Reservation] = []  # of ours, since the last reading
        self._most_jobs = 0  # since the last sample
        self._hidden = 0  # jobs of ours that no reading has shown to be taken
        self._hidden_until = 0.0
        self._misjudged_until = 0.0  # consumers that stand still may be taken for free
        self._take_at = float("-inf")  # when the last job was taken
        self._hits = set(plan.kills) | set(plan.stalls)
        self._plan_events()
        self.queue.after(0.0, self._round)

    def _plan_events(self) -> None:
        plan = self.plan
        for number, (at, length_s) in enumerate(plan.arrivals, 1):
            self.queue.at(at, self._arrives, Job(number, length_s))
        for at in plan.restarts:
            self.queue.at(at, self._restart)
        for foreign in plan.others:
            self.queue.at(foreign.since, self._foreign, foreign)
        for since, until in plan.paused:
            self.queue.at(since, self._pause, True)
            self.queue.at(until, self._pause, False)
        for lying in plan.lies:
            self.queue.at(lying.since, self._lie, lying)
            self.queue.at(lying.until, self._lie, None)

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
        """As `dispatch.binding.Binding.consider` does."""
        self.queue.after(self.plan.poll_s, self._round)
        now = self.now
        if now < self._down_until:
            return
        if any(since <= now < until for since, until in self.plan.unread):
            self._demand.evidence.interrupt()
            self.history.seen["unread"] += 1
            return
        reading = Reading(self.broker.depth(now), now)
        self.reservations = [
            r for r in self.reservations if r.state.phase in LIVE or covers(r.state, reading, self.plan.limits.lag_s)
        ]
        self._note_hidden(reading.depth)
        decision = self._demand.consider(reading, [r.state for r in self.reservations], now)
        self._note_seen(reading, decision)
        if self._tells:
            self._tell(reading.depth, decision)
        self._open_all(decision)
        asked = [r for r in self.reservations if r.state.phase is Phase.ASKED]
        for reservation in asked[len(asked) - decision.plan.withdraw :]:
            self._close(reservation)
        for reservation in list(self.reservations):
            if any(reservation.state is state for state in decision.end):
                if reservation.at_work:
                    self.history.ended_at_work.append(now)
                self.history.seen["stayed"] += reservation.is_through
                self._end(reservation)
        self._sample()

    def _open_all(self, decision: Decision) -> None:
        pause_s = self._demand.evidence.pause_s
        if not decision.plan.open or self.now < self._opened_at_s + pause_s:
            return
        self._opened_at_s = self.now
        if decision.rescue:
            self.history.rescues.append(self.now)
        if decision.more:
            self.history.more.append((self.now, decision.plan.open))
            self.history.seen["sent for what waits"] += 1
        for _ in range(1 if pause_s else decision.plan.open):
            self._open()

    def _note_hidden(self, depth: Depth) -> None:
        """Jobs that ours took since the last reading, and that it cannot show: as many came as were taken.

        The dispatcher believes of one too few that it is at a job; of which one changes with each job that is taken.
        """
        last = self._last
        self._last = depth
        took, self._took = self._took, []
        if took:
            self._hide(0)
            self._misjudge(float("inf"))
        if depth.in_flight is not None or last is None:
            return
        hidden = max(0, len(took) - max(0, last.waiting - depth.waiting))
        if hidden:
            self._hide(hidden)
        self.history.seen["a job taken unseen"] += hidden

    @property
    def _doubts_s(self) -> float:
        """After so long the dispatcher doubts that one that seems to be free will take a job that waits."""
        return UNMOVED_CLAIMS * self.plan.limits.claim_s + 2 * self.plan.poll_s

    def _hide(self, jobs: int) -> None:
        """So many more of ours are at jobs, and may be taken for free until the dispatcher has had time to doubt."""
        self._hidden += jobs
        self._hidden_until = max(self._hidden_until, self.now + self._doubts_s)

    def _misjudge(self, for_s: float) -> None:
        """For so long what happens tells nothing of consumers that stand still; then there is time to doubt.

        When another takes a job, one that stands still may be taken for that one, for as long as it has the job.
        """
        if self.history.seen["a consumer stood still"]:
            self._misjudged_until = max(self._misjudged_until, self.now + for_s + self._doubts_s)

    def _misjudged(self) -> int:
        """Jobs of our consumers that stand still, or did while the broker gave their jobs to others.

        Of one that took its job unseen what is in flight may show that it lost it, if each worker has one at a time.
        """
        limits = self.plan.limits
        is_counted = limits.jobs_per_worker == 1 and not limits.lag_s
        return sum(
            job.outlived or self.now < r.consumer.stands_still_until
            for r in self.reservations
            if r.consumer is not None and not r.is_dead
            if self.now < self._misjudged_until or not (r.state.was_seen or is_counted)
            for job in r.consumer.jobs
        )

    def _note_seen(self, reading: Reading, decision: Decision) -> None:
        seen, depth, limits = self.history.seen, reading.depth, self.plan.limits
        seen["withdrawn"] += decision.plan.withdraw
        seen["ended when idle"] += len(decision.end)
        seen["slowed down"] += bool(decision.plan.open and self._demand.evidence.pause_s)
        seen["abandoned jobs shown"] += depth.abandoned or 0
        seen["a late reading"] += limits.lag_s > 0
        seen["a lie"] += self.broker.lie is not None
        seen["inexact"] += not depth.exact
        seen["paused"] += depth.paused
        held = [r.state for r in self.reservations if r.state.phase is Phase.HELD]
        seen["in doubt"] += any(state.belief(limits, reading.at_s) is Belief.UNKNOWN for state in held)

    def _tell(self, depth: Depth, decision: Decision) -> None:
        known = [self._described(r) for r in self.reservations]
        opens = f", opens {decision.plan.open}" if decision.plan.open else ""
        ends = f", ends {len(decision.end)}" if decision.end else ""
        withdraws = f", withdraws {decision.plan.withdraw}" if decision.plan.withdraw else ""
        numbers = f"{depth.waiting} waiting, {depth.in_flight} in flight, {depth.abandoned} abandoned"
        line = f"{numbers}: wants {decision.plan.want}{opens}{withdraws}{ends}; {'; '.join(known) or 'no reservation'}"
        if not self.rounds or self.rounds[-1][1] != line:
            self.rounds.append((self.now, line))

    def _described(self, reservation: Reservation) -> str:
        """What the dispatcher believes, and in brackets what is true."""
        state, consumer = reservation.state, reservation.consumer
        belief = state.belief(self.plan.limits, self.now).value if state.phase in HOLDING else ""
        truth = ""
        if consumer is not None:
            jobs = " ".join(f"#{job.number}" for job in (*consumer.jobs, *consumer.hoard))
            truth = " (dead)" if reservation.is_dead else f" ({jobs or 'no job'})"
        return f"{state.phase.value}{belief and ' ' + belief}{truth}"

    def _sample(self) -> None:
        now, width = self.now, self.plan.limits.jobs_per_worker
        live = [r for r in self.reservations if r.state.phase in LIVE]
        idle = sum(max(0, width - r.jobs) for r in live if not r.is_dead and not r.is_through)
        if now >= self._hidden_until or not any(r.jobs for r in live):
            self._hidden = 0
        most_jobs, self._most_jobs = max(self._most_jobs, self._jobs), 0
        self.history.samples.append(
            Sample(
                at=now,
                live=len(live),
                asked=sum(r.state.phase is Phase.ASKED for r in live),
                free_since=self.broker.free_since(now),
                room=self.broker.room(now),
                most_jobs=most_jobs,
                unshown=self.broker.unshown(now),
                idle=idle + self._hidden + self._misjudged(),
                unsure=sum(self._is_unsure(r) for r in live),
            )
        )

    @property
    def _jobs(self) -> int:
        """Those that a consumer could take, and those at which our consumers are, or which they keep."""
        consumers = [r.consumer for r in self.reservations if r.state.phase in LIVE and r.consumer is not None]
        return len(self.broker.free_since(self.now)) + sum(len(c.jobs) + len(c.hoard) for c in consumers)

    def _is_unsure(self, reservation: Reservation) -> bool:
        """Whether the dispatcher cannot know that this one could take a job, though it could; or that it is dead."""
        consumer, state = reservation.consumer, reservation.state
        if consumer is None or reservation.jobs >= self.plan.limits.jobs_per_worker:
            return False
        # Another took a job, and readings have shown it since this one was asked for: it may have been this one.
        is_other = self._take_at + self.plan.traits.lag_s >= state.asked_at_s
        # It takes longer to ask for a job than its operator says, and the queue has changed meanwhile, or for long.
        held_at = self.now if state.held_at_s is None else state.held_at_s
        claims = (self.now - held_at) / self.plan.limits.claim_s
        changed_at = self.broker.changed_at + self.plan.traits.lag_s  # a late reading shows it only then
        is_slow = claims >= UNMOVED_CLAIMS or (claims >= 1 and changed_at >= held_at)
        return consumer.is_over or consumer.began > 0 or reservation.is_adopted or is_other or is_slow

    def _restart(self) -> None:
        """The dispatcher is killed: requests are forgotten, what is held goes on and is taken over."""
        self._down_until = self.now + RESTART_S
        self._demand = Demand(self.plan.limits)
        self._last, self._took = None, []
        for reservation in list(self.reservations):
            if reservation.state.phase is Phase.ASKED:
                self._close(reservation)
            else:
                state = reservation.state
                reservation.state = ReservationState(state.phase, state.asked_at_s, state.held_at_s, is_adopted=True)
                reservation.is_adopted = True
        self.reservations = [r for r in self.reservations if r.state.phase in LIVE]
        self._hide(0)
        self._misjudge(RESTART_S)
        self.history.seen["restarted"] += 1
        self.history.seen["adopted"] += len(self.reservations)

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
        self.queue.after(delay_s, self._granted, reservation)

    def _granted(self, reservation: Reservation) -> None:
        """A worker takes it, and its consumer begins; the dispatcher hears so a little later."""
        if reservation.state.phase is not Phase.ASKED:
            self._kept_until.append(self.now + self.plan.kept_s)  # it came for one that was withdrawn
            return
        plan, limits = self.plan, self.plan.limits
        reservation.state.phase = Phase.CREATING
        habits = Habits(limits.jobs_per_worker, plan.prefetch, plan.many_jobs, plan.stays, plan.patience_s)
        consumer = reservation.consumer = Consumer(
            habits, lambda _: self._end(reservation), lambda _, job: self._taken(reservation, job)
        )
        self._consumers.start(consumer, plan.load_s * self._random.uniform(0.5, 1.0))
        self.queue.after(plan.confirm_s * self._random.random(), self._confirmed, reservation)

    def _confirmed(self, reservation: Reservation) -> None:
        if reservation.state.phase is Phase.CREATING:
            reservation.state.phase, reservation.state.held_at_s = Phase.HELD, self.now

    def _taken(self, reservation: Reservation, job: Job) -> None:
        """One of our consumers has taken a job."""
        seen = self.history.seen
        self._took.append(reservation)
        seen["a late acknowledgement" if self.plan.traits.late_ack else "an early acknowledgement"] += 1
        consumer = reservation.consumer
        if consumer is not None:
            seen["a job taken beforehand"] += len(consumer.jobs) + len(consumer.hoard) > consumer.habits.width
        self._take_at = self.now
        if len(job.taken_at) > 1:
            seen["a job taken again"] += 1
        if self.history.rescues and self.history.rescues[-1] >= reservation.state.asked_at_s:
            seen["a job rescued"] += len(job.taken_at) > 1
        if job.number in self._hits:
            self._hits.discard(job.number)
            happens = self._kill if job.number in self.plan.kills else self._stall
            self.queue.after(job.length_s * self._random.random(), happens, reservation, job)

    def _kill(self, reservation: Reservation, job: Job) -> None:
        """A worker is lost in the middle of a job, and its consumer with it."""
        consumer = reservation.consumer
        if consumer is None or consumer.is_over or job not in (*consumer.jobs, *consumer.hoard):
            return
        self.history.seen["a worker lost"] += 1
        self._consumers.die(consumer)
        self.history.seen["a job lost"] += job.lost
        self.queue.after(self._random.uniform(0.0, NOTICED_S), self._close, reservation)

    def _stall(self, reservation: Reservation, job: Job) -> None:
        consumer = reservation.consumer
        if consumer is not None and not consumer.is_over and job in consumer.jobs:
            self._consumers.stand_still(consumer)
            # The broker gives its jobs to others, so that this one seems to be free once late numbers show that; or a
            # number that has them shows no difference between this one and one that works.
            traits = self.plan.traits
            is_shown = traits.returns is Returns.BROKER or traits.tells_abandoned
            still_s = consumer.stands_still_until - self.now
            self.history.seen["a consumer stood still"] += 1
            self._misjudge((traits.lease_s or 0.0) + 2 * traits.lag_s if is_shown else still_s)

    def _end(self, reservation: Reservation) -> None:
        """The reservation ends in order, and its worker is free. The dispatcher hears first that it was held."""
        self._confirmed(reservation)
        if reservation.consumer is not None:
            self._consumers.end(reservation.consumer)
        if reservation.state.phase in HOLDING:
            self._kept_until.append(self.now + self.plan.kept_s)
        self._close(reservation)

    def _close(self, reservation: Reservation) -> None:
        state = reservation.state
        if state.phase is Phase.CLOSED:
            return
        was_held = state.phase in HOLDING
        state.phase, state.closed_at_s = Phase.CLOSED, self.now
        if was_held:
            self._demand.evidence.closed(state)

    # --------------------------------------------------------------------------------------------------------- others

    def _arrives(self, job: Job) -> None:
        self.history.jobs.append(job)
        self.broker.put(job, self.now)
        if self.plan.traits.lag_s:  # a reading may show this very moment
            self._most_jobs = max(self._most_jobs, self._jobs)

    def _foreign(self, foreign: ForeignConsumer) -> None:
        """A consumer that is not ours, until its time is up."""
        habits = Habits(prefetch=self.plan.prefetch, many_jobs=True, until=foreign.until)
        consumer = Consumer(habits, lambda _: None, self._taken_by_other)
        self._consumers.start(consumer, 0.0)
        if foreign.dies:
            self.queue.at(foreign.until, self._consumers.die, consumer)

    def _taken_by_other(self, _: Consumer, job: Job) -> None:
        self._take_at = self.now
        self._misjudge(float("inf"))
        self.history.seen["a job of others"] += 1
        self.history.seen["a foreign job taken again"] += len(job.taken_at) > 1

    def _pause(self, is_paused: bool) -> None:
        self.broker.paused = is_paused
        self._misjudge(0.0)  # what has waited for long does not, for a while
        self.broker.tick(self.now)

    def _lie(self, lying: Lying | None) -> None:
        self.broker.lie = None if lying is None else lying.lie
        self.broker.is_exact = lying is None or not lying.is_told
        self._hide(0)
        self._misjudge(0.0)  # a number that falls looks as if a job were taken
