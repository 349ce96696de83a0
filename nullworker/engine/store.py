"""The store: what an engine must know again after a restart, kept in SQLite by a thread of its own.

Callers leave rows here and go on; the thread commits what is there twenty times a second. So a killed engine loses a
twentieth of a second, which workers' reports bring back. What it must not lose is committed before anyone is told:
grants, creations, reserved numbers, and an operator's changes.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.engine import store_file
from nullworker.engine.decisions import KEPT as DECISIONS_LOADED
from nullworker.engine.decisions import Decision
from nullworker.engine.store_file import StoreError
from nullworker.engine.store_writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nullworker.core.events import RestoredReservation, RestoredWorker
    from nullworker.engine.catalog import EndpointEntry, WorkergroupEntry

__all__ = ["Loaded", "Store", "StoreError"]

#: An operator's change is answered when it is written, or after this long on a slow disk.
CHANGE_WAIT_S = 1.0
#: SQLite's log: what was committed since the last checkpoint. It is there from the start of an engine to its clean end.
LOG_SUFFIX = "-wal"
#: The requests of a store that is lost had places below this: ten for each second since 2020 (they end at 2^33).
LOST_PLACES_PER_S = 10
LOST_PLACES_SINCE_S = 1_577_836_800.0
#: After a kill, numbers go on this far beyond the last one that was written: more than were given out meanwhile.
WORKER_IDS_SKIPPED = 1_000
REQUEST_PLACES_SKIPPED = 1_000_000


@dataclass(frozen=True, slots=True)
class Loaded:
    """What an engine before this one wrote down."""

    next_worker_id: int = 1
    next_request_place: int = 1
    next_id: int = 1  # of endpoints and workergroups
    endpoints: list[EndpointEntry] = field(default_factory=list)
    workergroups: list[WorkergroupEntry] = field(default_factory=list)
    workers: list[RestoredWorker] = field(default_factory=list)
    reservations: list[RestoredReservation] = field(default_factory=list)  # in the order in which they were asked
    decisions: list[Decision] = field(default_factory=list)  # oldest first
    usage: dict[tuple[int, str], float] = field(default_factory=dict)  # seconds by workergroup and state
    was_closed: bool = True  # and not killed
    lost: str = ""  # a sentence about what is missing; "": nothing is, as far as can be seen


class Store:
    """An open store. Every method may be called by any thread."""

    def __init__(self, path: Path, writer: StoreWriter, meta: dict[str, int], *, was_closed: bool, lost: str) -> None:
        """Takes what `open` opened."""
        self._path = path
        self._writer = writer
        self._lock = writer.lock
        self._meta = meta
        self._was_closed = was_closed
        #: A sentence about what is missing of what engines before this one wrote; "": nothing, as far as can be seen.
        self.lost = lost
        self._closed = False
        #: Whether `close` says that this engine ended as it should; if not, the next start treats it as killed.
        self.closes_cleanly = True

    @classmethod
    def open(cls, path: Path, *, is_first: bool = True) -> Store:
        """Opens the store ``path``, made where it is missing.

        Args:
            path: the file.
            is_first: whether no engine has used its directory before, so that a missing file is not a lost one.

        Raises:
            StoreError: it is damaged, no store, a newer version's, or an older one's that was killed.
        """
        has_file, has_log = path.exists(), path.with_name(path.name + LOG_SUFFIX).exists()
        store_file.open_store_file(path)
        db = store_file.connect(path)
        try:
            meta: dict[str, int] = dict(store_file.rows(db, "meta"))
            was_closed = bool(meta.get("closed", 1))
            lost = "" if is_first else _lost(path, has_file=has_file, has_log=has_log or not meta.get("has_log"))
            _remove_grant_logs(path.parent, was_closed=was_closed)
            meta |= {"closed": 0, "has_log": 1}  # until we close it
            db.executemany(store_file.STATEMENTS["meta"][0], [("closed", 0), ("has_log", 1)])
            # Into the file itself: there, without a log beside it, it says that the log is lost.
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return cls(path, StoreWriter(db), meta, was_closed=was_closed, lost=lost)
        except (sqlite3.DatabaseError, ValueError) as error:
            db.close()
            raise store_file.damaged(path, error) from None
        except BaseException:
            db.close()
            raise

    # ----------------------------------------------------------------------------------------------- left to be written

    def put_endpoint(self, endpoint: EndpointEntry) -> None:
        """Writes an endpoint down as it is now, before its change is answered."""
        self._leave_numbered("endpoints", endpoint.endpoint_id, store_file.endpoint_row(endpoint))

    def delete_endpoint(self, endpoint_id: int) -> None:
        """Forgets an endpoint."""
        self._writer.leave("endpoints", endpoint_id, None)

    def put_workergroup(self, workergroup: WorkergroupEntry) -> None:
        """Writes a workergroup down as it is now, before its change is answered."""
        self._leave_numbered("workergroups", workergroup.workergroup_id, store_file.workergroup_row(workergroup))

    def delete_workergroup(self, workergroup_id: int) -> None:
        """Forgets a workergroup."""
        self._writer.leave("workergroups", workergroup_id, None)

    def put_worker(self, worker: RestoredWorker, *, is_committed: bool = False) -> None:
        """Keeps a worker. ``is_committed``: as it is, by `write_now`; then its number alone is left to be written."""
        with self._lock:
            if worker.owned and worker.worker_id >= self._meta.get("next_worker_id", 1):
                self._set_meta("next_worker_id", worker.worker_id + 1)
            if not is_committed:
                self._writer.leave("workers", worker.worker_id, store_file.worker_row(worker))

    def delete_worker(self, worker_id: int) -> None:
        """Forgets a worker."""
        self._writer.leave("workers", worker_id, None)

    def put_reservation(self, reservation: RestoredReservation) -> None:
        """Keeps a waiter, a grant, or a session."""
        self._writer.leave("reservations", reservation.request_idx, store_file.reservation_row(reservation))

    def delete_reservation(self, request_idx: int) -> None:
        """Forgets a reservation."""
        self._writer.leave("reservations", request_idx, None)

    def add_decision(self, decision: Decision) -> None:
        """Adds a decision to the record."""
        self._writer.add_decision(decision)

    def add_usage(self, workergroup_id: int, state: str, seconds: float) -> None:
        """Adds the time that workers of a workergroup spent in a state.

        Args:
            workergroup_id: whose workers they were.
            state: which they were in.
            seconds: for how long.
        """
        self._writer.add_usage(workergroup_id, state, seconds)

    # -------------------------------------------------------------------------------------------------- written at once

    def write_now(self, workers: Iterable[RestoredWorker], reservations: Iterable[RestoredReservation]) -> None:
        """Commits workers and reservations as they are now, before they are ordered and granted."""
        rows: list[tuple[str, int | str, tuple[object, ...]]] = [
            ("workers", each.worker_id, store_file.worker_row(each)) for each in workers
        ]
        rows += [("reservations", each.request_idx, store_file.reservation_row(each)) for each in reservations]
        self._writer.write_now(rows)

    def write_little(self) -> None:
        """Commits what was left here, if it is little; else it is committed soon."""
        self._writer.write_little()

    def reserve_request_places(self, end: int) -> None:
        """Makes sure, now, that no engine after this one gives a request a place below ``end`` again."""
        self._writer.write_now([("meta", "request_places", ("request_places", end))])

    def reserve_id(self, next_id: int) -> bool:
        """Makes sure, now, that no engine after this one gives an endpoint an id below ``next_id`` again.

        Returns:
            Whether the disk has taken it.
        """
        self._writer.write_now([("meta", "next_id", ("next_id", next_id))])
        with self._lock:
            self._meta["next_id"] = max(next_id, self._meta.get("next_id", 1))
        return not self._writer.error

    def flush(self) -> None:
        """Waits until what was left here is written; no longer than an operator's change may wait."""
        self._writer.flush(CHANGE_WAIT_S)

    # ---------------------------------------------------------------------------------------------------------- reading

    def load(self) -> Loaded:
        """All that is in the store, with what was left here so far.

        Raises:
            StoreError: it is damaged.
        """
        self._writer.flush()
        skip = not self._was_closed or bool(self.lost)
        places_lost = int((_wall_s() - LOST_PLACES_SINCE_S) * LOST_PLACES_PER_S) if self.lost else 0
        try:
            with contextlib.closing(store_file.connect(self._path)) as db:
                meta: dict[str, int] = dict(store_file.rows(db, "meta"))
                return Loaded(
                    next_worker_id=meta.get("next_worker_id", 1) + (WORKER_IDS_SKIPPED if skip else 0),
                    next_request_place=max(
                        meta.get("request_places", 1) + (REQUEST_PLACES_SKIPPED if skip else 0), places_lost
                    ),
                    next_id=meta.get("next_id", 1),
                    endpoints=[store_file.endpoint_entry(row) for row in store_file.rows(db, "endpoints")],
                    workergroups=[store_file.workergroup_entry(row) for row in store_file.rows(db, "workergroups")],
                    workers=[store_file.worker_of(row) for row in store_file.rows(db, "workers")],
                    reservations=[store_file.reservation_of(row) for row in store_file.rows(db, "reservations")],
                    decisions=_decisions(db, DECISIONS_LOADED),
                    usage={(row[0], row[1]): row[2] for row in store_file.rows(db, "usage")},
                    was_closed=self._was_closed,
                    lost=self.lost,
                )
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise store_file.damaged(self._path, error) from None

    def close(self) -> None:
        """Writes what is left and closes the store; once more is no error."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self.closes_cleanly:
                self._set_meta("closed", 1)
            self._set_meta("has_log", 0)
        self._writer.close()

    @property
    def error(self) -> str:
        """Why the store could not be written last; "": it was."""
        return self._writer.error

    # --------------------------------------------------------------------------------------------------------- common

    def _leave_numbered(self, table: str, key: int, row: tuple[object, ...]) -> None:
        """Leaves an operator's change and waits for it, so that what was answered is so after a kill."""
        with self._lock:
            if key >= self._meta.get("next_id", 1):
                self._set_meta("next_id", key + 1)
            self._writer.leave(table, key, row)
        self.flush()

    def _set_meta(self, key: str, value: int) -> None:
        if self._meta.get(key) != value:
            self._meta[key] = value
            self._writer.leave("meta", key, (key, value))


