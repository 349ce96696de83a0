"""The thread that writes the ledger behind everybody's back, and what waits for it.

Rows are left with `StoreWriter.leave`; one that is left again before it was written replaces the one before. What is
there is written as one transaction, twenty times a second or every 500 rows, whichever is sooner. While the disk
refuses, it waits and is tried again.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import deque
from typing import TYPE_CHECKING

from nullworker.engine import store_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nullworker.engine.decisions import Decision

COMMIT_PERIOD_S = 0.05
COMMIT_ROWS = 500
DECISIONS_KEPT = 100_000  # in the file
DECISIONS_PENDING_MAX = 20_000  # of a disk that does not keep up; the oldest go first
RETRY_PERIOD_S = 1.0  # after a commit that failed (the disk is full)
FLUSH_WAIT_S = 10.0

log = logging.getLogger(__name__)


class Pending:
    """What waits to be written: the last word on each row, in no order, and decisions in theirs."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int | str], tuple[object, ...] | None] = {}  # None: the row is gone
        self.decisions: deque[Decision] = deque(maxlen=DECISIONS_PENDING_MAX)
        self.usage: dict[tuple[int, str], float] = {}
        self.when_written: list[Callable[[], None]] = []

    def parts(self) -> Iterable[Pending]:
        """The same, one thing at a time."""
        for key, row in self.rows.items():
            part = Pending()
            part.rows[key] = row
            yield part
        for decision in self.decisions:
            part = Pending()
            part.decisions.append(decision)
            yield part
        for usage, seconds in self.usage.items():
            part = Pending()
            part.usage[usage] = seconds
            yield part
        last = Pending()
        last.when_written = self.when_written
        yield last

    def __len__(self) -> int:
        return len(self.rows) + len(self.decisions) + len(self.usage) + len(self.when_written)


class StoreWriter:
    """Writes to one open ledger, which is closed with it. Every method may be called by any thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Begins to write to ``db``."""
        self._db = db
        #: To be held around what belongs together: nobody else leaves anything, and nothing is taken to be written.
        self.lock = threading.Condition()
        self._pending = Pending()
        self._decisions_untrimmed = 0
        self._idle = self._urgent = self._closing = False
        #: Why the last commit failed; "": it did not.
        self.error = ""
        self._thread = threading.Thread(target=self._write_for_ever, name="ledger", daemon=True)
        self._thread.start()

    def leave(self, table: str, key: int | str, row: tuple[object, ...] | None) -> None:
        """Leaves a row to be written; None: to be removed."""
        with self.lock:
            self._pending.rows[table, key] = row
            self._notify()

    def add_decision(self, decision: Decision) -> None:
        """Leaves a decision to be added."""
        with self.lock:
            self._pending.decisions.append(decision)
            self._notify()

    def add_usage(self, workergroup_id: int, state: str, seconds: float) -> None:
        """Leaves some seconds to be added."""
        with self.lock:
            key = (workergroup_id, state)
            self._pending.usage[key] = self._pending.usage.get(key, 0.0) + seconds
            self._notify()

    def when_written(self, callback: Callable[[], None]) -> None:
        """Has ``callback`` called, by the writer's thread, once all that was left so far is written."""
        with self.lock:
            self._pending.when_written.append(callback)
            self._notify()

    def flush(self, timeout_s: float = FLUSH_WAIT_S) -> bool:
        """Waits until all that was left so far is written; False if it is not after ``timeout_s``."""
        written = threading.Event()
        with self.lock:
            if self._closing:
                return False
            self._pending.when_written.append(written.set)
            self._urgent = True
            self.lock.notify()
        return written.wait(timeout_s)

    def close(self) -> None:
        """Writes what is left and closes the ledger; once more is no error."""
        with self.lock:
            self._closing = True
            self.lock.notify()
        self._thread.join()
        self._db.close()

    def _notify(self) -> None:
        if self._idle:
            self._idle = False
            self.lock.notify()
        elif len(self._pending) >= COMMIT_ROWS and not self._urgent:
            self._urgent = True
            self.lock.notify()

    def _write_for_ever(self) -> None:
        while True:
            with self.lock:
                self._idle = not len(self._pending)
                self.lock.wait_for(lambda: len(self._pending) or self._closing)
                self._idle = False
                self.lock.wait_for(lambda: self._urgent or self._closing, COMMIT_PERIOD_S)
                batch, self._pending = self._pending, Pending()
                self._urgent = False
                closing_now = self._closing
            if not self._write(batch):
                self._put_back(batch)
                if closing_now:
                    return
                threading.Event().wait(RETRY_PERIOD_S)
            elif closing_now:
                with self.lock:
                    if not len(self._pending):
                        return

    def _write(self, batch: Pending) -> bool:
        """Commits one batch; False if nothing of it is written."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for statement, rows in _statements(batch):
                self._db.executemany(statement, rows)
            self._decisions_untrimmed += len(batch.decisions)
            if self._decisions_untrimmed >= 1_000:
                self._db.execute(store_file.TRIM_DECISIONS, (DECISIONS_KEPT,))
                self._decisions_untrimmed = 0
            self._db.execute("COMMIT")
        except Exception as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
                return self._disk_refused(error)
            if len(batch) > 1:  # one thing in it is what SQLite cannot keep; the rest must not suffer for it
                return all(self._write(part) for part in batch.parts())
            log.exception("a row cannot be kept and is left out", extra={"action": "store_row_failed"})
        if self.error:
            log.info("the ledger can be written again", extra={"action": "store_recovered"})
            self.error = ""
        for callback in batch.when_written:
            callback()
        return True

    def _disk_refused(self, error: sqlite3.Error) -> bool:
        if not self.error:
            log.error("the ledger cannot be written: %s", error, extra={"action": "store_failed"})
        self.error = str(error)
        return False

    def _put_back(self, batch: Pending) -> None:
        """What was not written waits again, where nothing newer took its place."""
        with self.lock:
            pending = self._pending
            pending.rows = {**batch.rows, **pending.rows}
            pending.decisions = deque([*batch.decisions, *pending.decisions], maxlen=DECISIONS_PENDING_MAX)
            for key, seconds in batch.usage.items():
                pending.usage[key] = pending.usage.get(key, 0.0) + seconds
            pending.when_written = [*batch.when_written, *pending.when_written]


def _statements(batch: Pending) -> Iterable[tuple[str, list[tuple[object, ...]]]]:
    """What writes ``batch``: one statement for each table and kind of change."""
    puts: dict[str, list[tuple[object, ...]]] = {}
    deletes: dict[str, list[tuple[object, ...]]] = {}
    for (table, key), row in batch.rows.items():
        if row is None:
            deletes.setdefault(table, []).append((key,))
        else:
            puts.setdefault(table, []).append(row)
    for table, rows in puts.items():
        yield store_file.STATEMENTS[table][0], rows
    for table, rows in deletes.items():
        yield store_file.STATEMENTS[table][1], rows
    if batch.decisions:
        yield store_file.ADD_DECISION, [tuple(decision) for decision in batch.decisions]
    if batch.usage:
        yield store_file.ADD_USAGE, [(*key, seconds) for key, seconds in batch.usage.items()]
