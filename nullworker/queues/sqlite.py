"""The default queue: one table in an SQLite file, which `nullworker.queues.sqlite_jobs` fills and empties.

    sqlite:///home/me/work.db?table=jobs     an absolute path
    sqlite://./work.db?table=jobs            a path relative to the working directory

Any table serves that has the columns ``status`` (waiting, running, …), ``available_at`` (Unix seconds), ``attempts``.
The file is opened for reading, and never made: a file or a table that is not there yet is an empty queue.
"""

# ruff: noqa: S608 - SQL is put together with the table's name alone, quoted; values are bound
from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from nullworker.queues._leases import no_lease
from nullworker.queues.base import (
    Depth,
    NamesConsumers,
    Queue,
    QueueError,
    QueueInfo,
    QueueUrlError,
    QueueWarning,
    TakenJob,
)
from nullworker.queues.sqlite_jobs import DUE
from nullworker.queues.urls import parse_url

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

_T = TypeVar("_T")

#: How often `changed` asks SQLite whether the file was written: a page of shared memory is read, no table.
POLL_S = 0.03
#: A rollback-journal file is locked during a commit; a reader waits this long. A WAL file is never locked.
#: So many running jobs are looked at for their consumers' names.
TAKEN_MAX = 200
READ_BUSY_TIMEOUT_S = 5.0
#: A job that runs longer than this without a word is worth a warning: its consumer may be dead.
OLD_RUNNING_S = 3600.0
COLUMNS = frozenset({"status", "available_at", "attempts"})


@dataclass(frozen=True, slots=True)
class _TableReading:
    """A depth, and when the passing of time alone will make it wrong (Unix seconds)."""

    depth: Depth
    data_version: int
    next_due_at: float | None = None
    oldest_available_at: float | None = None
    next_over_at: float | None = None  # of the leases of running jobs

    def is_wrong(self, now: float) -> bool:
        return any(at is not None and at <= now for at in (self.next_due_at, self.next_over_at))


