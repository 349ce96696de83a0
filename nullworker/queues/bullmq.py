"""BullMQ.

    bullmq://host:6379/0?queue=jobs
    bullmq://host:6379/0?queue=jobs&prefix=bull
    bullmq://host:6379/0?queue=jobs&rate_limit=10     as the workers' ``limiter.max`` says, which is not in Redis

Keys as BullMQ 5 and 6 write them. Its stream of events, read without a group, tells of every change at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.queues._redis import TAKEN_MAX, RedisQueue, first_score, now_s, text
from nullworker.queues._redis_watch import StreamWatch
from nullworker.queues.base import Depth, NamesConsumers, Queue, QueueWarning, TakenJob

if TYPE_CHECKING:
    from typing_extensions import Self

    from nullworker.queues._redis_watch import Watch
    from nullworker.queues.urls import QueueUrl

#: Scores of delayed jobs are milliseconds times this; the low bits order jobs within one.
SCORES_PER_MS = 0x1000
#: Before version 5 a marker that is no job could be the last element of the list of waiting jobs.
MARKER = b"0:"
#: So many active jobs are looked at for a lock.
ACTIVE_LOOKED_AT_MAX = 100
OLDEST_VERSION = 5
#: A rate limit that is over sooner than this, in milliseconds, is no reason to count what waits as delayed.
LIMITED_MIN_MS = 5000
#: What ``queue.rateLimit()`` sets the count to, whatever the limit.
STOPPED_COUNT = 2**53 - 1

_WITHOUT_LOCK = """
local count = 0
for _, id in ipairs(redis.call('LRANGE', KEYS[1] .. 'active', 0, tonumber(ARGV[1]) - 1)) do
    if redis.call('EXISTS', KEYS[1] .. id .. ':lock') == 0 then count = count + 1 end
