"""A job queue in one SQLite table: what a producer and a consumer need, in a few calls.

    from nullworker.queues import sqlite_jobs

    sqlite_jobs.enqueue("work.db", ["tile 1", "tile 2"])
    while job := sqlite_jobs.claim("work.db", worker="me"):
        ...
        sqlite_jobs.finish("work.db", job)

Every call opens the file, does one transaction and closes it: any number of processes may share it, on one machine.
The table is plain and meant to be looked at; programs in other languages use the same statements, and a job is born by
``INSERT INTO jobs (payload) VALUES ('…')``.
"""

# ruff: noqa: S608 - SQL is put together with table names alone, each through _quoted(); values are bound
from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DEFAULT_TABLE = "jobs"
BUSY_TIMEOUT_S = 30.0  # how long a call waits for other writers
_UNIX_NOW = "((julianday('now') - 2440587.5) * 86400.0)"

#: Whether a waiting job may be taken. One without a delay may at once, also where the clock was set back after it came.
DUE = "(available_at <= :now OR available_at <= enqueued_at)"

_SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS {table} (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        payload TEXT NOT NULL,
        status TEXT NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed')),
        available_at REAL NOT NULL DEFAULT {now},  -- Unix time in seconds, as all times here
        attempts INTEGER NOT NULL DEFAULT 0,
        enqueued_at REAL NOT NULL DEFAULT {now},
        claimed_at REAL,
        claimed_by TEXT,
        finished_at REAL,
        error TEXT
    )
    """,
    "CREATE INDEX IF NOT EXISTS {index} ON {table} (status, available_at)",
)


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job. ``attempts`` counts this claim, too: 1 is the first time."""

    id: int
    payload: str
    attempts: int
    claimed_by: str


def url(path: str | Path, table: str = DEFAULT_TABLE, *, lease_s: float | None = None) -> str:
    """The queue URL of a file, for ``nullworker dispatch --queue``.

    Args:
        path: the file.
        table: the table's name.
        lease_s: what consumers `claim` with.
    """
    parameters = {"table": table} | ({} if lease_s is None else {"lease": f"{lease_s:g}"})
    return f"sqlite://{quote(str(Path(path).absolute()))}?{urlencode(parameters)}"


def create(path: str | Path, table: str = DEFAULT_TABLE) -> None:
    """Makes the file and the table, if they are not there."""
    with _opened(path) as connection:
        _create(connection, table)


def exists(path: str | Path, table: str = DEFAULT_TABLE) -> bool:
    """Whether the file and the table in it are there."""
    if not Path(path).exists():
        return False
    with _opened(path, must_exist=True) as connection:
        return _has(connection, table)


def enqueue(
    path: str | Path, payloads: Iterable[str], *, delay_s: float = 0.0, table: str = DEFAULT_TABLE
) -> list[int]:
    """Adds jobs in one transaction; makes the file and the table where they are missing.

    Args:
        path: the file.
        payloads: one text for each job.
        delay_s: seconds from now until the jobs are due.
        table: the table's name.

    Returns:
        The ids of the jobs.
    """
    with _opened(path) as connection:
        _create(connection, table)
        now = _now()
        ids = []
        with _transaction(connection):
            for payload in payloads:
                done = connection.execute(
                    f"INSERT INTO {_quoted(table)} (payload, available_at, enqueued_at) VALUES (?, ?, ?)",
                    (payload, now + delay_s, now),
                )
                ids.append(done.lastrowid or 0)
        return ids


def claim(path: str | Path, worker: str, *, lease_s: float | None = None, table: str = DEFAULT_TABLE) -> Job | None:
    """Takes the job that has been due longest, for ``worker``; None when nothing is due, or nothing was ever enqueued.

    No two callers ever get the same job, unless it was put back in between.

    Args:
        path: the file.
        worker: the name of the consumer, for `requeue_stale`.
        lease_s: first puts back what others have claimed and not renewed for so long, as `requeue_stale` does; None:
            nothing.
        table: the table's name.
    """
    if not exists(path, table):
        return None
    if lease_s is not None:
        requeue_stale(path, older_than_s=lease_s, table=table)
    with _opened(path, must_exist=True) as connection:
        rows = connection.execute(
            f"""
            UPDATE {_quoted(table)}
            SET status = 'running', claimed_at = :now, claimed_by = :worker, attempts = attempts + 1
            WHERE id = (
                SELECT id FROM {_quoted(table)} WHERE status = 'waiting' AND {DUE}
                ORDER BY available_at, id LIMIT 1
            )
            RETURNING id, payload, attempts, claimed_by
            """,
            {"now": _now(), "worker": worker},
        ).fetchall()
        return Job(*rows[0]) if rows else None


