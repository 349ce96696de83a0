"""A PostgreSQL database as all its queues share it: two connections, batched readings, errors as sentences.

However many queues of a database are followed, it sees one connection that reads and one that listens. Readings that
are asked for while another is under way are done together by one query, so that a hundred queues cost about as much
as one. Nothing is ever written.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias
from weakref import WeakKeyDictionary

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from nullworker.queues._batches import Batch
from nullworker.queues._postgres_connections import CONNECT_LIMIT_S, conninfo_settings, shown_place, tls_warnings
from nullworker.queues.base import QueueError
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from nullworker.queues.urls import QueueUrl

Row: TypeAlias = "dict[str, Any]"

#: A count over a million jobs takes about a second; what takes longer than this is stuck behind a lock.
QUERY_LIMIT_S = 20.0


class OtherTablesError(QueueError):
    """The tables are there, and are not as the adapter knows them."""


class Database:
    """A database, as all queues in it share it within one event loop. Opened by `share`, let go of by `leave`."""

    _shared: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Database]]] = WeakKeyDictionary()

    def __init__(self, conninfo: str, url: QueueUrl, settings: dict[str, Any]) -> None:
        """Use `share`.

        Args:
            conninfo: as libpq has it.
            url: of one of its queues, taken apart.
            settings: what ``conninfo`` was made from.
        """
        self.shown = shown_place(settings)
        self.tls_warnings = tuple(tls_warnings(url, settings))
        self._url = url
        self._secrets = (settings.get("password"), settings.get("sslpassword"))
        servers = len(str(settings.get("host", "")).split(","))
        self._connect_limit_s = float(settings["connect_timeout"]) * servers + 1
        self._conninfo = conninfo
        self.users = 0
        self._reader: psycopg.AsyncConnection[Row] | None = None
        self._reading = asyncio.Lock()
        self._listener: psycopg.AsyncConnection[Row] | None = None
        self._listening = asyncio.Lock()
        self._watched: int | None = None  # the listening connection's descriptor, while the event loop has it
        self._events: dict[str, set[asyncio.Event]] = {}
        self._batches: dict[str, Batch[Row]] = {}

    @classmethod
    def share(cls, url: QueueUrl) -> Database:
        """The database that a URL names; every call needs a `leave`. Connects to nothing yet."""
        settings = conninfo_settings(url)
        conninfo = make_conninfo(**settings)
        databases = cls._shared.setdefault(asyncio.get_running_loop(), {})
        if conninfo not in databases:
            databases[conninfo] = cls(conninfo, url, settings)
        database = databases[conninfo]
        database.users += 1
        return database

    async def leave(self) -> None:
        """Ends one use; the last one closes the connections."""
        self.users -= 1
        if self.users > 0:
            return
        self._shared.get(asyncio.get_running_loop(), {}).pop(self._conninfo, None)
        for batch in self._batches.values():
            await batch.close()
        self._hang_up()
        if self._reader is not None:
            reader, self._reader = self._reader, None
            await reader.close()

    async def fetch(self, query: str, parameters: dict[str, object] | None = None) -> list[Row] | None:
        """The rows of a query, or None when a table that it names does not exist.

        Raises:
            QueueError: PostgreSQL cannot be reached, refuses, or takes too long; or the tables have other columns.
        """
        async with self._reading:
            while True:
                is_fresh = self._reader is None or self._reader.closed
                if self._reader is None or self._reader.closed:
                    self._reader = await self._connect()
                try:
                    return await self._execute(self._reader, query, parameters)
                except (errors.UndefinedTable, errors.InvalidSchemaName):
                    return None
                except psycopg.Error as error:
                    if is_fresh or not self._reader.closed:
                        raise self._explained(error) from error
                    # The connection was lost while idle (the server was restarted): once more with a new one.

    async def is_pooled(self) -> bool:
        """Whether something stands between, which gives statements to sessions as it likes.

        PostgreSQL tells the number of a session's process at its start; a pooler tells one of its own.

        Raises:
            QueueError: as for `fetch`.
        """
        rows = await self.fetch("SELECT pg_backend_pid() AS pid")
        return bool(rows and self._reader and rows[0]["pid"] != self._reader.info.backend_pid)

    async def read(self, query: str, name: str) -> Row | None:
        """The row of ``name`` from a query over many ``%(names)s``; None when a table does not exist.

        Readings that wait at the same time are done by one query, begun after each of them was asked for.
        """
        batch = self._batches.get(query)
        if batch is None:

            async def ask(names: list[str]) -> dict[str, Row]:
                return {row["name"]: row for row in await self.fetch(query, {"names": names}) or ()}

            batch = self._batches[query] = Batch(ask)
        return await batch.read(name)

    async def listen(self, channel: str, event: asyncio.Event) -> bool:
        """Sets ``event`` whenever ``channel`` is notified, until `unlisten`. True if that was not so before.

        Raises:
            QueueError: PostgreSQL cannot be reached or refuses.
        """
        async with self._listening:
            events = self._events.setdefault(channel, set())
            if event in events and self._listener is not None:
                return False
            is_new_channel = not events
            events.add(event)
            try:
                if self._listener is None:
                    self._listener = await self._connect()
                    self._listener.add_notify_handler(lambda notify: self._ring(notify.channel))
                    await self._listen_to(self._listener, list(self._events))
                elif is_new_channel:
                    await self._listen_to(self._listener, [channel])
            except BaseException as error:
                self._hang_up()
                if isinstance(error, (psycopg.Error, asyncio.TimeoutError)):
                    raise self._explained(error) from error
                raise
            return True

    def unlisten(self, channel: str, event: asyncio.Event) -> None:
        """Ends what `listen` began: no event is set any more, though the connection goes on listening."""
        self._events.get(channel, set()).discard(event)

    async def _connect(self) -> psycopg.AsyncConnection[Row]:
        try:
            return await within(
                psycopg.AsyncConnection.connect(
                    self._conninfo,
                    autocommit=True,
                    row_factory=dict_row,
                    prepare_threshold=None,  # connection poolers give each statement another session
                ),
                self._connect_limit_s,
            )
        except (psycopg.Error, OSError, asyncio.TimeoutError) as error:
            raise self._explained(error) from error

    async def _execute(
        self, connection: psycopg.AsyncConnection[Row], query: str, parameters: dict[str, object] | None
    ) -> list[Row]:
        try:
            cursor = await within(connection.execute(query.encode(), parameters), QUERY_LIMIT_S)
            return await cursor.fetchall()
        except asyncio.TimeoutError as error:
            raise QueueError(f"{self.shown}: counting the jobs took over {QUERY_LIMIT_S:g} s.") from error
        finally:
            if connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.pgconn.finish()  # cancelled half-way: its answer must not reach the next query

    async def _listen_to(self, listener: psycopg.AsyncConnection[Row], channels: list[str]) -> None:
        """Listens to more channels. Between its own queries, the connection's socket belongs to the event loop."""
        self._unwatch()
        for channel in channels:
            quoted = '"' + channel.replace('"', '""') + '"'
            await within(listener.execute(f"LISTEN {quoted}".encode()), CONNECT_LIMIT_S)
        self._watched = listener.fileno()
        asyncio.get_running_loop().add_reader(self._watched, self._notified, listener)

    def _unwatch(self) -> None:
        """Takes the descriptor back. The number is kept, for libpq closes a lost connection's descriptor by itself."""
        if self._watched is not None:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = None

    def _notified(self, listener: psycopg.AsyncConnection[Row]) -> None:
        try:
            listener.pgconn.consume_input()
            while notify := listener.pgconn.notifies():
                self._ring(notify.relname.decode())
        except psycopg.Error:
            self._hang_up()

    def _ring(self, channel: str) -> None:
        for event in self._events.get(channel, ()):
            event.set()

    def _hang_up(self) -> None:
        """Closes the listening connection; every event is set, for a change may be missed from now on."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        self._unwatch()
        listener.pgconn.finish()
        for channel in self._events:
            self._ring(channel)

    def _explained(self, error: Exception) -> QueueError:
        """The error as a sentence: what PostgreSQL said in its first line, and what to do; without secrets."""
        explained = self._sentence(error)
        return type(explained)(self._url.hidden(str(explained), *self._secrets))

    def _sentence(self, error: Exception) -> QueueError:
        if isinstance(error, (errors.UndefinedColumn, errors.UndefinedFunction, errors.UndefinedObject)):
            return OtherTablesError(f"{self.shown}: the tables are of another version ({first_line(error)})")
        if isinstance(error, errors.InsufficientPrivilege):
            return QueueError(
                f"{self.shown}: {first_line(error)}; grant this user USAGE on the schema and SELECT on it."
            )
        if isinstance(error, asyncio.TimeoutError):
            return QueueError(f"{self.shown}: no answer within {self._connect_limit_s:g} s; check that it is up.")
        said = first_line(error).removeprefix("connection failed: ")
        if "password authentication failed" in said or "no password supplied" in said:
            return QueueError(f"{self.shown}: {said}; check user and password in the URL.")
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:  # not the server's own words
            return QueueError(f"{self.shown}: {said}; check that it is up, and the URL's host and port.")
        return QueueError(f"{self.shown}: {said}.")


def first_line(error: Exception) -> str:
    """What an error says first, without a full stop."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".")[:240]
