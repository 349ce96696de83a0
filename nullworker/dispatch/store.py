"""The dispatcher's open reservations in SQLite, so that a restarted dispatcher adopts them and opens none twice.

Several dispatchers on a machine may share one file, each with its own queues: `DispatchStore.claim` keeps them apart.
The column ``pair`` holds the name of a binding.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import sqlite3
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reservations (
    id TEXT PRIMARY KEY,
    pair TEXT NOT NULL,             -- the binding: "endpoint queue-name"
    phase TEXT NOT NULL,            -- asked, creating, held
    asked_at_s REAL NOT NULL,       -- Unix time, as all here
    creating_at_s REAL,
    held_at_s REAL,
    record TEXT NOT NULL DEFAULT '' -- what NullClient.recover or .adopt needs; has the proof of ownership in it
);
CREATE TABLE IF NOT EXISTS spent (
    asked_at_s REAL NOT NULL, ended_at_s REAL NOT NULL, pair TEXT NOT NULL, held_s REAL NOT NULL, cost REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS spent_by_end ON spent (ended_at_s);
"""
_VERSION = 1
_KEEP_SPENT_S = 40 * 86_400.0
_BUSY_S = 5.0


class DispatchStoreError(Exception):
    """The dispatcher's database cannot be used; the message is one sentence that says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reservation that is not closed; times are Unix seconds."""

    id: str
    binding: str
    phase: str
    asked_at_s: float
    creating_at_s: float | None = None
    held_at_s: float | None = None
    record: dict[str, Any] | None = field(default=None, repr=False)


