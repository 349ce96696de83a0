"""The store's file: its tables, how its rows are written and read, and what is wrong with one that cannot be used.

Only `nullworker.engine.store` uses this module. A column is what a restart needs, or what explains what was done.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.core.events import RestoredReservation, RestoredWorker
from nullworker.core.parameters import Parameters
from nullworker.engine.catalog import EndpointEntry, WorkergroupEntry
from nullworker.engine.config import WorkergroupConfig
from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from pathlib import Path

#: Marks a file as ours (SQLite keeps it in the file's head): "null" in ASCII.
APPLICATION_ID = 0x6E756C6C

#: The n-th entry leads from version n to version n + 1; entries are added and never changed.
MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE endpoints (
        id INTEGER PRIMARY KEY, name TEXT NOT NULL, parameters TEXT NOT NULL, created_at_s REAL NOT NULL,
        from_file TEXT NOT NULL, deleting INTEGER NOT NULL
    );
    CREATE TABLE workergroups (
        id INTEGER PRIMARY KEY, endpoint_id INTEGER NOT NULL, config TEXT NOT NULL, created_at_s REAL NOT NULL,
        vast TEXT NOT NULL, position INTEGER NOT NULL, deleting INTEGER NOT NULL
    );
    CREATE TABLE workers (
        id INTEGER PRIMARY KEY, workergroup_id INTEGER NOT NULL, state TEXT NOT NULL, url TEXT NOT NULL,
        perf REAL NOT NULL, owned INTEGER NOT NULL
    );
    CREATE TABLE reservations (
        request_idx INTEGER PRIMARY KEY, endpoint_id INTEGER NOT NULL, cost REAL NOT NULL, worker_id INTEGER NOT NULL,
        confirmed INTEGER NOT NULL, replay_timeout_s REAL NOT NULL
    );
    CREATE TABLE decisions (
        seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, cause INTEGER NOT NULL, kind TEXT NOT NULL,
        endpoint_id INTEGER NOT NULL, worker_id INTEGER NOT NULL, request_idx INTEGER NOT NULL, reason TEXT NOT NULL
    );
    CREATE TABLE usage (
        workergroup_id INTEGER NOT NULL, state TEXT NOT NULL, seconds REAL NOT NULL,
        PRIMARY KEY (workergroup_id, state)
    ) WITHOUT ROWID;
    """,
    # From here on `reservations.confirmed` is 2 for a session whose client was sent nowhere since it began, and
    # `endpoints.deleting` 2 for one that is deleted with all that it holds.
    "ALTER TABLE workers ADD COLUMN retire TEXT NOT NULL DEFAULT '';",
    # From here on `workers.retire` is a cause (nullworker.core.causes); until then it was a sentence.
    """
    UPDATE workers SET retire = CASE
        WHEN retire = '' THEN ''
        WHEN retire LIKE 'endpoint %' THEN 'endpoint_deleted'
        WHEN retire LIKE 'workergroup %' THEN 'workergroup_deleted'
        ELSE 'updated' END;
    ALTER TABLE workers ADD COLUMN numbered INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE decisions RENAME COLUMN cause TO event_number;
    ALTER TABLE decisions ADD COLUMN cause TEXT NOT NULL DEFAULT '';
    """,
    # Loading times as a list in JSON, the newest first.
    "ALTER TABLE workers ADD COLUMN loadtimes_s TEXT NOT NULL DEFAULT '[]';",
    # The ends that a worker told, and may still tell, as lists in JSON (nullworker.core.events.RestoredWorker).
    """
    ALTER TABLE workers ADD COLUMN ends_told TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE workers ADD COLUMN ends_expected TEXT NOT NULL DEFAULT '[]';
    """,
    # How many requests the worker had received when the reservation was written down.
    "ALTER TABLE reservations ADD COLUMN received INTEGER NOT NULL DEFAULT 0;",
)

