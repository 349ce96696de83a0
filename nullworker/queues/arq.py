"""arq.

    arq://host:6379/0?queue=arq:queue
    arq://host:6379/0?queue=gpu&job_timeout=7200&read_limit=100     as the workers' settings say, where they differ

A job stays in the queue's sorted set (score: due time in ms) while it runs; that it runs is a key of its own. So what
waits and what is in flight together are always exact, and they are told apart among the first `WINDOW` due jobs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from nullworker.queues._redis import RedisQueue, first_score, now_s
from nullworker.queues.base import Depth, Queue, QueueUrlError, QueueWarning

if TYPE_CHECKING:
    from typing_extensions import Self

    from nullworker.queues._redis_watch import Watch
    from nullworker.queues.urls import QueueUrl

IN_PROGRESS = b"arq:in-progress:"
#: Jobs in progress are among the first that are due, for workers take them from there.
WINDOW = 256
DEFAULT_JOB_TIMEOUT_S = 300.0
#: arq keeps the key of a running job for so long beyond the job's timeout.
LEASE_MARGIN_S = 10.0
#: A worker looks at this many due jobs by default; where all of them run elsewhere, it finds none for itself.
DEFAULT_READ_LIMIT = 100


class ArqQueue(RedisQueue):
    """Reads one queue of arq."""

    kind = "arq"
    parameters = frozenset({"queue", "job_timeout", "read_limit"})

    def __init__(self, url: QueueUrl, name: str, job_timeout_s: float, read_limit: int) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            name: the key of the sorted set.
            job_timeout_s: the workers' ``job_timeout``.
            read_limit: the workers' ``queue_read_limit``.
        """
        super().__init__(url, name)
        self._key = name
        self._job_timeout_s = job_timeout_s
        self._read_limit = read_limit

    @classmethod
    def from_url(cls, url: QueueUrl) -> Self:
        read_limit = url.text("read_limit", str(DEFAULT_READ_LIMIT))
        if not read_limit.isdecimal() or int(read_limit) == 0:
            raise QueueUrlError(f"{url.shown}: read_limit should be a number of jobs, not {read_limit!r}.")
        name = url.text("queue", "arq:queue")
        return cls(url, name, url.seconds("job_timeout", DEFAULT_JOB_TIMEOUT_S), int(read_limit))

    async def depth(self) -> Depth:
        """Reads which jobs are due, and then, at one instant, how many, and how many of those are in progress."""
        now = now_s()
        now_ms = int(now * 1000)
        (first,) = await self.broker.read(("ZRANGEBYSCORE", self._key, "-inf", now_ms, "LIMIT", 0, WINDOW))
        due, total, next_due, *running = await self.broker.read(
            ("ZCOUNT", self._key, "-inf", now_ms),
            ("ZCARD", self._key),
            ("ZRANGEBYSCORE", self._key, f"({now_ms}", "+inf", "WITHSCORES", "LIMIT", 0, 1),
            *([("EXISTS", *[IN_PROGRESS + job_id for job_id in first])] if first else []),
        )
        next_due_ms = first_score(next_due)
        in_flight = min(due, running[0]) if running else 0
        return Depth(
            waiting=due - in_flight,
            in_flight=in_flight,
            sampled_at_s=now,
            delayed=total - due,
            next_due_in_s=None if next_due_ms is None else max(0.0, next_due_ms / 1000 - now),
            parallel_max=self._read_limit,
            exact=due <= WINDOW,
        )

    async def warnings(self) -> list[QueueWarning]:
        """Of a worker that runs several jobs at once, as arq's do by default."""
        (health,) = await self.broker.read(("GET", f"{self._key}:health-check"))
        found = re.search(rb"j_ongoing=(\d+)", health or b"")
        if not found or int(found[1]) <= 1:
            return []
        return [
            QueueWarning(
                "prefetch",
                f"A worker runs {int(found[1])} jobs at once, and each opens a reservation: set max_jobs = 1 in the "
                "workers' settings, or give --jobs-per-worker.",
            )
        ]

    def lease_s(self) -> float | None:
        """When the key of a running job expires, another worker runs the job."""
        return self._job_timeout_s + LEASE_MARGIN_S

    async def start_watch(self) -> Watch | None:
        return await self.keyspace_watch("z", [self._key])


_: type[Queue] = ArqQueue
