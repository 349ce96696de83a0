"""The file ``costs.db``: what the time of each worker was for, by hour, and what reservations were for.

Nothing that an engine decides by is in it: a damaged one is moved away, and an engine that cannot write it goes on.
Times are whole microseconds and prices whole numbers (`nullworker.views.costs`), so that nothing is rounded here.
Its methods are called by one thread, or by one at a time.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from nullworker.engine.side_file import Layout, open_or_move_away
from nullworker.views.billing import Rates
from nullworker.views.cost_ledger import OpenTime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nullworker.views.cost_ledger import Taken

#: Of the tables; a file of another version is moved away.
VERSION = 1
#: Older than so many hours, or beyond so many rows, an hour's entries become the day's, with neither worker nor
#: reservation: sums stay the same. Labels of reservations go after that time.
DETAILED_HOURS = 35 * 24
ROWS_MAX = 1_000_000
ROWS_FOLDED = 100_000

_TABLES = """
    CREATE TABLE cost (
        hour INTEGER NOT NULL, worker_id INTEGER NOT NULL, request_idx INTEGER NOT NULL, kind TEXT NOT NULL,
        endpoint_id INTEGER NOT NULL, workergroup_id INTEGER NOT NULL, running INTEGER NOT NULL,
        storage INTEGER NOT NULL, us INTEGER NOT NULL,
        PRIMARY KEY (hour, worker_id, request_idx, kind, endpoint_id, workergroup_id, running, storage)
    ) WITHOUT ROWID;
    CREATE INDEX cost_by_worker ON cost (worker_id) WHERE worker_id > 0;
    CREATE INDEX cost_by_request ON cost (request_idx) WHERE request_idx > 0;
    CREATE TABLE open (
        worker_id INTEGER PRIMARY KEY, endpoint_id INTEGER NOT NULL, workergroup_id INTEGER NOT NULL,
        state TEXT NOT NULL, since_us INTEGER NOT NULL, running INTEGER NOT NULL, storage INTEGER NOT NULL,
        holders TEXT NOT NULL, last_request INTEGER NOT NULL, has_booted INTEGER NOT NULL
    );
    CREATE TABLE labels (
        request_idx INTEGER PRIMARY KEY, queue TEXT NOT NULL, job TEXT NOT NULL, hour INTEGER NOT NULL
    );
    CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_LAYOUT = Layout("What workers cost", VERSION, _TABLES, "SELECT 1 FROM cost LIMIT 1")
_ADD = (
    "INSERT INTO cost (hour, endpoint_id, workergroup_id, worker_id, request_idx, kind, running, storage, us) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET us = us + excluded.us"
)
_TO_FOLD = "FROM cost WHERE hour < :before AND (worker_id > 0 OR request_idx > 0 OR hour % 24 > 0)"
_FOLD = (
    "INSERT INTO cost SELECT hour / 24 * 24, 0, 0, kind, endpoint_id, workergroup_id, running, storage, sum(us) "
    f"{_TO_FOLD} GROUP BY 1, 4, 5, 6, 7, 8 "
    "ON CONFLICT DO UPDATE SET us = us + excluded.us"
)
_FOLDED = f"DELETE {_TO_FOLD}"

log = logging.getLogger(__name__)


class Label(NamedTuple):
    """What a reservation is for."""

    request_idx: int
    queue: str
    job: str  # "": not known


class Group(NamedTuple):
    """Time of one kind at one price, of what it is grouped by."""

    key: int
    queue: str
    job: str
    kind: str
    running: int
    storage: int
    us: int


