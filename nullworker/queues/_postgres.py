"""What an adapter for a queue in PostgreSQL is made of; each adds the query that reads it, and what to warn of."""

from __future__ import annotations

import abc
import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import psycopg

from nullworker.queues._postgres_connections import CONNECTIONS
from nullworker.queues._postgres_database import Database, OtherTablesError, first_line
from nullworker.queues._waiting import wait_set
from nullworker.queues.base import Depth, QueueError, QueueInfo, QueueWarning
from nullworker.queues.urls import parse_url
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from nullworker.queues._postgres_database import Row
    from nullworker.queues.connections import Connections
    from nullworker.queues.urls import QueueUrl


class PostgresQueue(abc.ABC):
    """A queue in PostgreSQL; an adapter says which query reads it, and what to warn of."""

    #: The adapter's own parameters in its URL.
    PARAMETERS: ClassVar[frozenset[str]]
    #: What to do when the tables are an older version's.
    UPGRADE: ClassVar[str]
    #: How the URL says where the server is.
    CONNECTIONS: ClassVar[Connections] = CONNECTIONS

    def __init__(self, url: QueueUrl, database: Database) -> None:
        self._url = url
        self._database = database
        self._change_event = asyncio.Event()
        self._channel: str | None = None
        self._is_pooled = False
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connects, and reads the queue once.

        Raises:
            QueueError: the URL is wrong, PostgreSQL refuses, or the tables are another version's.
        """
        parts = parse_url(url, parameters=cls.PARAMETERS, connections=cls.CONNECTIONS)
        try:
            database = Database.share(parts)
        except psycopg.Error as error:
            raise QueueError(parts.hidden(f"{parts.shown}: {first_line(error)}.")) from error
        queue: Self | None = None
        try:
            queue = cls(parts, database)
            await queue._prepare()
        except BaseException:
            await (queue.close() if queue else database.leave())
            raise
        return queue

    @property
    @abc.abstractmethod
    def _query(self) -> str:
        """One row for each of ``%(names)s``: name, waiting, in_flight, redelivered, and other fields of `Depth`.

        What its workers seem to have abandoned is not in flight, and counts as redelivered.
        """

    @property
    @abc.abstractmethod
    def _jobs_table(self) -> str:
        """The table of jobs, as SQL names it; if it does not exist, the queue is empty."""

    @property
    @abc.abstractmethod
    def _name(self) -> str:
        """What stands for this queue among ``%(names)s``."""

    async def _prepare(self) -> None:
        """Reads once, so that whatever is wrong shows, and listens where the library notifies."""
        await self.depth()
        self._channel = await self._find_channel()
        if self._channel is not None and await self._database.is_pooled():
            self._channel, self._is_pooled = None, True  # a session that listens would be given to other clients
        if self._channel is not None:
            await self._database.listen(self._channel, self._change_event)

    def _completed(self, info: QueueInfo) -> QueueInfo:
        """What an adapter tells, with what all queues in PostgreSQL have in common."""
        more = list(self._database.tls_warnings)
        if self._is_pooled:
            more.append(
                QueueWarning(
                    "pooler",
                    "A pooler stands before PostgreSQL, through which no notification arrives, so that the queue is "
                    "polled: give the server's own address to be told of new jobs at once.",
                )
            )
        return replace(info, pushes=info.pushes and not self._is_pooled, warnings=(*more, *info.warnings))

    async def _find_channel(self) -> str | None:
        """The channel that the library notifies when there is work, if it does."""
        return None

    async def depth(self) -> Depth:
        """Reads the queue, together with others of the same database that are asked for at this moment.

        Raises:
            QueueError: PostgreSQL cannot be reached or refuses, or the tables are another version's.
        """
        self._check_open()
        now = time.time()  # noqa: TID251 - a wall-clock stamp, for the dispatcher to compare with its own
        try:
            row = await self._database.read(self._query, self._name)
        except OtherTablesError as error:
            raise QueueError(f"{error}: {self.UPGRADE}.") from error
        if row is None:
            await self._check_missing()
            return Depth(0, 0, now, exact=False)
        self._check_row(row)
        fields = {name: value for name, value in row.items() if name in Depth.__dataclass_fields__}
        for name in ("oldest_age_s", "next_due_in_s"):
            if fields.get(name) is not None:
                fields[name] = max(0.0, float(fields[name]))
        # A consumer that has overrun its lease may still be at work.
        return Depth(sampled_at_s=now, exact=not fields["redelivered"], **fields)

    async def _check_missing(self) -> None:
        """Raises QueueError if there is a table of jobs, and another table is missing: an older version made it."""
        rows = await self._database.fetch("SELECT to_regclass(%(table)s) AS found", {"table": self._jobs_table})
        if rows and rows[0]["found"] is not None:
            raise QueueError(f"{self._database.shown}: {self._jobs_table} is of an older version: {self.UPGRADE}.")

    def _check_row(self, row: Row) -> None:  # noqa: B027 - most rows can be believed
        """Raises QueueError when the row cannot be believed."""

    async def changed(self, timeout_s: float) -> bool:
        """True when the library has notified since the last True, or may have while no connection listened."""
        self._check_open()
        deadline = time.monotonic() + timeout_s
        if self._channel is None:
            await asyncio.sleep(timeout_s)
            return False
        try:
            if await within(self._database.listen(self._channel, self._change_event), timeout_s):
                self._change_event.set()  # for a while no connection listened: something may have changed
        except (QueueError, asyncio.TimeoutError):
            await asyncio.sleep(max(0.0, deadline - time.monotonic()))
            return False
        return await wait_set(self._change_event, deadline - time.monotonic())

    async def close(self) -> None:
        """Lets go of the database; its connections close with the last of its queues."""
        if self._closed:
            return
        self._closed = True
        if self._channel is not None:
            self._database.unlisten(self._channel, self._change_event)
        await self._database.leave()

    def _check_open(self) -> None:
        if self._closed:
            raise QueueError(f"{self._url.shown}: this queue was closed.")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


def quoted(schema: str) -> str:
    """A schema's name as SQL."""
    return '"' + schema.replace('"', '""').replace("%", "%%") + '"'


def literal(text: str) -> str:
    """A text as SQL, in a query that takes parameters."""
    return "'" + text.replace("'", "''").replace("%", "%%") + "'"


def missing_tables(what: str) -> QueueWarning:
    """The warning for a schema in which a library has not made its tables."""
    return QueueWarning("missing", f"{what} does not exist yet, which counts as an empty queue: check the URL.")
