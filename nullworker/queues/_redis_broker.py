"""One connection to a Redis server that only reads, and its errors in plain words.

Every reading is one MULTI/EXEC of plain commands: one round trip, and numbers that belong together. Nothing is ever
written, and no setting of the server is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from nullworker.queues.base import QueueError, QueueUrlError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.queues.urls import QueueUrl

Command = tuple[Any, ...]

DEFAULT_PORT = 6379
ANSWER_LIMIT_S = 5.0  # a Redis that has not answered a read by then is as good as down
TLS_CA_PARAMETER = "tls_ca"


async def execute(client: redis.asyncio.Redis, *command: Any, **options: Any) -> Any:
    """A command by its name, as Redis documents it; ``options`` are for redis-py's reading of the answer."""
    return await client.execute_command(*command, **options)  # type: ignore[no-untyped-call]  # redis-py gives it no types


class RedisBroker:
    """A Redis server and database, as a queue's URL names them."""

    def __init__(self, url: QueueUrl) -> None:
        """Takes host, port, database and credentials from the URL; connects later.

        Raises:
            QueueError: the URL names no host, or a database that is no number.
        """
        if not url.host:
            raise QueueUrlError(f"{url.shown}: the URL names no host ({url.scheme}://host:port/db?…).")
        database = url.path.strip("/") or "0"
        if not database.isdecimal():
            raise QueueUrlError(f"{url.shown}: the path should be the number of a Redis database, not {database!r}.")
        self.url = url
        self.host, self.port, self.database = url.host, url.port or DEFAULT_PORT, int(database)
        self.version = ""  # known after `connect`
        self._closed = False
        self._reader = self.client(ANSWER_LIMIT_S)

    @property
    def place(self) -> str:
        """Where the server is, for messages."""
        return f"Redis at {self.host}:{self.port}"

    def client(self, socket_timeout_s: float | None) -> redis.asyncio.Redis:
        """A client of the server; the caller closes it. Without a timeout it may block."""
        tls: dict[str, Any] = {}
        if self.url.scheme.endswith(("+tls", "+rediss")):
            tls = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
            tls["ssl_ca_certs"] = self.url.parameters.get(TLS_CA_PARAMETER)
        return redis.asyncio.Redis(
            host=self.host,
            port=self.port,
            db=self.database,
            username=self.url.username or None,
            password=self.url.password or None,
            socket_timeout=socket_timeout_s,
            socket_connect_timeout=ANSWER_LIMIT_S,
            socket_keepalive=True,
            protocol=2,  # every Redis speaks it, and every redis-py answers it in the same shapes
            retry=Retry(NoBackoff(), 1),  # a connection that the server closed meanwhile is replaced once
            retry_on_error=[exceptions.ConnectionError],
            **tls,
        )

    async def connect(self) -> None:
        """Talks to the server once, so that a wrong address or password is known at once.

        Raises:
            QueueError: it does not answer, or refuses.
        """
        async with self.explained():
            with contextlib.suppress(exceptions.ResponseError):  # a user without the right to ask: that is an answer
                self.version = str((await self._reader.info("server")).get("redis_version", ""))

    async def read(self, *commands: Command) -> list[Any]:
        """The answers to read-only commands, taken at one instant by one round trip; None for "no such key".

        Raises:
            QueueError: the server does not answer, or refuses one of them.
        """
        async with self.explained():
            async with self._reader.pipeline(transaction=True) as pipe:
                for command in commands:
                    pipe.execute_command(*command)
                answers: list[Any] = await pipe.execute(raise_on_error=False)
            for index, answer in enumerate(answers):
                if isinstance(answer, exceptions.ResponseError) and "no such key" in str(answer):
                    answers[index] = None
                elif isinstance(answer, Exception):
                    raise answer
            return answers

    async def ask(self, *command: Any, **options: Any) -> Any:
        """The answer to one read-only command.

        Raises:
            QueueError: as for `read`.
        """
        async with self.explained():
            return await execute(self._reader, *command, **options)

    async def notifies(self, classes: str) -> bool:
        """Whether the server tells of changes to keys of these classes (its letters: ``l`` for lists, …).

        The setting is never changed here: it costs all users of the server, and its owner decides.
        """
        try:
            async with self.explained():
                settings = await self._reader.config_get("notify-keyspace-events")
        except QueueError as error:
            if isinstance(error.__cause__, exceptions.ResponseError):
                return False  # a user, or a managed server, without the right to ask
            raise
        flags = str(settings.get("notify-keyspace-events", ""))
        return "K" in flags and ("A" in flags or all(letter in flags for letter in classes))

    @contextlib.asynccontextmanager
    async def explained(self) -> AsyncIterator[None]:
        """Turns what redis-py raises into a `QueueError` of one sentence."""
        if self._closed:
            raise QueueError(f"{self.url.shown}: this queue was closed.")
        try:
            yield
        except (exceptions.RedisError, OSError, ValueError, asyncio.IncompleteReadError) as error:
            raise QueueError(f"{self.url.shown}: {self._sentence(error)}") from error

    def _sentence(self, error: Exception) -> str:
        words = str(error).strip().rstrip(".") or type(error).__name__
        if "\n" in words:
            words = words.splitlines()[0]
        if isinstance(error, exceptions.AuthenticationError):
            return f"{self.place} refused the user or password of the URL ({words})."
        if isinstance(error, exceptions.BusyLoadingError):
            return f"{self.place} is still loading its data; try again in a moment."
        if isinstance(error, exceptions.NoPermissionError):
            return f"{self.place} forbids its user to read this ({words}); allow it with ACL SETUSER."
        if isinstance(error, exceptions.ResponseError) and "WRONGTYPE" in words:
            return (
                f"a key of that name in {self.place} holds something else than such a queue; check the URL, "
                "and that the library is not older than the one tested (docs/queues.md)."
            )
        if isinstance(error, exceptions.ResponseError):
            return f"{self.place} refused a read ({words})."
        return f"{self.place} does not answer ({words}); is it running, and the address right?"

    async def close(self) -> None:
        """Closes the connections. Twice is no error."""
        self._closed = True
        with contextlib.suppress(exceptions.RedisError, OSError):
            await self._reader.aclose()
