"""SQLite files beside the store that nothing is decided by: one that cannot be used is moved away, or done without."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger(__name__)


class Layout(NamedTuple):
    """Which tables a file has."""

    about: str  # what it keeps, for log lines: "The history"
    version: int  # of the tables; a file of another version is moved away
    tables: str  # SQL that makes them
    probe: str  # a query that fails where one of them is missing


def open_or_move_away(path: Path, layout: Layout) -> sqlite3.Connection | None:
    """Opens a file, made where it is missing (mode 0600); a damaged one is moved away, and another one made.

    Args:
        path: of the file.
        layout: its tables.

    Returns:
        The connection, for one thread at a time; None where there can be no such file, which is logged.
    """
    for attempt in range(2):
        try:
            return _connect(path, layout)
        except (sqlite3.DatabaseError, OSError) as error:
            if attempt or isinstance(error, OSError):
                log.warning("%s in %s cannot be used (%s), and is not kept.", layout.about, path, error)
                return None
            log.warning("%s in %s is damaged or another version's (%s), and is moved away.", layout.about, path, error)
            _move_away(path)
    return None


def _connect(path: Path, layout: Layout) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        _prepare(db, layout)
        return db
    except BaseException:
        db.close()
        raise


def _prepare(db: sqlite3.Connection, layout: Layout) -> None:
    """Makes the tables where they are missing. Raises DatabaseError where the file cannot be used."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        db.executescript(f"BEGIN; {layout.tables} PRAGMA user_version = {layout.version}; COMMIT;")
    elif version != layout.version:
        raise sqlite3.DatabaseError(f"version {version} of its tables, and this is {layout.version}")
    db.execute(layout.probe)


def _move_away(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.rename(path.with_name(f"{path.name}.unusable"))
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
