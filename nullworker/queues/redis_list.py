"""A plain Redis list: producers push, consumers pop.

    redis-list://host:6379/0?key=jobs
    redis-list://host:6379/0?key=jobs&processing=jobs:processing    consumers move (LMOVE) instead of popping

A popped element is nowhere in Redis while it is worked on, so that what is in flight is unknown, unless the consumers
move it to a ``processing`` list and remove it from there when it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.queues._leases import no_lease
from nullworker.queues._redis import RedisQueue, now_s
from nullworker.queues.base import Depth, Queue, QueueWarning

if TYPE_CHECKING:
    from typing_extensions import Self

    from nullworker.queues._redis_watch import Watch
    from nullworker.queues.urls import QueueUrl


class RedisListQueue(RedisQueue):
    """Reads the length of a list, and of the list of what is processed if there is one."""

    kind = "redis-list"
    parameters = frozenset({"key", "processing", "lease"})
    has_clusters = True

    def __init__(self, url: QueueUrl, key: str, processing: str | None, lease_s: float | None) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            key: of the list.
            processing: the key of the list of elements in flight; None: there is none.
            lease_s: after this, consumers put back what others seem to have left there; None: not known.
        """
        super().__init__(url, key)
        self._key = key
        self._processing = processing
        self._lease_s = lease_s

    @classmethod
    def from_url(cls, url: QueueUrl) -> Self:
        processing = url.text("processing") if "processing" in url.parameters else None
        lease_s = url.seconds("lease", 0.0) if "lease" in url.parameters else None
        return cls(url, url.text("key"), processing, lease_s)

    async def depth(self) -> Depth:
        """Reads both lengths; ``in_flight`` is None without a processing list."""
        if self._processing is None:
            (waiting,) = await self.broker.read(("LLEN", self._key))
            return Depth(waiting, None, now_s())
        waiting, in_flight = await self.broker.read(("LLEN", self._key), ("LLEN", self._processing))
        return Depth(waiting, in_flight, now_s(), abandoned=None if in_flight else 0)

    def lease_s(self) -> float | None:
        return self._lease_s

    async def warnings(self) -> list[QueueWarning]:
        """A consumer that pops loses its job when it dies, and its work is not visible."""
        if self._processing is not None:
            return [no_lease("lease")] if self._lease_s is None else []
        return [
            QueueWarning(
                "early-ack",
                "A popped element is out of Redis: it is not seen in flight, and is lost if its consumer dies; let "
                "consumers LMOVE it to a second list until it is done, and add &processing=LIST to the URL.",
            )
        ]

    async def start_watch(self) -> Watch | None:
        return await self.keyspace_watch("l", [key for key in (self._key, self._processing) if key])


_: type[Queue] = RedisListQueue
