"""Word of changes from a Redis server: keyspace notifications, and blocking reads of a stream. They take nothing."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Protocol

from redis import exceptions

from nullworker.queues._redis_broker import ANSWER_LIMIT_S, RedisBroker, execute
from nullworker.queues.base import QueueError
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis.asyncio

#: One blocking read lasts at most this long, so that a connection that died silently is noticed.
BLOCK_LIMIT_S = 20.0
#: One change often makes several messages; those that follow each other so closely, for so long, count as one change.
BURST_GAP_S = 0.001
BURST_LIMIT_S = 0.02


class Watch(Protocol):
    """Announces changes of a queue."""

    async def changed(self, timeout_s: float) -> bool: ...
    async def close(self) -> None: ...


def _expect(message: Any, command: str) -> Any:
    if message is None:
        raise TimeoutError(f"no answer to {command}")
    return message


class KeyspaceWatch:
    """Learns from the server when one of some keys changes (keyspace notifications)."""

    def __init__(self, broker: RedisBroker, keys: Sequence[str], patterns: Sequence[str] = ()) -> None:
        """Subscribes to nothing yet: call `start`.

        Args:
            broker: the server.
            keys: names of keys.
            patterns: patterns of names.
        """
        self._broker = broker
        prefix = f"__keyspace@{broker.database}__:"
        self._channels = [prefix + key for key in keys]
        self._patterns = [prefix + pattern for pattern in patterns]
        self._client: redis.asyncio.Redis | None = None
        self._pubsub: Any = None

    async def start(self) -> None:
        """Subscribes; changes from now on are announced.

        Raises:
            QueueError: the server does not answer, or refuses.
        """
        try:
            async with self._broker.explained():
                self._client = await self._broker.client(None)
                self._pubsub = self._client.pubsub(ignore_subscribe_messages=False)
                await self._pubsub.subscribe(*self._channels)
                if self._patterns:
                    await self._pubsub.psubscribe(*self._patterns)
                for _ in range(len(self._channels) + len(self._patterns)):
                    _expect(await self._pubsub.get_message(timeout=ANSWER_LIMIT_S), "SUBSCRIBE")
        except BaseException:
            await self.close()
            raise

    async def changed(self, timeout_s: float) -> bool:
        """True as soon as a key has changed since the last call, or may have while the connection was lost.

        Raises:
            QueueError: the connection is lost, and could not be made again.
        """
        if self._pubsub is None:
            await self.start()
            return True
        deadline = time.monotonic() + timeout_s
        try:
            async with self._broker.explained():
                while not await self._next(max(0.0, deadline - time.monotonic())):
                    if time.monotonic() >= deadline:
                        return False
                limit = time.monotonic() + BURST_LIMIT_S
                while await self._next(BURST_GAP_S) and time.monotonic() < limit:
                    pass
                return True
        except QueueError:
            await self.close()
            raise

    async def _next(self, timeout_s: float) -> bool:
        """Whether a message came; a ping in between shows that the connection lives."""
        message = await self._pubsub.get_message(timeout=min(timeout_s, BLOCK_LIMIT_S))
        if message is None and timeout_s >= BLOCK_LIMIT_S:
            await self._pubsub.ping()
            message = _expect(await self._pubsub.get_message(timeout=ANSWER_LIMIT_S), "PING")
        return message is not None and str(message["type"]).endswith("message")

    async def close(self) -> None:
        """Ends the subscription. Twice is no error."""
        pubsub, client, self._pubsub, self._client = self._pubsub, self._client, None, None
        with contextlib.suppress(exceptions.RedisError, OSError):
            if pubsub is not None:
                await pubsub.aclose()
            if client is not None:
                await client.aclose()


class StreamWatch:
    """Waits for the next entry of a stream by a blocking XREAD without a group, which takes nothing from consumers."""

    def __init__(self, broker: RedisBroker, key: str) -> None:
        self._broker = broker
        self._key = key
        self._last_id: Any = None
        self._client: redis.asyncio.Redis | None = None

    async def start(self) -> None:
        """Remembers where the stream ends now.

        Raises:
            QueueError: the server does not answer, or refuses.
        """
        async with self._broker.explained():
            self._client = await self._broker.client(None)
        self._last_id = await self._end()

    async def _end(self) -> Any:
        newest = await self._broker.ask("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return newest[0][0] if newest else b"0-0"

    async def changed(self, timeout_s: float) -> bool:
        """True as soon as the stream is longer than at the last call.

        Raises:
            QueueError: the server does not answer.
        """
        if self._client is None:
            await self.start()
            return True
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                remaining_s = deadline - time.monotonic()
                block_s = min(max(remaining_s, 0.001), BLOCK_LIMIT_S)
                if await self._read(block_s):
                    self._last_id = await self._end()
                    return True
                if remaining_s <= block_s:
                    return False
        except QueueError:
            await self.close()
            raise

    async def _read(self, block_s: float) -> bool:
        assert self._client is not None
        command = ("XREAD", "COUNT", 1, "BLOCK", max(1, int(block_s * 1000)), "STREAMS", self._key, self._last_id)
        async with self._broker.explained():
            try:
                answer = await within(execute(self._client, *command), block_s + ANSWER_LIMIT_S)
            except asyncio.TimeoutError:
                raise TimeoutError("no answer to XREAD") from None
        return bool(answer)

    async def close(self) -> None:
        """Ends the connection. Twice is no error."""
        client, self._client = self._client, None
        with contextlib.suppress(exceptions.RedisError, OSError):
            if client is not None:
                await client.aclose()
