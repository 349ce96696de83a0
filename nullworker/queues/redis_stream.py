"""A Redis stream that a consumer group reads.

    redis-stream://host:6379/0?stream=jobs&group=workers
    redis-stream://host:6379/0?stream=jobs&group=workers&claim_after=600    consumers XAUTOCLAIM what is idle so long
    redis-stream://host:6379/0?stream=jobs&group=workers&acks_late=false    consumers XACK before they work

Waiting is what the group has not been given yet, in flight what it was given and has not acknowledged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redis.exceptions import NoPermissionError, ResponseError

from nullworker.queues._leases import no_lease
from nullworker.queues._redis import TAKEN_MAX, RedisQueue, now_s, text
from nullworker.queues._redis_watch import StreamWatch
from nullworker.queues.base import Depth, NamesConsumers, Queue, QueueError, QueueWarning, TakenJob

if TYPE_CHECKING:
    from typing_extensions import Self

    from nullworker.queues._redis_watch import Watch
    from nullworker.queues.urls import QueueUrl

#: Where Redis does not know the group's lag, or may be wrong about it, entries are counted up to this many.
COUNTED_MAX = 256
#: A message in flight for longer, without ``claim_after`` in the URL, is worth a warning.
IDLE_S = 3600.0
IDLE_LOOKED_AT_MAX = 100
PENDING_LOOKED_AT_MAX = 1000

_COUNT = "return #redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', ARGV[2])"

_GONE = """
local gone = {}
for _, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[2])) do
    if #redis.call('XRANGE', KEYS[1], entry[1], entry[1]) == 0 then gone[#gone + 1] = entry[1] end