def finish(path: str | Path, job: Job, *, table: str = DEFAULT_TABLE) -> bool:
    """Marks a job as done. False if it was requeued meanwhile: it may belong to another consumer by now.

    Args:
        path: the file.
        job: as `claim` returned it.
        table: the table's name.
    """
    return _end(path, table, job, "done", None)


def fail(
    path: str | Path, job: Job, error: str = "", *, retry_in_s: float | None = None, table: str = DEFAULT_TABLE
) -> bool:
    """Marks a job as failed for good, or puts it back. False as for `finish`.

    Args:
        path: the file.
        job: as `claim` returned it.
        error: what is kept beside the job.
        retry_in_s: seconds from now until it is due again; None: never.
        table: the table's name.
    """
    if retry_in_s is None:
        return _end(path, table, job, "failed", error)
    return _end(path, table, job, "waiting", error, available_at=_now() + retry_in_s)


def renew(path: str | Path, job: Job, *, table: str = DEFAULT_TABLE) -> bool:
    """Records that the job is still worked on, so that `requeue_stale` leaves it. False as for `finish`.

    Args:
        path: the file.
        job: as `claim` returned it.
        table: the table's name.
    """
    with _opened(path, must_exist=True) as connection:
        done = connection.execute(
            f"UPDATE {_quoted(table)} SET claimed_at = ? WHERE id = ? AND status = 'running' AND attempts = ?",
            (_now(), job.id, job.attempts),
        )
        return done.rowcount == 1


def requeue_stale(
    path: str | Path, *, older_than_s: float = 0.0, worker: str | None = None, table: str = DEFAULT_TABLE
) -> int:
    """Puts running jobs back whose last claim or renewal is older, of one worker or of all. Returns how many.

    A consumer that starts again under its old name calls it with ``worker=`` to get back what it held when it died.

    Args:
        path: the file.
        older_than_s: seconds since the last claim or renewal.
        worker: whose jobs; None: those of all workers.
        table: the table's name.
    """
    if not exists(path, table):
        return 0
    with _opened(path, must_exist=True) as connection:
        done = connection.execute(
            f"""
            UPDATE {_quoted(table)} SET status = 'waiting', claimed_at = NULL, claimed_by = NULL
            WHERE status = 'running' AND claimed_at <= :before AND (:worker IS NULL OR claimed_by = :worker)
            """,
            {"before": _now() - older_than_s, "worker": worker},
        )
        return done.rowcount


def counts(path: str | Path, *, table: str = DEFAULT_TABLE) -> dict[str, int]:
    """How many jobs there are in each status: ``waiting`` (due or not), ``running``, ``done``, ``failed``."""
    found = dict.fromkeys(("waiting", "running", "done", "failed"), 0)
    if not exists(path, table):
        return found
    with _opened(path, must_exist=True) as connection:
        found.update(connection.execute(f"SELECT status, count(*) FROM {_quoted(table)} GROUP BY status").fetchall())
    return found


def _end(
    path: str | Path, table: str, job: Job, status: str, error: str | None, *, available_at: float | None = None
) -> bool:
    with _opened(path, must_exist=True) as connection:
        done = connection.execute(
            f"""
            UPDATE {_quoted(table)}
            SET status = :status, error = :error, available_at = coalesce(:available_at, available_at),
                finished_at = CASE WHEN :status = 'waiting' THEN NULL ELSE :now END
            WHERE id = :id AND status = 'running' AND attempts = :attempts
            """,
            {
                "status": status,
                "error": error,
                "available_at": available_at,
                "now": _now(),
                "id": job.id,
                "attempts": job.attempts,
            },
        )
        return done.rowcount == 1


@contextlib.contextmanager
def _opened(path: str | Path, *, must_exist: bool = False) -> Iterator[sqlite3.Connection]:
    mode = "rw" if must_exist else "rwc"
    connection = sqlite3.connect(
        f"file:{quote(str(Path(path).absolute()))}?mode={mode}", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None
    )
    with contextlib.closing(connection):
        yield connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _has(connection: sqlite3.Connection, table: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchall()
    return bool(found)


def _create(connection: sqlite3.Connection, table: str) -> None:
    if not _has(connection, table):
        connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer do not wait for each other
        with _transaction(connection):
            for statement in _SCHEMA:
                index = _quoted(f"{table}_by_status")
                connection.execute(statement.format(table=_quoted(table), index=index, now=_UNIX_NOW))


def _quoted(name: str) -> str:
    """An SQL identifier: the table's name comes from a URL."""
    return '"' + name.replace('"', '""') + '"'


def _now() -> float:
    return time.time()  # noqa: TID251 - the table is shared between processes, so its times are the wall clock's
