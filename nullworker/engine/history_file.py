"""The file ``history.db``: what workers and reservations went through, and why each endpoint was as it was, by time.

It answers "why at that moment". Nothing that an engine decides by is in it: a damaged one is moved away, and an engine
that cannot write it goes on. Its methods are called by one thread, or by one at a time.
"""

from __future__ import annotations

import logging
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from nullworker.engine.side_file import Layout, open_or_move_away
from nullworker.views.history import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: Of the tables; a file of another version is moved away.
VERSION = 1
#: What is older than a week goes, and so does what is beyond so many rows of a table (some 100 bytes each).
KEPT_S = 7 * 86_400.0
ROWS_MAX = 1_000_000
#: A waiter that changed longer ago than this is not counted in the line of a moment.
LINE_S = 86_400.0

_TABLES = """
    CREATE TABLE changes (
        seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, kind TEXT NOT NULL, id INTEGER NOT NULL,
        endpoint_id INTEGER NOT NULL, workergroup_id INTEGER NOT NULL, state TEXT NOT NULL, worker_id INTEGER NOT NULL
    );
    CREATE INDEX changes_by_subject ON changes (kind, id, at_s);
    CREATE INDEX changes_by_time ON changes (at_s);
    CREATE INDEX changes_by_worker ON changes (worker_id, at_s) WHERE worker_id > 0;
    CREATE TABLE moments (
        seq INTEGER PRIMARY KEY, at_s REAL NOT NULL, endpoint_id INTEGER NOT NULL, waiting INTEGER NOT NULL,
        held INTEGER NOT NULL, up INTEGER NOT NULL, booting INTEGER NOT NULL, why TEXT NOT NULL, answer TEXT NOT NULL
    );
    CREATE INDEX moments_by_endpoint ON moments (endpoint_id, at_s);
"""
_LAYOUT = Layout("The history", VERSION, _TABLES, "SELECT 1 FROM changes LIMIT 1")
_CHANGE = "at_s, kind, id, endpoint_id, workergroup_id, state, worker_id"
_MOMENT = "at_s, endpoint_id, waiting, held, up, booting, why, answer"

log = logging.getLogger(__name__)


class EndpointMoment(NamedTuple):
    """An endpoint at one time."""

    at_s: float
    endpoint_id: int
    waiting: int
    held: int
    up: int
    booting: int
    why: str  # why the first that waited had no worker; "": none waited
    answer: str