end
return gone
"""


class RedisStreamQueue(RedisQueue):
    """Reads a group's lag and its pending entries."""

    kind = "redis-stream"
    parameters = frozenset({"stream", "group", "claim_after", "acks_late"})
    has_clusters = True

    def __init__(self, url: QueueUrl, stream: str, group: str, claim_after_s: float | None) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            stream: its key.
            group: of consumers.
            claim_after_s: after this, consumers claim what others hold; None: not known.
        """
        super().__init__(url, f"{stream}, group {group}", key=stream)
        self._stream = stream
        self._group = group
        self._claim_after_s = claim_after_s
        self._acks_late = url.flag("acks_late", default=True)

    @classmethod
    def from_url(cls, url: QueueUrl) -> Self:
        claim_after_s = url.seconds("claim_after", 0.0) if "claim_after" in url.parameters else None
        return cls(url, url.text("stream"), url.text("group"), claim_after_s)

    async def depth(self) -> Depth:
        """Reads lag and pending; a group that does not exist yet is taken to begin at the stream's start."""
        facts, groups = await self.broker.read(("XINFO", "STREAM", self._stream), ("XINFO", "GROUPS", self._stream))
        stream, group = _pairs(facts or []), self._ours(groups)
        if group is None:
            return Depth(int(stream.get("length", 0)), 0, now_s())
        waiting, is_exact = await self._undelivered(stream, group)
        gone = await self._gone() if stream.get("entries-added") != stream["length"] else set()
        pending = max(0, int(group["pending"]) - len(gone))
        idle: list[Any] | None = []
        if pending:
            idle = None if self._claim_after_s is None else await self._idle(self._claim_after_s)
        left = sum(entry["message_id"] not in gone for entry in idle or ())
        return Depth(
            waiting,
            max(0, pending - left) if self._acks_late else None,
            now_s(),
            exact=is_exact and len(idle or ()) < IDLE_LOOKED_AT_MAX,
            abandoned=None if idle is None and self._acks_late else left,
        )

    async def _undelivered(self, stream: dict[str, Any], group: dict[str, Any]) -> tuple[int, bool]:
        """How many entries the group has not been given, and whether that is exact.

        The lag that Redis keeps is wrong for ever once entries were removed before the group had read them (up to 8.0),
        so that it is believed only of a stream from which nothing was ever removed.
        """
        length, delivered = int(stream["length"]), _id(group["last-delivered-id"])
        if not length or _id(stream["last-entry"][0]) <= delivered:
            return 0, True
        if _id(stream["first-entry"][0]) > delivered:
            return length, True
        lag = group.get("lag")
        if lag is not None and stream.get("entries-added") == length:
            return int(lag), True
        counted = await self._count(b"(" + group["last-delivered-id"])
        if counted <= COUNTED_MAX:
            return counted, True
        return max(COUNTED_MAX, min(length, int(lag or 0))), False

    async def _gone(self) -> set[bytes]:
        """Pending entries that were deleted instead of acknowledged, among the first: there is no job any more.

        Where the server allows no scripts they are not told from the others.
        """
        try:
            return set(await self.broker.ask("EVAL", _GONE, 1, self._stream, self._group, PENDING_LOOKED_AT_MAX))
        except QueueError as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            return set()

    async def _count(self, after: bytes) -> int:
        """How many entries there are from ``after`` on, `COUNTED_MAX` + 1 at most; by a script, which sends none."""
        question = (self._stream, after, COUNTED_MAX + 1)
        try:
            return int(await self.broker.ask("EVAL", _COUNT, 1, *question))
        except QueueError as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
        return len(await self.broker.ask("XRANGE", self._stream, after, "+", "COUNT", COUNTED_MAX + 1))

    async def taken(self) -> list[TakenJob]:
        """Pending entries with the names of their consumers (XREADGROUP's)."""
        try:
            question = ("XPENDING", self._stream, self._group, "-", "+", TAKEN_MAX)
            entries = await self.broker.ask(*question, parse_detail=True)
        except QueueError as error:
            if isinstance(error.__cause__, ResponseError) and "NOGROUP" in str(error.__cause__):
                return []  # neither stream nor group is there yet
            raise
        return [TakenJob(text(entry["message_id"]), text(entry["consumer"])) for entry in entries]

    async def warnings(self) -> list[QueueWarning]:
        """Of a missing group, of consumers that hold more than one message, of messages in flight for very long."""
        (groups,) = await self.broker.read(("XINFO", "GROUPS", self._stream))
        if self._ours(groups) is None:
            return [
                QueueWarning(
                    "no-group",
                    f"The group {self._group} does not exist yet: all that is in the stream counts as waiting; create "
                    f"it with XGROUP CREATE {self._stream} {self._group} 0 MKSTREAM, for with $ it would skip that.",
                )
            ]
        unknown = [no_lease("claim_after")] if self._claim_after_s is None else []
        return [*await self._prefetch(), *await self._idle_warning(), *unknown]

    async def _prefetch(self) -> list[QueueWarning]:
        consumers = await self.broker.ask("XINFO", "CONSUMERS", self._stream, self._group)
        most = max((int(_pairs(consumer)["pending"]) for consumer in consumers), default=0)
        if most <= 1:
            return []
        return [
            QueueWarning(
                "prefetch",
                f"One consumer of the group holds {most} messages: each counts as in flight, and opens a reservation: "
                "let consumers read with COUNT 1.",
            )
        ]

    async def _idle(self, idle_s: float) -> list[Any] | None:
        """Pending entries that have not been touched for ``idle_s`` seconds, `IDLE_LOOKED_AT_MAX` of them at most.

        Returns:
            None where Redis cannot tell: before 6.2.
        """
        question = ("XPENDING", self._stream, self._group, "IDLE", int(idle_s * 1000), "-", "+", IDLE_LOOKED_AT_MAX)
        try:
            return list(await self.broker.ask(*question, parse_detail=True))
        except QueueError as error:
            if isinstance(error.__cause__, ResponseError):
                return None
            raise

    async def _idle_warning(self) -> list[QueueWarning]:
        idle_s = self._claim_after_s or IDLE_S
        idle = await self._idle(idle_s)
        if not idle:
            return []
        some = f"{len(idle)}{'+' if len(idle) == IDLE_LOOKED_AT_MAX else ''}"
        return [
            QueueWarning(
                "idle-pending",
                f"{some} message(s) are in flight for over {idle_s:g} s without a sign of life: if their consumers are "
                "dead, let the living XAUTOCLAIM them, for a reservation stays open for each.",
            )
        ]

    def _ours(self, groups: list[Any] | None) -> dict[str, Any] | None:
        name = self._group.encode()
        return next((found for found in map(_pairs, groups or ()) if found["name"] == name), None)

    def lease_s(self) -> float | None:
        return self._claim_after_s

    async def start_watch(self) -> Watch | None:
        watch = StreamWatch(self.broker, self._stream)
        await watch.start()
        return watch


def _id(text: bytes) -> tuple[int, int]:
    """An entry's id as what orders it."""
    milliseconds, _, number = text.partition(b"-")
    return int(milliseconds), int(number)


def _pairs(flat: list[Any]) -> dict[str, Any]:
    """A flat list of names and values as Redis answers it, as a dictionary."""
    return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}


_: type[Queue] = RedisStreamQueue
__: type[NamesConsumers] = RedisStreamQueue