end
return count
"""


class BullmqQueue(RedisQueue):
    """Reads one queue of BullMQ."""

    kind = "bullmq"
    parameters = frozenset({"queue", "prefix", "rate_limit"})
    has_clusters = True

    def __init__(self, url: QueueUrl, name: str, prefix: str) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            name: of the queue.
            prefix: of its keys.
        """
        super().__init__(url, name, key=f"{prefix}:{name}:")
        self._prefix = f"{prefix}:{name}:"
        self._rate_limit = url.count("rate_limit")

    @classmethod
    def from_url(cls, url: QueueUrl) -> Self:
        return cls(url, url.text("queue"), url.text("prefix", "bull"))

    async def depth(self) -> Depth:
        """Reads the queue by one round trip.

        Waiting are also delayed jobs that are due: a worker that comes moves them. A job whose worker died stays among
        the active ones without a lock, until another worker finds it stalled: it is abandoned. Locks are looked at by
        a second round trip, of the first active jobs.
        """
        now = now_s()
        due_scores_end = (int(now * 1000) + 1) * SCORES_PER_MS
        key = self._prefix
        ready, last, prioritized, active, delayed, due, next_due, settings, *limiter, groups = await self.broker.read(
            ("LLEN", key + "wait"),
            ("LINDEX", key + "wait", -1),
            ("ZCARD", key + "prioritized"),
            ("LLEN", key + "active"),
            ("ZCARD", key + "delayed"),
            ("ZCOUNT", key + "delayed", "-inf", f"({due_scores_end}"),
            ("ZRANGEBYSCORE", key + "delayed", due_scores_end, "+inf", "WITHSCORES", "LIMIT", 0, 1),
            ("HMGET", key + "meta", "paused", "concurrency", "max"),
            ("GET", key + "limiter"),
            ("PTTL", key + "limiter"),
            ("EXISTS", key + "groups"),
        )
        paused, concurrency, limit = settings
        limited_ms = self._limited_ms(limit, *limiter)
        markers = 1 if last is not None and last.startswith(MARKER) else 0
        next_score = first_score(next_due)
        abandoned = await self._without_lock() if active else 0
        waiting, later = ready - markers + prioritized + due, delayed - due
        next_due_in_s = None if next_score is None else max(0.0, next_score / SCORES_PER_MS / 1000 - now)
        if limited_ms and waiting:  # none of them can start until then
            waiting, later = 0, later + waiting
            next_due_in_s = min(limited_ms / 1000, next_due_in_s or float("inf"))
        return Depth(
            waiting=0 if paused is not None else waiting,
            in_flight=active - abandoned,
            abandoned=0 if paused is not None else abandoned,
            exact=active <= ACTIVE_LOOKED_AT_MAX and not groups,
            sampled_at_s=now,
            delayed=later,
            next_due_in_s=next_due_in_s,
            parallel_max=None if concurrency is None else int(concurrency),
            paused=paused is not None,
        )

    def _limited_ms(self, limit: bytes | None, count: bytes | None, ttl_ms: int) -> int:
        """For how long no job may start, as a rate limit has it; 0 for none, or for one that is over soon.

        Args:
            limit: the queue's own; None: there is none, and the workers' is what the URL says.
            count: how many have started in this period.
            ttl_ms: how long the period still lasts.
        """
        most = int(limit) if limit else self._rate_limit or STOPPED_COUNT
        return ttl_ms if ttl_ms >= LIMITED_MIN_MS and int(count or 0) >= most else 0

    async def _without_lock(self) -> int:
        """How many of the active jobs have no lock, by one script: a job that ends in between has none either."""
        return int(await self.broker.ask("EVAL", _WITHOUT_LOCK, 1, self._prefix, ACTIVE_LOOKED_AT_MAX))

    async def taken(self) -> list[TakenJob]:
        """Active jobs with the names of their workers (the worker's option ``name``)."""
        job_ids = [
            text(job_id) for job_id in await self.broker.ask("LRANGE", self._prefix + "active", 0, TAKEN_MAX - 1)
        ]
        if not job_ids:
            return []
        names = await self.broker.read(*[("HGET", self._prefix + job_id, "pb") for job_id in job_ids])
        return [TakenJob(job_id, text(name)) for job_id, name in zip(job_ids, names, strict=True) if name]

    async def warnings(self) -> list[QueueWarning]:
        """Of a paused queue, of limits on how many jobs run, of jobs whose worker died, of an older library."""
        key = self._prefix
        exists, groups, started, active, settings = await self.broker.read(
            ("EXISTS", key + "id"),
            ("EXISTS", key + "groups"),
            ("GET", key + "limiter"),
            ("LLEN", key + "active"),
            ("HMGET", key + "meta", "paused", "concurrency", "max", "duration", "version"),
        )
        paused, concurrency, limit, limit_ms, version = [value and value.decode() for value in settings]
        found = []
        if paused:
            found.append(QueueWarning("paused", "The queue is paused: nothing in it is demand until queue.resume()."))
        if concurrency:
            found.append(
                QueueWarning(
                    "concurrency",
                    f"The queue's global concurrency is {concurrency}: no more jobs run at once, however many wait.",
                )
            )
        if limit:
            found.append(
                QueueWarning(
                    "rate-limit",
                    f"The queue starts at most {limit} job(s) in {limit_ms} ms: workers beyond that are held and idle.",
                )
            )
        elif started and not self._rate_limit:
            found.append(
                QueueWarning(
                    "rate-limit",
                    "Workers have a rate limit, which is not in Redis, and leaves them held and idle: add "
                    "&rate_limit=NUMBER to the URL, as their limiter.max says.",
                )
            )
        if groups:
            found.append(
                QueueWarning(
                    "groups",
                    "Jobs are in groups of BullMQ Pro, which are not read: more wait than the numbers show.",
                )
            )
        abandoned = await self._without_lock() if active else 0
        if abandoned:
            found.append(
                QueueWarning(
                    "stalled",
                    f"{abandoned} active job(s) have no lock: their worker died, or its event loop was "
                    "blocked for over lockDuration; the next worker's stalled check runs them again.",
                )
            )
        if exists and _major(version) < OLDEST_VERSION:
            found.append(
                QueueWarning(
                    "old-library",
                    f"The queue was written by {version or 'Bull, or a BullMQ before 5'}: it is read as BullMQ "
                    f"{OLDEST_VERSION} and later lay it out, so upgrade the library if the numbers look wrong.",
                )
            )
        return found

    async def start_watch(self) -> Watch | None:
        watch = StreamWatch(self.broker, self._prefix + "events")
        await watch.start()
        return watch


def _major(version: str | None) -> int:
    """5 of ``bullmq:5.1.2``; 0 if it says nothing of the kind."""
    digits = (version or "").rpartition(":")[2].partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


_: type[Queue] = BullmqQueue
__: type[NamesConsumers] = BullmqQueue
