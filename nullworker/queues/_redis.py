"""What the queues on Redis share: opening from a URL, telling of changes, closing."""

from __future__ import annotations

import abc
import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar

from nullworker.queues._redis_broker import RedisBroker
from nullworker.queues._redis_servers import CONNECTIONS, Servers
from nullworker.queues._redis_watch import KeyspaceWatch, Watch
from nullworker.queues.base import Depth, QueueInfo, QueueWarning
from nullworker.queues.urls import QueueUrl, parse_url

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from typing_extensions import Self

    from nullworker.queues.connections import Connections


#: So many jobs in flight are looked at for their consumers' names.
TAKEN_MAX = 200
#: Popping a message and noting that it is held are milliseconds apart.
HAND_OVER_S = 1.0


def now_s() -> float:
    """Unix time in seconds: what libraries write into Redis as due times and leases."""
    return time.time()  # noqa: TID251 - compared with times that other processes wrote


def first_score(with_scores: list[Any]) -> float | None:
    """The first score of a ZRANGE WITHSCORES, in whichever of its two ways redis-py gives it; None if it is empty."""
    if not with_scores:
        return None
    first = with_scores[0]
    return float(first[1] if isinstance(first, (tuple, list)) else with_scores[1])


def text(value: bytes | str | None) -> str:
    """What Redis keeps as bytes; "" where there is nothing."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


class HandOver:
    """For queues from which a message is popped first and noted as held a moment later: there it is nowhere.

    So the first readings of an empty queue are not taken for certain, until it has been empty for `HAND_OVER_S`.
    """

    def __init__(self) -> None:
        self._empty_since: float | None = None

    def is_over(self, now: float, *, is_empty: bool) -> bool:
        """Whether nothing can be on its way, as of a reading at ``now``, in seconds of a monotonic clock."""
        if not is_empty:
            self._empty_since = None
            return True
        if self._empty_since is None:
            self._empty_since = now
        return now - self._empty_since >= HAND_OVER_S


class RedisQueue(abc.ABC):
    """The part of a queue that all adapters on Redis have in common; each adds what to read, and what to warn of."""

    #: As in `QueueInfo.kind`.
    kind: ClassVar[str]
    #: Names of the URL's parameters.
    parameters: ClassVar[frozenset[str]]
    #: How the URL says where the server is.
    CONNECTIONS: ClassVar[Connections] = CONNECTIONS
    #: Whether the library works on a Redis Cluster.
    has_clusters: ClassVar[bool] = False

    def __init__(self, url: QueueUrl, name: str, *, key: str | None = None) -> None:
        """Use `open`.

        Args:
            url: of the queue, taken apart.
            name: of the queue.
            key: one of its keys; None: its name is one.
        """
        self.url = url
        self.name = name
        self._servers = Servers.of(url, key=key or name, has_clusters=self.has_clusters)
        self.broker = RedisBroker(self._servers)
        self.watch: Watch | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Opens the queue that ``url`` names; it need not exist yet.

        Raises:
            QueueError: the URL is wrong, or the broker does not answer or refuses.
        """
        queue = cls.from_url(parse_url(url, parameters=cls.parameters, connections=cls.CONNECTIONS))
        try:
            await queue.start()
        except BaseException:
            await queue.close()
            raise
        return queue

    @classmethod
    @abc.abstractmethod
    def from_url(cls, url: QueueUrl) -> Self:
        """Makes the queue from the checked parts of its URL, without connecting."""

    @abc.abstractmethod
    async def depth(self) -> Depth:
        """Reads the queue once.

        Raises:
            QueueError: the broker did not answer, or holds something else under these keys.
        """

    @abc.abstractmethod
    async def warnings(self) -> list[QueueWarning]:
        """What is wrong with the queue now, or will hurt.

        Raises:
            QueueError: as for `depth`.
        """

    async def start(self) -> None:
        """Connects, and reads once.

        Raises:
            QueueError: as for `open`.
        """
        await self.broker.connect()
        self.watch = await self.start_watch()  # before the first reading, so that no change is missed
        await self.depth()

    async def start_watch(self) -> Watch | None:
        """A watch that announces changes; None where the queue must be polled."""
        return None

    async def keyspace_watch(
        self, classes: str, keys: Sequence[str], patterns: Sequence[str] = ()
    ) -> KeyspaceWatch | None:
        """A watch over keys, if the server announces changes to keys of these classes.

        Args:
            classes: letters of ``notify-keyspace-events``.
            keys: names of keys.
            patterns: patterns of names.
        """
        if not await self.broker.notifies(classes):
            return None
        watch = KeyspaceWatch(self.broker, keys, patterns)
        await watch.start()
        return watch

    def lease_s(self) -> float | None:
        """As in `QueueInfo.lease_s`."""
        return None

    async def info(self) -> QueueInfo:
        """What there is to know of the queue, with warnings.

        Raises:
            QueueError: as for `depth`.
        """
        await self.broker.connect()
        warnings = [*self._servers.warnings(), *await self.warnings()]
        version = self.broker.version
        return QueueInfo(
            kind=self.kind,
            name=self.name,
            broker=f"{self.broker.place}/{self.broker.database}" + (f" ({version})" if version else ""),
            lease_s=self.lease_s(),
            pushes=self.watch is not None,
            warnings=tuple(warnings),
        )

    async def changed(self, timeout_s: float) -> bool:
        """True as soon as the server tells of a change; where it cannot, False after ``timeout_s``.

        Raises:
            QueueError: the broker does not answer.
        """
        if self.watch is not None:
            return await self.watch.changed(timeout_s)
        await asyncio.sleep(timeout_s)
        return False

    async def close(self) -> None:
        """Lets go of every connection."""
        if self.watch is not None:
            await self.watch.close()
        await self.broker.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()