def _lost(path: Path, *, has_file: bool, has_log: bool) -> str:
    """What is missing of what engines before this one wrote, as a sentence; "": nothing, as far as can be seen."""
    if not has_file:
        return (
            f"The store {path} was missing, so a new one was begun: what was known of workers and requests, and "
            "endpoints that are not in the configuration file, are lost; bring it back from a copy, or create them."
        )
    if not has_log:
        return (
            f"The last changes to the store {path} are lost, for its log {path.name}{LOG_SUFFIX} is missing: a copy of "
            "a store needs both files; what fleets and workers report takes their place."
        )
    return ""


def _wall_s() -> float:
    return time.time()  # noqa: TID251 - request numbers must only be above all that were given before


def _remove_grant_logs(state_dir: Path, *, was_closed: bool) -> None:
    """Before grants were committed to the store, they were in files beside it, which have nothing after a clean end."""
    logs = list(state_dir.glob("grants-*.log"))
    if logs and not was_closed:
        raise StoreError(
            f"The state directory {state_dir} was left by an older nullworker that was killed, and its {logs[0].name} "
            "may have grants that this one does not read; start and stop it once with that version."
        )
    for log in logs:
        log.unlink(missing_ok=True)


def _decisions(db: sqlite3.Connection, count: int) -> list[Decision]:
    columns = ", ".join(Decision._fields)
    rows = db.execute(f"SELECT {columns} FROM decisions ORDER BY seq DESC LIMIT ?", (count,)).fetchall()  # noqa: S608 - columns of ours
    return [Decision(*row) for row in reversed(rows)]
