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


@dataclass(frozen=True, slots=True)
class Traits:
    """What kind of broker it is, and what of it can be read."""

    #: None: it gives a job back as soon as its consumer's connection is gone.
    lease_s: float | None = 30.0
    returns: Returns = Returns.BROKER
    late_ack: bool = True  # a job is acknowledged when it is done, not when it is taken
    counts_in_flight: bool = True
    tells_abandoned: bool = True  # only where consumers bring back
    lag_s: float = 0.0  # its counts are as old as this


@dataclass(eq=False, slots=True)
class Job:
    """One job, and what happened to it."""

    number: int
    length_s: float
    taken_at: list[float] = field(default_factory=list)
    done_at: list[float] = field(default_factory=list)
    free_at: float | None = None  # from when on somebody could have taken it; None while it is at work
    lost: bool = False  # acknowledged before it was done, by a consumer that died


@dataclass(eq=False, slots=True)
class _Delivery:
    job: Job
    consumer: object
    expires_at: float


class Broker:
    """One queue. Times are the world's."""

    def __init__(self, traits: Traits) -> None:
        self.traits = traits
        self.waiting: deque[Job] = deque()
        self._given: dict[int, _Delivery] = {}  # by the job's number: not acknowledged
        self._shown: deque[tuple[float, int, int, int]] = deque()  # when; waiting, in flight, abandoned

    # ------------------------------------------------------------------------------------------ producers, consumers

    def put(self, job: Job, now: float) -> None:
        """A producer enqueues a job."""
        job.free_at = now
        self.waiting.append(job)
        self._note(now)

    def take(self, consumer: object, now: float) -> Job | None:
        """A living consumer asks for a job; where it is for consumers to do so, it brings back what is over."""
        if self.traits.returns is Returns.CONSUMER:
            self._bring_back(now)
        if not self.waiting:
            return None
        job = self.waiting.popleft()
        job.free_at = None
        job.taken_at.append(now)
        if self.traits.late_ack:
            self._given[job.number] = _Delivery(job, consumer, self._expires_at(now))
        self._note(now)
        return job

    def renew(self, consumer: object, now: float) -> None:
        """A living consumer keeps the lease of what it is at."""
        for delivery in self._given.values():
            if delivery.consumer is consumer:
                delivery.expires_at = self._expires_at(now)

    def _expires_at(self, now: float) -> float:
        return float("inf") if self.traits.lease_s is None else now + self.traits.lease_s

    def done(self, job: Job, consumer: object, now: float) -> None:
        """A consumer has done a job."""
        job.done_at.append(now)
        delivery = self._given.get(job.number)
        if delivery is not None and delivery.consumer is consumer:
            del self._given[job.number]
        self._note(now)

    def died(self, job: Job, now: float) -> None:
        """The consumer of a job has died: from when on another could have it."""
        delivery = self._given.get(job.number)
        if delivery is None:
            job.lost = True
            return
        if self.traits.lease_s is None:
            delivery.expires_at = now
        job.free_at = delivery.expires_at

    def tick(self, now: float) -> None:
        """Time has passed."""
        if self.traits.returns is Returns.BROKER:
            self._bring_back(now)
        self._note(now)

    def _bring_back(self, now: float) -> None:
        for number, delivery in list(self._given.items()):
            if delivery.expires_at <= now:
                del self._given[number]
                delivery.job.free_at = delivery.expires_at
                self.waiting.append(delivery.job)
                self._note(now)

    # ------------------------------------------------------------------------------------------------------- reading

    def _note(self, now: float) -> None:
        over = sum(d.expires_at <= now for d in self._given.values())
        self._shown.append((now, len(self.waiting), len(self._given) - over, over))
        while len(self._shown) > 1 and self._shown[1][0] <= now - self.traits.lag_s:
            self._shown.popleft()

    def depth(self, now: float) -> Depth:
        """What can be read of it now."""
        self.tick(now)
        traits = self.traits
        _, waiting, in_flight, over = self._shown[0]
        if not traits.counts_in_flight:
            return Depth(waiting, None, now)
        if traits.returns is Returns.BROKER:
            return Depth(waiting, in_flight, now)
        if traits.tells_abandoned:
            return Depth(waiting, in_flight, now, abandoned=over)
        return Depth(waiting, in_flight + over, now, abandoned=None)
