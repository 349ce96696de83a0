"""A queue as brokers have it, with what its counts show and hide."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass, field

from nullworker.demand.depth import Depth


class Returns(enum.Enum):
    """Who brings back the job of a dead consumer."""

    BROKER = "broker"  # when the lease is over (SQS), or at once (RabbitMQ)
    CONSUMER = "consumer"  # another consumer that comes, when the lease is over (JetStream, Celery on Redis, RQ)


class Lie(enum.Enum):
    """How the number of waiting jobs is wrong."""

    NONE = "none"  # it shows none
    MORE = "more"  # it shows jobs that are not there


@dataclass(frozen=True, slots=True)
class Traits:
    """What kind of broker it is, and what of it can be read."""

    #: None: it gives a job back as soon as its consumer's connection is gone.
    lease_s: float | None = 30.0
    returns: Returns = Returns.BROKER
    late_ack: bool = True  # a job is acknowledged when it is done, not when it begins
    counts_in_flight: bool = True
    tells_abandoned: bool = True  # only where consumers bring back
    lag_s: float = 0.0  # its counts are as old as this
    parallel_max: int | None = None  # it gives out no more at a time


@dataclass(eq=False, slots=True)
class Job:
    """One job, and what happened to it."""

    number: int
    length_s: float
    taken_at: list[float] = field(default_factory=list)
    done_at: list[float] = field(default_factory=list)
    free_at: float = 0.0  # since when it waits
    lost: bool = False  # acknowledged before it was done, by a consumer that died
    outlived: bool = False  # its lease ran out while its consumer lived: the broker gave it away twice


@dataclass(eq=False, slots=True)
class _Delivery:
    job: Job
    consumer: object
    expires_at: float
    is_dead: bool = False  # the consumer


class Broker:
    """One queue. Times are the world's."""

    def __init__(self, traits: Traits) -> None:
        self.traits = traits
        self.paused = False
        self.lie: Lie | None = None
        self.is_exact = True  # a lie is told as one, if False
        self.waiting: deque[Job] = deque()
        self.changed_at = 0.0  # when a job last came, was taken, was done or came back
        self._given: dict[int, _Delivery] = {}  # by the job's number: not acknowledged
        self._shown: deque[tuple[float, tuple[int, int, int]]] = deque()  # when; waiting, in flight, abandoned

    # ------------------------------------------------------------------------------------------ producers, consumers

    def put(self, job: Job, now: float) -> None:
        """A producer enqueues a job."""
        job.free_at = now
        self.waiting.append(job)
        self._note(now)

    @property
    def is_empty(self) -> bool:
        """Whether no job waits or is at a consumer, as far as it knows."""
        return not self.waiting and not self._given

    def free_since(self, now: float) -> list[float]:
        """Of each job that a consumer could have now, since when; in order."""
        over = [delivery.expires_at for delivery in self._given.values() if delivery.expires_at <= now]
        return sorted([job.free_at for job in self.waiting] + over)

    def unshown(self, now: float) -> int:
        """How many of them are among those in flight for all that can be read."""
        traits = self.traits
        if traits.counts_in_flight and traits.tells_abandoned:
            return 0
        return sum(delivery.expires_at <= now for delivery in self._given.values())

    def room(self, now: float) -> float:
        """How many more jobs it gives out at this moment, if there are so many."""
        if self.paused:
            return 0
        most = self.traits.parallel_max
        return float("inf") if most is None else max(0, most - sum(d.expires_at > now for d in self._given.values()))

    def take(self, consumer: object, now: float) -> Job | None:
        """A living consumer asks for a job; where it is for consumers to do so, it brings back expired ones first."""
        if self.traits.returns is Returns.CONSUMER and not self.paused:
            self._bring_back(now)
        if not self.waiting or not self.room(now):
            return None
        job = self.waiting.popleft()
        job.taken_at.append(now)
        self._given[job.number] = _Delivery(job, consumer, self._expires_at(now))
        self._note(now)
        return job

    def begin(self, job: Job, consumer: object, now: float) -> None:
        """A consumer begins a job that it took: an early acknowledgement is given now."""
        if not self.traits.late_ack and self._has(job, consumer):
            del self._given[job.number]
            self._note(now)

    def renew(self, consumer: object, now: float) -> None:
        """A living consumer keeps the leases of the jobs it has."""
        for delivery in self._given.values():
            if delivery.consumer is consumer:
                delivery.expires_at = self._expires_at(now)

    def done(self, job: Job, consumer: object, now: float) -> None:
        """A consumer has done a job."""
        job.done_at.append(now)
        if self._has(job, consumer):
            del self._given[job.number]
        self._note(now)

    def give_back(self, job: Job, consumer: object, now: float) -> None:
        """A consumer that ends in order returns a job that it has not begun."""
        if self._has(job, consumer):
            del self._given[job.number]
            job.free_at = now
            self.waiting.appendleft(job)
            self._note(now)

    def died(self, job: Job, consumer: object, now: float) -> None:
        """A consumer that has a job has died."""
        if not self._has(job, consumer):
            # Another consumer may have it, if the lease ran out before; none ever will, if it was acknowledged early.
            job.lost = job.lost or not self.traits.late_ack
            return
        delivery = self._given[job.number]
        delivery.is_dead = True
        if self.traits.lease_s is None:
            delivery.expires_at = now

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.traits.returns is Returns.BROKER:
            self._bring_back(now)
        self._note(now)

    def _has(self, job: Job, consumer: object) -> bool:
        delivery = self._given.get(job.number)
        return delivery is not None and delivery.consumer is consumer

    def _expires_at(self, now: float) -> float:
        return float("inf") if self.traits.lease_s is None else now + self.traits.lease_s

    def _bring_back(self, now: float) -> None:
        for number, delivery in list(self._given.items()):
            if delivery.expires_at <= now:
                del self._given[number]
                delivery.job.free_at = delivery.expires_at
                delivery.job.outlived = delivery.job.outlived or not delivery.is_dead
                self.waiting.append(delivery.job)
                self._note(now)

    # ------------------------------------------------------------------------------------------------------- reading

    def _note(self, now: float) -> None:
        over = sum(d.expires_at <= now for d in self._given.values())
        numbers = len(self.waiting), len(self._given) - over, over
        if self._shown and self._shown[-1][1] != numbers:
            self.changed_at = now
        self._shown.append((now, numbers))
        while len(self._shown) > 1 and self._shown[1][0] <= now - self.traits.lag_s:
            self._shown.popleft()

    def depth(self, now: float) -> Depth:
        """What can be read of it now."""
        self.tick(now)
        traits = self.traits
        _, (waiting, flying, over) = self._shown[0]
        if self.lie is not None:
            waiting = 0 if self.lie is Lie.NONE else 3 * waiting + 2
        in_flight: int | None = flying
        abandoned: int | None = 0
        if not traits.counts_in_flight:
            in_flight = None
        elif traits.returns is Returns.CONSUMER and traits.tells_abandoned:
            abandoned = over
        else:  # a broker brings back at once what is over
            in_flight, abandoned = flying + over, None if traits.returns is Returns.CONSUMER else 0
        return Depth(
            0 if self.paused else waiting,
            in_flight,
            now,
            parallel_max=traits.parallel_max,
            paused=self.paused,
            exact=self.is_exact,
            abandoned=abandoned,
        )
