"""Consumers: ours, and those of others. Each takes jobs from the broker, works, renews its leases, and may die."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.event_queue import EventQueue
    from nullworker.simulation.queueing.broker import Broker, Job
    from nullworker.simulation.queueing.plan import QueuePlan

#: A consumer that found no job asks again after this.
CONSUMER_POLL_S = 1.0


@dataclass(slots=True)
class Habits:
    """What kind of consumer it is."""

    width: int = 1  # jobs at a time
    prefetch: int = 0  # jobs that it takes beyond those
    many_jobs: bool = False  # one after the other
    stays: bool = False  # after its one job, instead of ending
    patience_s: float | None = None
    until: float = float("inf")  # takes no job after this


@dataclass(eq=False, slots=True)
class Consumer:
    """One run of a consumer."""

    habits: Habits
    on_end: Callable[[Consumer], None]  # it has ended in order
    on_take: Callable[[Consumer, Job], None]
    jobs: list[Job] = field(default_factory=list)  # at work
    hoard: list[Job] = field(default_factory=list)  # taken beforehand
    began: int = 0  # jobs
    is_over: bool = False  # ended or dead
    stands_still_until: float = 0.0
    waits_since: float | None = None


class Consumers:
    """What consumers do, in a world's time."""

    def __init__(self, plan: QueuePlan, broker: Broker, queue: EventQueue) -> None:
        self._plan = plan
        self._broker = broker
        self._queue = queue

    def start(self, consumer: Consumer, load_s: float) -> None:
        """It begins, and asks for a job when it has loaded."""
        self._queue.after(load_s, self._ask, consumer)
        if self._plan.traits.lease_s is not None:
            self._renew(consumer)

    def end(self, consumer: Consumer) -> None:
        """It is ended in order: what it has not begun goes back, and what it is at is left as if it had died."""
        if consumer.is_over:
            return
        consumer.is_over = True
        for job in reversed(consumer.hoard):
            self._broker.give_back(job, consumer, self._queue.now)
        for job in consumer.jobs:
            self._broker.died(job, consumer, self._queue.now)
        consumer.jobs, consumer.hoard = [], []

    def die(self, consumer: Consumer) -> None:
        """It is dead, without a word to the broker."""
        if consumer.is_over:
            return
        consumer.is_over = True
        for job in (*consumer.jobs, *consumer.hoard):
            self._broker.died(job, consumer, self._queue.now)
        consumer.jobs, consumer.hoard = [], []

    def stand_still(self, consumer: Consumer) -> None:
        """It neither works nor renews leases until after they have run out."""
        consumer.stands_still_until = self._queue.now + self._plan.stall_s

    def _ask(self, consumer: Consumer) -> None:
        now, habits = self._queue.now, consumer.habits
        if consumer.is_over:
            return
        if now < consumer.stands_still_until:
            self._queue.at(consumer.stands_still_until, self._ask, consumer)
            return
        takes = habits.many_jobs or not consumer.began
        while takes and now < habits.until and self._room(consumer):
            job = self._broker.take(consumer, now)
            if job is None:
                break
            consumer.hoard.append(job)
            consumer.on_take(consumer, job)
        self._begin(consumer)
        if consumer.jobs:
            consumer.waits_since = None
        elif consumer.waits_since is None:
            consumer.waits_since = now
        if self._is_through(consumer):
            self.end(consumer)
            consumer.on_end(consumer)
        elif takes and self._room(consumer):
            self._queue.after(CONSUMER_POLL_S, self._ask, consumer)

    @staticmethod
    def _room(consumer: Consumer) -> int:
        habits = consumer.habits
        return habits.width + habits.prefetch - len(consumer.jobs) - len(consumer.hoard)

    def _is_through(self, consumer: Consumer) -> bool:
        habits, now = consumer.habits, self._queue.now
        if consumer.jobs:
            return False
        if now >= habits.until:
            return True
        if consumer.began and not habits.many_jobs:
            return not habits.stays
        waited_s = now - (now if consumer.waits_since is None else consumer.waits_since)
        return habits.patience_s is not None and waited_s >= habits.patience_s

    def _begin(self, consumer: Consumer) -> None:
        habits = consumer.habits
        while consumer.hoard and len(consumer.jobs) < habits.width and (habits.many_jobs or not consumer.began):
            job = consumer.hoard.pop(0)
            consumer.jobs.append(job)
            consumer.began += 1
            self._broker.begin(job, consumer, self._queue.now)
            self._queue.after(job.length_s, self._finish, consumer, job)

    def _finish(self, consumer: Consumer, job: Job) -> None:
        if consumer.is_over or job not in consumer.jobs:
            return
        if self._queue.now < consumer.stands_still_until:
            self._queue.at(consumer.stands_still_until, self._finish, consumer, job)
            return
        had_room = self._room(consumer)
        consumer.jobs.remove(job)
        self._broker.done(job, consumer, self._queue.now)
        if had_room and consumer.habits.many_jobs:  # it asks already, at intervals
            self._begin(consumer)
        else:
            self._ask(consumer)

    def _renew(self, consumer: Consumer) -> None:
        if consumer.is_over:
            return
        if self._queue.now >= consumer.stands_still_until:
            self._broker.renew(consumer, self._queue.now)
        lease_s = self._plan.traits.lease_s
        assert lease_s is not None
        self._queue.after(lease_s / 3, self._renew, consumer)