class CostFile:
    """An open file."""

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        """Takes what `open` opened."""
        self._path = path
        self._db = db
        self._folded_hour = 0
        #: Why it could not be written last; "": it was.
        self.error = ""

    @classmethod
    def open(cls, path: Path) -> CostFile | None:
        """Opens ``path``, made where it is missing (mode 0600); None where that is impossible, which is logged."""
        db = open_or_move_away(path, _LAYOUT)
        return None if db is None else cls(path, db)

    def write(self, taken: Taken, alive_us: int) -> bool:
        """Adds entries, and keeps how the workers are, in one transaction; returns whether that worked.

        Args:
            taken: from the ledger.
            alive_us: the time of that, in microseconds since 1970.
        """
        try:
            with self._db:
                self._db.execute("BEGIN")
                self._db.executemany(_ADD, [(*entry, us) for entry, us in taken.entries.items()])
                self._db.executemany(
                    "UPDATE OR IGNORE cost SET request_idx = ? "
                    "WHERE worker_id = ? AND request_idx = 0 AND kind = 'boot'",
                    [(request_idx, worker_id) for worker_id, request_idx in taken.boots],
                )
                self._db.executemany("DELETE FROM open WHERE worker_id = ?", [(worker_id,) for worker_id in taken.gone])
                self._db.executemany(
                    "INSERT OR REPLACE INTO open VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_open_row, taken.open)
                )
                self._db.execute("INSERT OR REPLACE INTO meta VALUES ('alive_us', ?)", (alive_us,))
                self._fold(alive_us // 3_600_000_000)
        except sqlite3.Error as error:
            if not self.error:
                log.warning("The file of costs %s cannot be written (%s).", self._path, error)
            self.error = str(error)
            return False
        self.error = ""
        return True

    def _fold(self, hour: int) -> None:
        if hour == self._folded_hour:
            return
        self._folded_hour = hour
        before = hour - DETAILED_HOURS
        (count,) = self._db.execute("SELECT count(*) FROM cost").fetchone()
        if count > ROWS_MAX:
            beyond = self._db.execute(
                "SELECT hour FROM cost ORDER BY hour LIMIT 1 OFFSET ?", (count - ROWS_MAX + ROWS_FOLDED,)
            ).fetchone()
            before = max(before, min(beyond[0], hour))
        before = before // 24 * 24  # whole days, so that what is folded has the hour of its day's beginning
        self._db.execute(_FOLD, {"before": before})
        self._db.execute(_FOLDED, {"before": before})
        self._db.execute("DELETE FROM labels WHERE hour < ?", (before,))

    def label(self, labels: Sequence[Label], hour: int) -> None:
        """Keeps what reservations are for.

        Args:
            labels: of each reservation, in place of the one that it had.
            hour: now, since 1970.
        """
        try:
            with self._db:
                self._db.execute("BEGIN")
                self._db.executemany(
                    "INSERT INTO labels VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET queue = "
                    "CASE WHEN excluded.queue = '' THEN queue ELSE excluded.queue END, job = "
                    "CASE WHEN excluded.job = '' THEN job ELSE excluded.job END, hour = excluded.hour",
                    [(*label, hour) for label in labels],
                )
        except sqlite3.Error as error:
            self.error = str(error)

    # --------------------------------------------------------------------------------------------------------- reading

    def known(self) -> tuple[list[OpenTime], int]:
        """The workers as the last engine knew them, and when it was last there (microseconds since 1970)."""
        found = [
            OpenTime(
                row[0], row[1], row[2], row[3], row[4], Rates(row[5], row[6]), json.loads(row[7]), row[8], bool(row[9])
            )
            for row in self._db.execute("SELECT * FROM open")
        ]
        alive = self._db.execute("SELECT value FROM meta WHERE key = 'alive_us'").fetchone()
        return found, alive[0] if alive else 0

    def labels(self) -> list[Label]:
        """What the latest reservations are for."""
        rows = self._db.execute("SELECT request_idx, queue, job FROM labels ORDER BY request_idx DESC LIMIT 20000")
        return [Label(*row) for row in rows]

    def groups(self, by: str, since_hour: int, only: tuple[str, int] = ("", 0)) -> list[Group]:
        """All time since an hour, grouped.

        Args:
            by: "endpoint", "worker", "day", "job" or "queue"; of the last two, `Group.key` is the reservation.
            since_hour: the first hour.
            only: "endpoint", "worker" or "job" and its number: its time alone; "": all.
        """
        column = _COLUMNS[by]
        where, values = "hour >= ?", [since_hour]
        if only[0]:
            where += f" AND {_COLUMNS[only[0]]} = ?"
            values.append(only[1])
        if only[0] in ("worker", "job"):
            where += f" AND {_COLUMNS[only[0]]} > 0"  # what the index has
        rows = self._db.execute(
            f"SELECT key, coalesce(queue, ''), coalesce(job, ''), kind, running, storage, us FROM ("  # noqa: S608 - columns of ours
            f"SELECT {column} AS key, kind, running, storage, sum(us) AS us FROM cost WHERE {where} "
            f"GROUP BY 1, 2, 3, 4) LEFT JOIN labels ON {'key = request_idx' if by in ('job', 'queue') else 'false'}",
            values,
        )
        return [Group(*row) for row in rows]

    def close(self) -> None:
        """Closes the file; once more is no error."""
        self._db.close()


_COLUMNS = {
    "endpoint": "endpoint_id",
    "worker": "worker_id",
    "day": "hour / 24",
    "job": "cost.request_idx",
    "queue": "cost.request_idx",
}


def _open_row(each: OpenTime) -> tuple[object, ...]:
    return (
        each.worker_id, each.endpoint_id, each.workergroup_id, each.state, each.since_us, *each.rates,
        json.dumps(each.holders), each.last_request, each.has_booted,
    )  # fmt: skip