class HistoryFile:
    """An open file."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        """Takes what `open` opened."""
        self._path = path
        self._db = db
        self._trimmed_at_s = 0.0
        #: Why it could not be written last; "": it was.
        self.error = ""

    @classmethod
    def open(cls, path: Path) -> HistoryFile | None:
        """Opens ``path``, made where it is missing (mode 0600); None where that is impossible, which is logged."""
        db = open_or_move_away(path, _LAYOUT)
        return None if db is None else cls(path, db)

    def write(self, changes: Sequence[Change], moments: Sequence[EndpointMoment]) -> None:
        """Adds rows; one failure is kept in `error`, and what was given is lost.

        Args:
            changes: of workers and reservations.
            moments: of endpoints.
        """
        if not changes and not moments:
            return
        try:
            with self._db:
                self._db.execute("BEGIN")
                self._db.executemany(f"INSERT INTO changes ({_CHANGE}) VALUES (?, ?, ?, ?, ?, ?, ?)", changes)  # noqa: S608 - columns of ours
                self._db.executemany(f"INSERT INTO moments ({_MOMENT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", moments)  # noqa: S608 - likewise
            self._trim((changes or moments)[-1].at_s)
            self.error = ""
        except sqlite3.Error as error:
            if not self.error:
                log.warning("The history %s cannot be written (%s).", self._path, error)
            self.error = str(error)

    def _trim(self, at_s: float) -> None:
        if at_s - self._trimmed_at_s < 600:
            return
        self._trimmed_at_s = at_s
        for table in ("changes", "moments"):
            self._db.execute(f"DELETE FROM {table} WHERE at_s < ?", (at_s - KEPT_S,))  # noqa: S608 - a table of ours
            self._db.execute(f"DELETE FROM {table} WHERE seq <= (SELECT max(seq) FROM {table}) - ?", (ROWS_MAX,))  # noqa: S608 - likewise

    # --------------------------------------------------------------------------------------------------------- reading

    def changes_since(self, at_s: float) -> list[Change]:
        """All changes from then on, oldest first."""
        return self._changes("at_s >= ? ORDER BY seq", (at_s,))

    def moments_since(self, at_s: float) -> list[EndpointMoment]:
        """All moments from then on, oldest first."""
        return self._moments("at_s >= ? ORDER BY seq", (at_s,))

    def last_change(self, kind: str, identity: int, at_s: float) -> Change | None:
        """The state of a worker or the stage of a reservation at a time.

        Args:
            kind: "worker" or "request".
            identity: its number.
            at_s: the time.
        """
        found = self._changes(
            "kind = ? AND id = ? AND at_s <= ? ORDER BY at_s DESC, seq DESC LIMIT 1", (kind, identity, at_s)
        )
        return found[0] if found else None

    def first_change(self, kind: str, identity: int) -> Change | None:
        """The first that is known of a worker or a reservation."""
        found = self._changes("kind = ? AND id = ? ORDER BY at_s, seq LIMIT 1", (kind, identity))
        return found[0] if found else None

    def held_by(self, worker_id: int, at_s: float) -> list[Change]:
        """The reservations that a worker held at a time, each since when."""
        seen = self._changes(
            "worker_id = ? AND at_s <= ? AND at_s > ? ORDER BY at_s DESC LIMIT 100", (worker_id, at_s, at_s - KEPT_S)
        )
        numbers = dict.fromkeys(change.id for change in seen)
        last = [self.last_change("request", number, at_s) for number in numbers]
        held = [change for change in last if change is not None and change.worker_id == worker_id]
        return [min((c for c in seen if c.id == change.id), key=lambda c: c.at_s) for change in held]

    def line_at(self, endpoint_id: int, at_s: float) -> list[int]:
        """The reservations that waited at an endpoint at a time, first come first.

        Args:
            endpoint_id: the endpoint.
            at_s: the time.
        """
        rows = self._db.execute(
            "SELECT id FROM (SELECT id, state, max(seq) FROM changes WHERE kind = 'request' AND endpoint_id = ? "
            "AND at_s <= ? AND at_s > ? GROUP BY id) WHERE state = 'waiting' ORDER BY id",
            (endpoint_id, at_s, at_s - LINE_S),
        )
        return [number for (number,) in rows]

    def moment(self, endpoint_id: int, at_s: float) -> EndpointMoment | None:
        """The moment of an endpoint that is nearest to a time; one after it only where that is within a second.

        What changed is written down up to a second later.
        """
        before = self._moments("endpoint_id = ? AND at_s <= ? ORDER BY at_s DESC LIMIT 1", (endpoint_id, at_s))
        after = self._moments(
            "endpoint_id = ? AND at_s > ? AND at_s <= ? ORDER BY at_s LIMIT 1", (endpoint_id, at_s, at_s + 1.0)
        )
        found = [*before, *after]
        return min(found, key=lambda moment: abs(moment.at_s - at_s)) if before else None

    def _changes(self, where: str, values: Iterable[object]) -> list[Change]:
        rows = self._db.execute(f"SELECT {_CHANGE} FROM changes WHERE {where}", tuple(values))  # noqa: S608 - conditions of ours
        return [Change(*row) for row in rows]

    def _moments(self, where: str, values: Iterable[object]) -> list[EndpointMoment]:
        rows = self._db.execute(f"SELECT {_MOMENT} FROM moments WHERE {where}", tuple(values))  # noqa: S608 - likewise
        return [EndpointMoment(*row) for row in rows]

    def close(self) -> None:
        """Closes the file; once more is no error."""
        self._db.close()
