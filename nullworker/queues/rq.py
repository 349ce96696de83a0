"""RQ (Redis Queue).

    rq://host:6379/0?queue=default

Keys as RQ 2 writes them: the list of waiting jobs, the list through which a job is handed over, the sorted sets of
running jobs (score: when their worker's heartbeat expires) and of scheduled jobs (score: when they are due).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nullworker.queues._redis import TAKEN_MAX, HandOver, RedisQueue, first_score, now_s, text
from nullworker.queues.base import Depth, NamesConsumers, Queue, QueueWarning, TakenJob

if TYPE_CHECKING:
    from typing_extensions import Self

    from nullworker.queues._redis_watch import Watch
    from nullworker.queues.urls import QueueUrl

SUSPENDED_KEY = "rq:suspended"
#: A job is on the hand-over list for milliseconds, so there are never many, and as many running ones can be among them.
HANDED_OVER_MAX = 100
RUNNING_MAX = 1000
#: A job that is on the hand-over list for so long had a worker that died in between.
HAND_OVER_MAX_S = 10.0
#: A scheduled job that is due is enqueued by a worker with a scheduler within a second; after this long none is there.
OVERDUE_S = 10.0


class RqQueue(RedisQueue):
    """Reads one queue of RQ."""

    kind = "rq"
    parameters = frozenset({"queue"})

    def __init__(self, url: QueueUrl, name: str) -> None:
        super().__init__(url, name)
        self._ready = f"rq:queue:{name}"
        self._handed_over = f"rq:queue:{name}:intermediate"
        self._running = f"rq:wip:{name}"
        self._scheduled = f"rq:scheduled:{name}"
        self._cleaned = f"rq:clean_registries:{name}"
        self._hand_over = HandOver()
        self._handed_over_since: dict[bytes, float] = {}  # when a job was first seen there, in monotonic seconds

    @classmethod
    def from_url(cls, url: QueueUrl) -> Self:
        return cls(url, url.text("queue", "default"))

    async def depth(self) -> Depth:
        """Reads the queue by one round trip, by two in the milliseconds in which a job is handed over.

        Waiting are also scheduled jobs that are due; jobs whose worker is gone are abandoned: a worker has to come for
        either. A worker that dies while it takes a job leaves that on the hand-over list. Workers look for such jobs
        when they start; those of RQ before 3 do not for a quarter of an hour after one has: so long they are delayed.
        """
        now = now_s()
        commands: list[tuple[Any, ...]] = [
            ("LLEN", self._ready),
            ("LRANGE", self._handed_over, 0, HANDED_OVER_MAX - 1),
            ("ZCOUNT", self._running, now, "+inf"),
            ("ZCOUNT", self._running, "-inf", f"({now}"),
            ("ZCOUNT", self._scheduled, "-inf", now),
            ("ZRANGEBYSCORE", self._scheduled, f"({now}", "+inf", "WITHSCORES", "LIMIT", 0, 1),
            ("ZCARD", self._scheduled),
            ("EXISTS", SUSPENDED_KEY),
            ("PTTL", self._cleaned),
        ]
        answers = await self.broker.read(*commands)
        if answers[1]:  # a job may be on this list and running already, and must not count twice
            *answers, members = await self.broker.read(
                *commands, ("ZRANGEBYSCORE", self._running, now, "+inf", "LIMIT", 0, RUNNING_MAX)
            )
            running_ids = {member.rpartition(b":")[0] for member in members}
            answers[1] = [job_id for job_id in answers[1] if job_id not in running_ids]
        ready, handed_over, running, expired, due, next_due, scheduled, suspended, lock_ms = answers
        stuck = self._stuck(handed_over, time.monotonic())
        abandoned = expired + stuck
        # Until this lock ends, a worker that comes for them does not look for them.
        not_yet = abandoned if lock_ms > 0 else 0
        next_due_at = first_score(next_due)
        if not_yet:
            looked_for_at = now + lock_ms / 1000
            next_due_at = looked_for_at if next_due_at is None else min(next_due_at, looked_for_at)
        waiting, in_flight = ready + due, running + len(handed_over) - stuck
        return Depth(
            waiting=0 if suspended else waiting,
            in_flight=in_flight,
            sampled_at_s=now,
            delayed=scheduled - due + not_yet,
            next_due_in_s=None if next_due_at is None else max(0.0, next_due_at - now),
            paused=bool(suspended),
            redelivered=abandoned,
            abandoned=0 if suspended else abandoned - not_yet,
            # A worker of one queue hands a job over by the list, a worker of several without.
            exact=self._hand_over.is_over(time.monotonic(), is_empty=waiting == in_flight == abandoned == 0),
        )

    async def taken(self) -> list[TakenJob]:
        """Running jobs with the names of their workers (``rq worker --name``)."""
        members = await self.broker.ask("ZRANGEBYSCORE", self._running, now_s(), "+inf", "LIMIT", 0, TAKEN_MAX)
        job_ids = [text(member).rpartition(":")[0] for member in members]
        if not job_ids:
            return []
        names = await self.broker.read(*[("HGET", f"rq:job:{job_id}", "worker_name") for job_id in job_ids])
        return [TakenJob(job_id, text(name)) for job_id, name in zip(job_ids, names, strict=True) if name]

    def _stuck(self, handed_over: list[bytes], now: float) -> int:
        """How many jobs have been on the hand-over list for too long, as of ``now`` in monotonic seconds."""
        since = {job_id: self._handed_over_since.get(job_id, now) for job_id in handed_over}
        self._handed_over_since = since
        return sum(now - first_seen >= HAND_OVER_MAX_S for first_seen in since.values())

    async def warnings(self) -> list[QueueWarning]:
        """Of suspended workers, of scheduled jobs that no worker enqueues, of jobs whose worker is gone."""
        now = now_s()
        suspended, overdue, abandoned = await self.broker.read(
            ("EXISTS", SUSPENDED_KEY),
            ("ZCOUNT", self._scheduled, "-inf", now - OVERDUE_S),
            ("ZCOUNT", self._running, "-inf", f"({now}"),
        )
        found = []
        if suspended:
            found.append(
                QueueWarning("paused", "All workers are suspended (rq suspend): nothing is demand until rq resume.")
            )
        if overdue:
            found.append(
                QueueWarning(
                    "scheduler",
                    f"{overdue} scheduled job(s) are overdue and count as waiting: only a worker that is started with "
                    "--with-scheduler enqueues them.",
                )
            )
        if abandoned:
            found.append(
                QueueWarning(
                    "abandoned",
                    f"{abandoned} job(s) had a worker whose heartbeat has expired, and wait for another one: the next "
                    "worker's maintenance fails them, or puts them back if they were enqueued with retry=.",
                )
            )
        return found

    async def start_watch(self) -> Watch | None:
        return await self.keyspace_watch("lz", [self._ready, self._running, self._scheduled, SUSPENDED_KEY])


_: type[Queue] = RqQueue
__: type[NamesConsumers] = RqQueue
