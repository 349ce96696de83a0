"""One connection to a Redis server that only reads, and its errors in plain words.

Every reading is one MULTI/EXEC of plain commands: one round trip, and numbers that belong together. Nothing is ever
written, and no setting of the server is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from nullworker.queues.base import QueueError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from nullworker.queues._redis_servers import Servers
    from nullworker.queues.urls import Host

Command = tuple[Any, ...]
_T = TypeVar("_T")

ANSWER_LIMIT_S = 5.0  # a Redis that has not answered a read by then is as good as down
#: What shows that another server may have taken over.
MOVED = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.MovedError, exceptions.ReadOnlyError, OSError)


async def execute(client: redis.asyncio.Redis, *command: Any, **options: Any) -> Any:
    """A command by its name, as Redis documents it; ``options`` are for redis-py's reading of the answer."""
    return await client.execute_command(*command, **options)  # type: ignore[no-untyped-call]  # redis-py gives it no types


class RedisBroker:
    """A Redis database, as a queue's URL names it."""

    def __init__(self, servers: Servers) -> None:
        """Connects later.

        Raises:
            QueueUrlError: the database is no number.
        """
        self.url = servers.url
        self.database = servers.database
        self.version = ""  # known after `connect`
        self._servers = servers
        self._closed = False
        self._reader: redis.asyncio.Redis | None = None
        self._making = asyncio.Lock()

    @property
    def place(self) -> str:
        """Where the server is, for messages."""
        return self._servers.shown

    async def client(self, socket_timeout_s: float | None) -> redis.asyncio.Redis:
        """A client of the server that is to be read from; the caller closes it. Without a timeout it may block."""
        host = await self._servers.current(self._ask_server)
        access = {"username": self._username, "password": self._password, "db": self.database}
        return self._client(host, access, socket_timeout_s, must_be_master=self._servers.has_master)

    @property
    def _username(self) -> str | None:
        return self.url.username or self.url.parameters.get("username") or None

    @property
    def _password(self) -> str | None:
        return self.url.password or self.url.parameters.get("password") or None

    def _client(
        self, host: Host, access: dict[str, Any], socket_timeout_s: float | None, *, must_be_master: bool = False
    ) -> redis.asyncio.Redis:
        return redis.asyncio.Redis(
            **{"username": self._username, "password": self._password, **access},
            **self._servers.options(host),
            socket_timeout=socket_timeout_s,
            socket_connect_timeout=ANSWER_LIMIT_S,
            socket_keepalive=True,
            protocol=2,  # every Redis speaks it, and every redis-py answers it in the same shapes
            # A connection that the server closed meanwhile is replaced once; here, unless it takes asking where to.
            retry=Retry(NoBackoff(), 0 if self._servers.may_move else 1),
            retry_on_error=[exceptions.ConnectionError],
            redis_connect_func=_greet_master if must_be_master else None,
        )

    async def _ask_server(self, host: Host, access: dict[str, Any], command: Command) -> Any:
        client = self._client(host, access, ANSWER_LIMIT_S)
        try:
            return await execute(client, *command)
        finally:
            await client.aclose()

    async def _with_reader(self, work: Callable[[redis.asyncio.Redis], Awaitable[_T]]) -> _T:
        """What ``work`` returns; done once more with a new connection where another server may have taken over."""
        while True:
            is_fresh = self._reader is None
            async with self._making:
                if self._reader is None:
                    self._reader = await self.client(ANSWER_LIMIT_S)
                reader = self._reader
            try:
                return await work(reader)
            except MOVED:
                if not self._servers.may_move:
                    raise
                if self._reader is reader:
                    self._reader = None
                    with contextlib.suppress(exceptions.RedisError, OSError):
                        await reader.aclose()
                if is_fresh:
                    raise

    async def connect(self) -> None:
        """Talks to the server once, so that a wrong address or password is known at once.

        Raises:
            QueueError: it does not answer, or refuses.
        """
        async with self.explained():
            with contextlib.suppress(exceptions.ResponseError):  # a user without the right to ask: that is an answer
                facts = await self._with_reader(lambda reader: reader.info("server"))
                self.version = str(facts.get("redis_version", ""))

    async def read(self, *commands: Command) -> list[Any]:
        """The answers to read-only commands, taken at one instant by one round trip; None for "no such key".

        Raises:
            QueueError: the server does not answer, or refuses one of them.
        """
        async with self.explained():
            return await self._with_reader(lambda reader: _transaction(reader, commands))

    async def ask(self, *command: Any, **options: Any) -> Any:
        """The answer to one read-only command.

        Raises:
            QueueError: as for `read`.
        """
        async with self.explained():
            return await self._with_reader(lambda reader: execute(reader, *command, **options))

    async def notifies(self, classes: str) -> bool:
        """Whether the server tells of changes to keys of these classes (its letters: ``l`` for lists, …).

        The setting is never changed here: it costs all users of the server, and its owner decides.
        """
        try:
            async with self.explained():
                settings = await self._with_reader(lambda reader: reader.config_get("notify-keyspace-events"))
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
            secrets = (self._password, self.url.parameters.get("sentinel_password"))
            raise QueueError(self.url.hidden(f"{self.url.shown}: {self._sentence(error)}", *secrets)) from error

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
        if isinstance(error, exceptions.MovedError) or (
            isinstance(error, exceptions.ResponseError) and "slot" in words
        ):
            return f"{self.place} has the keys of this queue in different slots; put a part of their names in braces."
        if isinstance(error, exceptions.ResponseError):
            return f"{self.place} refused a read ({words})."
        return f"{self.place} does not answer ({words}); is it running, and the address right?"

    async def close(self) -> None:
        """Closes the connections. Twice is no error."""
        self._closed = True
        with contextlib.suppress(exceptions.RedisError, OSError):
            if self._reader is not None:
                await self._reader.aclose()


async def _greet_master(connection: Any) -> None:
    """Ends a new connection to a server that is no master any more: redis-py makes lost ones again by itself.

    Raises:
        redis.exceptions.ConnectionError: it is a replica.
    """
    await connection.on_connect()
    await connection.send_command("ROLE")
    with contextlib.suppress(exceptions.NoPermissionError):  # a user without the right to ask
        role = (await connection.read_response())[0]
        if role not in {b"master", "master"}:
            raise exceptions.ConnectionError("it is a replica now")


async def _transaction(reader: redis.asyncio.Redis, commands: Sequence[Command]) -> list[Any]:
    """The answers to commands, taken at one instant; None for "no such key"."""
    async with reader.pipeline(transaction=True) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        answers: list[Any] = await pipe.execute(raise_on_error=False)
    for index, answer in enumerate(answers):
        if isinstance(answer, exceptions.ResponseError) and "no such key" in str(answer):
            answers[index] = None
        elif isinstance(answer, Exception):
            raise answer
    return answers