class SqliteQueue:
    """Reads how deep a table of jobs is. Opened by ``await SqliteQueue.open(url)``."""

    def __init__(self, path: Path, table: str, lease_s: float | None) -> None:
        self._path = path
        self._table = table
        self._lease_s = lease_s
        self._guard = threading.Lock()  # SQLite calls run in threads; a cancelled one may outlive its caller
        self._connection: sqlite3.Connection | None = None
        self._file_id: tuple[int, int] | None = None
        self._reading: _TableReading | None = None
        self._seen_version: int | None = None
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Self:
        """Opens ``sqlite:///path?table=name&lease=60``; the directory must exist, the file need not.

        Raises:
            QueueUrlError: the URL is wrong, or there is no such directory.
            QueueError: the file holds something else.
        """
        parts = parse_url(url, parameters=("table", "lease"))
        if parts.host not in {"", ".", ".."} or parts.port or parts.username:
            raise QueueUrlError(f"{parts.shown}: write sqlite:///absolute/path or sqlite://./relative/path.")
        path = Path(parts.host + "/" + parts.path.lstrip("/"))
        if problem := await asyncio.to_thread(_problem, path):
            raise QueueUrlError(f"{parts.shown}: {problem}.")
        lease_s = parts.seconds("lease", 0.0) if "lease" in parts.parameters else None
        queue = cls(path, parts.text("table", "jobs"), lease_s)
        try:
            await queue.depth()
        except BaseException:
            await queue.close()
            raise
        return queue

    async def depth(self) -> Depth:
        """Reads the table by one query, or not at all if nothing was written since and nothing became due.

        Raises:
            QueueError: the file cannot be read, or is no SQLite file, or the table lacks a column.
        """
        return await asyncio.to_thread(self._patiently, self._depth)

    async def info(self) -> QueueInfo:
        """Warns of a file or table that is not there yet, and of jobs that have run for over an hour without a word.

        Raises:
            QueueError: as for `depth`.
        """
        return await asyncio.to_thread(self._patiently, self._info)

    async def taken(self) -> list[TakenJob]:
        """Running jobs with the names under which they were claimed.

        Raises:
            QueueError: as for `depth`.
        """
        return await asyncio.to_thread(self._patiently, self._taken)

    async def changed(self, timeout_s: float) -> bool:
        """True within about 30 ms of another process's commit, or when a delayed job becomes due; else False.

        Raises:
            QueueError: the file cannot be read.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            if self._changed_now():
                return True
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return False
            await asyncio.sleep(min(POLL_S, remaining_s))

    async def close(self) -> None:
        """Closes the file."""
        self._closed = True
        with self._guard:
            self._disconnect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    def _changed_now(self) -> bool:
        """Whether the table was written, or a delayed job became due, since the last True or the last `depth`."""
        if not self._guard.acquire(blocking=False):
            return False  # a reading is under way in a thread: ask again in a moment
        try:
            self._connect()
            version = self._data_version()
            reading = self._reading
            due = reading is not None and reading.is_wrong(_now())
            if due:
                self._reading = None
            changed = due or version != self._seen_version
            self._seen_version = version
            return changed
        except (sqlite3.Error, OSError) as error:
            if _is_locked(error):
                return True  # a write is under way
            raise self._error(error) from error
        finally:
            self._guard.release()

    def _patiently(self, read: Callable[[], _T]) -> _T:
        """Does ``read`` under the guard, again while a writer locks the file, and explains its failure."""
        deadline = time.monotonic() + READ_BUSY_TIMEOUT_S
        while True:
            with self._guard:
                try:
                    self._connect()
                    return read()
                except (sqlite3.Error, OSError) as error:
                    if not _is_locked(error) or time.monotonic() > deadline:
                        self._disconnect()
                        raise self._error(error) from error
            time.sleep(0.01)

    def _depth(self) -> Depth:
        now = _now()
        version = self._data_version()  # before the query: what is written between is seen once more
        reading = self._reading
        if reading is None or reading.is_wrong(now) or reading.data_version != version:
            reading = self._reading = self._read(now, version)
        self._seen_version = version
        return replace(
            reading.depth,
            sampled_at_s=now,
            oldest_age_s=None if reading.oldest_available_at is None else max(0.0, now - reading.oldest_available_at),
            next_due_in_s=None if reading.next_due_at is None else max(0.0, reading.next_due_at - now),
        )

    def _taken(self) -> list[TakenJob]:
        if self._connection is None or not self._has_table(self._connection):
            return []
        if "claimed_by" not in self._columns(self._connection):
            return []
        rows = self._connection.execute(
            f"""
            SELECT id, claimed_by FROM {_quoted(self._table)}
            WHERE status = 'running' AND claimed_by IS NOT NULL LIMIT {TAKEN_MAX}
            """
        )
        return [TakenJob(str(job), str(consumer)) for job, consumer in rows]

    def _read(self, now: float, version: int) -> _TableReading:
        if self._connection is None or not self._has_table(self._connection):
            return _TableReading(Depth(0, 0, now), version)
        table = _quoted(self._table)
        columns = self._columns(self._connection)
        due = DUE if "enqueued_at" in columns else "available_at <= :now"
        claimed_at = "claimed_at" if "claimed_at" in columns else "NULL"
        before = -1.0 if self._lease_s is None else now - self._lease_s
        row = self._connection.execute(
            f"""
            WITH
                due AS (SELECT available_at FROM {table} WHERE status = 'waiting' AND {due}),
                later AS (SELECT available_at FROM {table} WHERE status = 'waiting' AND NOT {due}),
                running AS (SELECT attempts, {claimed_at} AS claimed_at FROM {table} WHERE status = 'running')
            SELECT
                (SELECT count(*) FROM due), (SELECT count(*) FROM running), (SELECT count(*) FROM later),
                (SELECT min(available_at) FROM due), (SELECT min(available_at) FROM later),
                (SELECT count(*) FROM running WHERE attempts > 1),
                (SELECT count(*) FROM running WHERE claimed_at <= :before),
                (SELECT min(claimed_at) FROM running WHERE claimed_at > :before)
            """,
            {"now": now, "before": before},
        ).fetchone()
        waiting, running, delayed, oldest_available_at, next_due_at, redelivered, over, claimed_at = row
        depth = Depth(
            waiting,
            running - over,
            now,
            delayed=delayed,
            redelivered=redelivered,
            # Without a lease it is not known when a running job is to be given to another consumer.
            abandoned=None if running and self._lease_s is None else over,
        )
        next_over_at = None if self._lease_s is None or claimed_at is None else claimed_at + self._lease_s
        return _TableReading(depth, version, next_due_at, oldest_available_at, next_over_at)

    def _info(self) -> QueueInfo:
        old = 0
        if self._connection is not None and "claimed_at" in self._columns(self._connection):
            (old,) = self._connection.execute(
                f"SELECT count(*) FROM {_quoted(self._table)} WHERE status = 'running' AND claimed_at < ?",
                (_now() - OLD_RUNNING_S,),
            ).fetchone()
        warnings = []
        if missing := self._missing():
            message = f"There is no {missing} yet, which counts as an empty queue: check the URL if there should be."
            warnings.append(QueueWarning("missing", message))
        if old:
            warnings.append(
                QueueWarning(
                    "old-running",
                    f"{old} job(s) have run for over {OLD_RUNNING_S / 3600:g} h without a renewal: if their consumers "
                    "are dead, put them back with sqlite_jobs.requeue_stale, for a reservation stays open for each.",
                )
            )
        if self._lease_s is None:
            warnings.append(no_lease("lease"))
        return QueueInfo("sqlite", self._table, str(self._path), self._lease_s, pushes=True, warnings=tuple(warnings))

    def _missing(self) -> str:
        if self._connection is None:
            return f"file {self._path}"
        return "" if self._has_table(self._connection) else f"table {self._table} in {self._path}"

    def _connect(self) -> None:
        """Makes the connection one to the file that is there now; none if there is no file."""
        if self._closed:
            raise QueueError(f"The queue in {self._path} was closed.")
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._disconnect()
            return
        file_id = (stat.st_dev, stat.st_ino)
        if self._connection is not None and file_id == self._file_id:
            return
        self._disconnect()
        self._connection = sqlite3.connect(
            f"file:{quote(str(self._path.absolute()))}?mode=rw",  # rw, for a reader of a WAL file shares its index
            uri=True,
            timeout=0,  # `changed` asks in the event loop, and must not wait there
            isolation_level=None,
            check_same_thread=False,
        )
        self._connection.execute("PRAGMA query_only = ON")
        self._file_id = file_id

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._seen_version = None  # the next connection counts from another number
        self._connection = self._file_id = self._reading = None

    def _data_version(self) -> int:
        """A number that changes when another connection has committed; -1 when there is no file."""
        if self._connection is None:
            return -1
        return int(self._connection.execute("PRAGMA data_version").fetchall()[0][0])

    def _columns(self, connection: sqlite3.Connection) -> set[str]:
        return {str(row[1]) for row in connection.execute(f"PRAGMA table_info({_quoted(self._table)})")}

    def _has_table(self, connection: sqlite3.Connection) -> bool:
        """Whether the table is there.

        Raises:
            QueueError: it is, and lacks a column.
        """
        columns = self._columns(connection)
        if columns and (missing := sorted(COLUMNS - columns)):
            raise QueueError(
                f"The table {self._table} in {self._path} has no column {', '.join(missing)}: it is no table of jobs "
                "as nullworker.queues.sqlite_jobs makes it."
            )
        return bool(columns)

    def _error(self, error: Exception) -> QueueError:
        return QueueError(f"The SQLite queue {self._table} in {self._path} cannot be read: {error}.")


def _problem(path: Path) -> str | None:
    if not path.name or path.is_dir():
        return "the URL names a directory, where the path of a file is needed"
    if not path.parent.is_dir():
        return f"the directory {path.parent} does not exist"
    return None


def _is_locked(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _now() -> float:
    return time.time()  # noqa: TID251 - compared with the table's times, which are Unix seconds


_: type[Queue] = SqliteQueue
__: type[NamesConsumers] = SqliteQueue