#: table -> (the statement that writes a row, the one that removes it)
STATEMENTS = {
    "meta": ("INSERT OR REPLACE INTO meta VALUES (?, ?)", "DELETE FROM meta WHERE key = ?"),
    "endpoints": ("INSERT OR REPLACE INTO endpoints VALUES (?, ?, ?, ?, ?, ?)", "DELETE FROM endpoints WHERE id = ?"),
    "workergroups": (
        "INSERT OR REPLACE INTO workergroups VALUES (?, ?, ?, ?, ?, ?, ?)",
        "DELETE FROM workergroups WHERE id = ?",
    ),
    "workers": (
        "INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "DELETE FROM workers WHERE id = ?",
    ),
    "reservations": (
        "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, ?, ?, ?)",
        "DELETE FROM reservations WHERE request_idx = ?",
    ),
}
#: What each row of a table consists of: SQLite itself keeps whatever it is given.
_ROW_TYPES: dict[str, Any] = {
    "endpoints": list[tuple[int, str, str, float, str, int]],
    "workergroups": list[tuple[int, int, str, float, str, int, int]],
    "workers": list[tuple[int, int, str, str, float, int, str, int, str, str, str]],
    "reservations": list[tuple[int, int, float, int, int, float, int]],
    "meta": list[tuple[str, int]],
    "usage": list[tuple[int, str, float]],
}
ADD_DECISION = (
    "INSERT INTO decisions (at_s, event_number, kind, endpoint_id, worker_id, request_idx, cause, reason) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
TRIM_DECISIONS = "DELETE FROM decisions WHERE seq <= (SELECT max(seq) FROM decisions) - ?"
ADD_USAGE = (
    "INSERT INTO usage VALUES (?, ?, ?) "
    "ON CONFLICT (workergroup_id, state) DO UPDATE SET seconds = seconds + excluded.seconds"
)


class StoreError(StateError):
    """The store cannot be used; the message is one sentence that says why and what to do."""


def open_store_file(path: Path) -> None:
    """Makes the store ``path`` where it is missing (0600), and brings an older one up to date.

    Raises:
        StoreError: it is damaged, no store, or a newer version's.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        with closing(connect(path)) as db:
            _migrate(db, path)
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from None
    except OSError as error:
        raise StoreError(f"The store {path} cannot be opened ({(error.strerror or str(error)).lower()}).") from None


def connect(path: Path) -> sqlite3.Connection:
    """A connection for one thread at a time. With synchronous=NORMAL, a power failure may lose the last commits, never
    the file; a killed process loses none.
    """
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    version, mark = pragma(db, "user_version"), pragma(db, "application_id")
    if version > len(MIGRATIONS) and mark == APPLICATION_ID:
        raise StoreError(
            f"The store {path} was written by a newer nullworker (version {version} of its tables; this one knows "
            f"{len(MIGRATIONS)}); upgrade nullworker, or bring back the copy of before its upgrade (docs/running.md)."
        )
    if mark != APPLICATION_ID and (version or db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]):
        raise StoreError(f"The file {path} is no store of nullworker's; move it away, or give another --state.")
    if 0 < version < len(MIGRATIONS):
        _keep_copy(db, path, version)
    for script in MIGRATIONS[version:]:
        version += 1
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version};"
        db.executescript(f"BEGIN IMMEDIATE; {script} {marks} COMMIT;")


def copy_path(path: Path, version: int) -> Path:
    """Where the store is kept as it was before it was brought up to date: what a rollback brings back."""
    return path.with_name(f"{path.name}.v{version}")


def _keep_copy(db: sqlite3.Connection, path: Path, version: int) -> None:
    """Copies the store (0600), whole or not at all.

    Args:
        db: the store.
        path: its file.
        version: of its tables.

    Raises:
        StoreError: it cannot be copied; it is left as it is then.
    """
    kept = copy_path(path, version)
    draft = kept.with_name(f".{kept.name}.draft")
    try:
        draft.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        db.execute("VACUUM INTO ?", (str(draft),))
        draft.replace(kept)
    except (OSError, sqlite3.OperationalError) as error:
        draft.unlink(missing_ok=True)
        why = (error.strerror if isinstance(error, OSError) else "") or str(error)
        raise StoreError(
            f"The store {path} cannot be copied to {kept.name}, which comes before its upgrade ({why.lower()}); "
            "make room for it, or let the directory be written."
        ) from None


def rows(db: sqlite3.Connection, table: str) -> list[tuple[Any, ...]]:
    """All rows of a table, in the order of their keys. Raises ValueError where one is not of the table's types."""
    found = db.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()  # noqa: S608 - a table of ours
    try:
        converted: list[tuple[Any, ...]] = msgspec.convert(found, _ROW_TYPES[table])
    except msgspec.ValidationError as error:
        raise ValueError(f"table {table}: {error}") from None
    return converted


def pragma(db: sqlite3.Connection, name: str) -> int:
    """The value of a number that SQLite keeps in the file's head."""
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def damaged(path: Path, error: Exception) -> StoreError:
    """The error of a store that cannot be read."""
    return StoreError(
        f"The store {path} is damaged ({error}); bring it back from a copy, or move it away to begin an empty one."
    )


def worker_row(worker: RestoredWorker) -> tuple[object, ...]:
    """The row of a worker."""
    return (
        worker.worker_id,
        worker.workergroup_id,
        worker.state,
        worker.url,
        worker.perf,
        worker.owned,
        "" if worker.retire is None else worker.retire.value,
        worker.numbered,
        "[" + ",".join(map(repr, worker.loadtimes_s)) + "]",
        msgspec.json.encode(worker.ends_told).decode() if worker.ends_told else "[]",
        msgspec.json.encode(worker.ends_expected).decode() if worker.ends_expected else "[]",
    )


def worker_of(row: tuple[Any, ...]) -> RestoredWorker:
    """The worker that a row says. Raises ValueError where it says none."""
    worker_id, workergroup_id, state, url, perf, owned, retire, numbered, loadtimes_s, ends_told, ends_expected = row
    _check_amount("workers", "perf", perf)
    return RestoredWorker(
        worker_id,
        workergroup_id,
        state,
        url,
        perf,
        bool(owned),
        Cause(retire) if retire else None,
        bool(numbered),
        msgspec.json.decode(loadtimes_s, type=tuple[float, ...]),
        msgspec.json.decode(ends_told, type=tuple[tuple[int, bool, float], ...]),
        msgspec.json.decode(ends_expected, type=tuple[tuple[int, int], ...]),
    )


def reservation_row(reservation: RestoredReservation) -> tuple[object, ...]:
    """The row of a reservation."""
    confirmed = reservation.confirmed + (reservation.confirmed and not reservation.sent)
    return (
        reservation.request_idx,
        reservation.endpoint_id,
        reservation.cost,
        reservation.worker_id,
        confirmed,
        reservation.replay_timeout_s,
        reservation.received,
    )


def reservation_of(row: tuple[Any, ...]) -> RestoredReservation:
    """The reservation that a row says. Raises ValueError where it says none."""
    request_idx, endpoint_id, cost, worker_id, confirmed, replay_timeout_s, received = row
    _check_amount("reservations", "cost", cost)
    return RestoredReservation(
        request_idx, endpoint_id, cost, worker_id, bool(confirmed), replay_timeout_s, confirmed < 2, received
    )


def _check_amount(table: str, column: str, amount: float) -> None:
    if not 0 <= amount <= limits.AMOUNT_MAX:
        raise ValueError(f"table {table}: {column} is {amount}")


def endpoint_row(entry: EndpointEntry) -> tuple[object, ...]:
    """The row of an endpoint as it is now."""
    parameters = msgspec.json.encode(entry.parameters).decode()
    deleting = entry.deleting + (entry.deleting and entry.forced)
    return (entry.endpoint_id, entry.name, parameters, entry.created_at_s, entry.from_file, deleting)


def endpoint_entry(row: tuple[Any, ...]) -> EndpointEntry:
    """The endpoint that a row says. Raises ValueError where it says none."""
    endpoint_id, name, parameters, created_at_s, from_file, deleting = row
    decoded = msgspec.json.decode(parameters, type=Parameters)
    return EndpointEntry(endpoint_id, name, decoded, created_at_s, from_file, bool(deleting), forced=deleting > 1)


def workergroup_row(entry: WorkergroupEntry) -> tuple[object, ...]:
    """The row of a workergroup as it is now."""
    return (
        entry.workergroup_id,
        entry.endpoint_id,
        msgspec.json.encode(entry.config).decode(),
        entry.created_at_s,
        msgspec.json.encode(entry.vast).decode(),
        entry.position,
        entry.deleting,
    )


def workergroup_entry(row: tuple[Any, ...]) -> WorkergroupEntry:
    """The workergroup that a row says. Raises ValueError where it says none."""
    workergroup_id, endpoint_id, config, created_at_s, vast, position, deleting = row
    return WorkergroupEntry(
        workergroup_id,
        endpoint_id,
        msgspec.json.decode(config, type=WorkergroupConfig),
        created_at_s,
        msgspec.json.decode(vast),
        position,
        bool(deleting),
    )