class DispatchStore:
    """The dispatcher's database. Each change is one short transaction; every method may raise DispatchStoreError."""

    def __init__(self, path: Path) -> None:
        """Opens the database, and creates it (0600) where it is missing.

        Raises:
            DispatchStoreError: it is damaged, of another version, or cannot be written.
        """
        self._path = path
        self._locks: list[int] = []
        with self._explained():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_S)
            try:
                self._prepare()
            except BaseException:
                self._db.close()  # an error keeps this object alive, and the file with it
                raise

    def _check_owner(self) -> None:
        """Refuses a directory or database that others may write, or that is a link: sessions in it would be theirs.

        Raises:
            DispatchStoreError: it is one.
        """
        for path in (self._path.parent, self._path):
            try:
                found = path.lstat() if path is self._path else path.stat()
            except FileNotFoundError:
                continue  # it is made, and ours
            if stat.S_ISLNK(found.st_mode):
                raise DispatchStoreError(f"{path} is a symbolic link; put the database itself there, or give --state.")
            if found.st_uid != os.geteuid():
                raise DispatchStoreError(f"{path} belongs to user {found.st_uid}; give another directory with --state.")
            if found.st_mode & 0o022:
                raise DispatchStoreError(
                    f"{path} may be written by other users (mode {found.st_mode & 0o777:04o}); run chmod go-w on it, "
                    "or give another directory with --state."
                )

    def _prepare(self) -> None:
        self._check_schema()
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # survives kill -9; a power cut may cost the last moments
        self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    def _check_schema(self) -> None:
        """Refuses what another version, or another program, has written.

        Raises:
            DispatchStoreError: it is one of those.
        """
        self._db.execute("BEGIN")  # so that both are of one moment: another dispatcher may be making it just now
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        found = _columns(self._db)
        self._db.execute("COMMIT")
        if version not in (0, _VERSION):
            raise DispatchStoreError(
                f"The dispatcher's database {self._path} is of version {version}, and this nullworker reads version "
                f"{_VERSION}: run the one that wrote it until nothing is held, then move it away; or give --state."
            )
        with contextlib.closing(sqlite3.connect(":memory:")) as pattern:
            pattern.executescript(_SCHEMA)
            wanted = _columns(pattern) if version else {}
        if found != wanted:
            raise DispatchStoreError(f"{self._path} is the database of another program: move it away, or give --state.")

    def claim(self, binding: str) -> None:
        """Makes this process the only one that serves ``binding``, until it ends.

        Raises:
            DispatchStoreError: another process serves it.
        """
        name = hashlib.sha256(binding.encode()).hexdigest()[:16]
        with self._explained():
            lock = os.open(
                self._path.with_name(f"dispatch-{name}.lock"),
                os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC,
                0o600,
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise DispatchStoreError(
                f"Another dispatcher serves {binding} with the database {self._path}: end it, or give another --state."
            ) from None
        self._locks.append(lock)

    def asked(self, reservation_id: str, binding: str, at_s: float) -> None:
        """A reservation is about to be requested, or waits for a worker again.

        Args:
            reservation_id: names the reservation from here on.
            binding: the name of its binding.
            at_s: when it was requested first, in Unix seconds.
        """
        with self._explained():
            self._db.execute(
                "INSERT OR REPLACE INTO reservations (id, pair, phase, asked_at_s) VALUES (?, ?, 'asked', ?)",
                (reservation_id, binding, at_s),
            )

    def creating(self, reservation_id: str, at_s: float, record: dict[str, Any] | None) -> None:
        """A worker is about to be asked: if this process ends now, the worker may hold the reservation all the same.

        Args:
            reservation_id: as given to `asked`.
            at_s: now, in Unix seconds.
            record: what `NullClient.recover` needs to find the worker; None: not known.
        """
        with self._explained():
            self._db.execute(
                "UPDATE reservations SET phase = 'creating', creating_at_s = ?, record = ? WHERE id = ?",
                (at_s, json.dumps(record) if record else "", reservation_id),
            )

    def held(self, reservation_id: str, at_s: float, record: dict[str, Any]) -> None:
        """A worker holds it.

        Args:
            reservation_id: as given to `asked`.
            at_s: since when, in Unix seconds.
            record: what `NullClient.adopt` needs.
        """
        with self._explained():
            self._db.execute(
                "UPDATE reservations SET phase = 'held', held_at_s = ?, record = ? WHERE id = ?",
                (at_s, json.dumps(record), reservation_id),
            )

    def closed(self, row: Row, at_s: float, held_s: float, cost: float) -> None:
        """It has ended, or was withdrawn (``held_s`` 0).

        Args:
            row: the reservation.
            at_s: when, in Unix seconds.
            held_s: for how long it was held.
            cost: what that cost.
        """
        with self._explained():
            self._db.execute("DELETE FROM reservations WHERE id = ?", (row.id,))
            if held_s > 0:
                spent = (row.asked_at_s, at_s, row.binding, held_s, cost)
                self._db.execute("INSERT INTO spent VALUES (?, ?, ?, ?, ?)", spent)
                self._db.execute("DELETE FROM spent WHERE ended_at_s < ?", (at_s - _KEEP_SPENT_S,))

    def open_rows(self, binding: str) -> list[Row]:
        """The reservations of ``binding`` that are not closed, oldest first."""
        with self._explained():
            rows = self._db.execute(
                "SELECT id, pair, phase, asked_at_s, creating_at_s, held_at_s, record FROM reservations "
                "WHERE pair = ? ORDER BY asked_at_s",
                (binding,),
            ).fetchall()
            return [_row(*columns) for columns in rows]

    def other_bindings(self, bindings: list[str]) -> list[str]:
        """Names of bindings that have open reservations and are not among ``bindings``."""
        with self._explained():
            found = self._db.execute("SELECT DISTINCT pair FROM reservations ORDER BY pair").fetchall()
        return [name for (name,) in found if name not in bindings]

    def spent_since(self, since_s: float) -> float:
        """What the reservations that have ended since then cost; of a longer one, the part since then."""
        query = "SELECT COALESCE(SUM(cost * MIN(1, (ended_at_s - ?) / held_s)), 0) FROM spent WHERE ended_at_s > ?"
        with self._explained():
            return float(self._db.execute(query, (since_s, since_s)).fetchone()[0])

    def longest_held_s(self, binding: str) -> float:
        """The longest time that a reservation of ``binding`` was held, in the last 40 days; 0: none was."""
        with self._explained():
            found = self._db.execute("SELECT COALESCE(MAX(held_s), 0) FROM spent WHERE pair = ?", (binding,)).fetchone()
        return float(found[0])

    def trace_rows(self, bindings: list[str]) -> list[tuple[float, float]]:
        """When each reservation was asked for (Unix seconds) and for how long it was held, in order of asking."""
        marks = ", ".join("?" for _ in bindings)
        query = f"SELECT asked_at_s, held_s FROM spent WHERE pair IN ({marks}) ORDER BY asked_at_s"  # noqa: S608 - marks
        with self._explained():
            return [(float(asked_at_s), float(held_s)) for asked_at_s, held_s in self._db.execute(query, bindings)]

    def close(self) -> None:
        """Closes the file, and releases the bindings claimed by this process."""
        self._db.close()
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise DispatchStoreError(
                f"The dispatcher's database {self._path} cannot be used ({error}): repair it, or give another --state."
            ) from error


def _row(
    reservation_id: str,
    binding: str,
    phase: str,
    asked_at_s: float,
    creating_at_s: float,
    held_at_s: float,
    record: str,
) -> Row:
    return Row(
        reservation_id, binding, phase, asked_at_s, creating_at_s, held_at_s, json.loads(record) if record else None
    )


def _columns(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table."""
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    return {name: [row[1] for row in db.execute(f'PRAGMA table_info("{name}")')] for name in tables}
