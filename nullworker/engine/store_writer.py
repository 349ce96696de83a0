"""The thread that writes the store in the background, and what waits for it.

Rows are left with `StoreWriter.leave`; one that is left again before it was written replaces the one before. All that
waits is committed as one transaction, twenty times a second or every 500 rows, whichever is sooner. While the disk
refuses, it waits and is tried again. What must be on its way to the disk before a call is answered is committed by the
caller (`StoreWriter.write_now`), in turn with the thread. A caller that has time may commit the little that waits
(`StoreWriter.write_little`), so that a grant seldom meets a batch of the thread's.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.engine import store_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nullworker.engine.decisions import Decision

COMMIT_PERIOD_S = 0.05
COMMIT_ROWS = 500
LITTLE = 64  # things that a caller commits: 0.1 ms; the thread, which competes with it, takes several times as long
DECISIONS_KEPT = 100_000  # in the file
DECISIONS_PENDING_MAX = 20_000  # of a disk that does not keep up; the oldest go first
RETRY_PERIOD_S = 1.0  # after a commit that failed (the disk is full)
FLUSH_WAIT_S = 10.0
#: Rows between two checkpoints, which copy SQLite's log into its file and sync both: some ms, outside any transaction.
CHECKPOINT_ROWS = 4_000
CHECKPOINT = "PRAGMA wal_checkpoint(PASSIVE)"
#: SQLite's log is cut at this length at the latest: 64 MB.
LOG_PAGES_MAX = 16_384

log = logging.getLogger(__name__)


class Pending:
    """What waits to be written: the latest version of each row, and decisions in their order."""

    __slots__ = ("decisions", "rows", "usage", "when_written")

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
    """Writes to one open store, which is closed with it. Every method may be called by any thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        """Begins to write to ``db``."""
        self._db = db
        db.execute("PRAGMA wal_autocheckpoint = 0")  # a commit never waits for the disk; this thread checkpoints
        self._path = Path(db.execute("PRAGMA database_list").fetchone()[2])
        self._rows_since_checkpoint = 0
        #: Held from taking a batch until it is committed or put back. Taken before `lock`, never after it.
        self._committing = threading.Lock()
        #: To be held around rows that belong together: no others are left meanwhile, and none are taken to be written.
        self.lock = threading.Condition()
        self._pending = Pending()
        self._decisions_untrimmed = 0
        self._idle = self._urgent = self._closing = False
        #: Why the last commit failed; "": it did not.
        self.error = ""
        self._thread = threading.Thread(target=self._write_for_ever, name="store", daemon=True)
        self._thread.start()

    def leave(self, table: str, key: int | str, row: tuple[object, ...] | None) -> None:
        """Leaves a row to be written; None: to be removed.

        Args:
            table: its name.
            key: the row's primary key.
            row: its values; None: the row is removed.
        """
        with self.lock:
            self._pending.rows[table, key] = row
            self._notify()

    def add_decision(self, decision: Decision) -> None:
        """Leaves a decision to be added."""
        with self.lock:
            self._pending.decisions.append(decision)
            self._notify()

    def add_usage(self, workergroup_id: int, state: str, seconds: float) -> None:
        """Leaves some seconds to be added.

        Args:
            workergroup_id: whose workers they were.
            state: which they were in.
            seconds: for how long.
        """
        with self.lock:
            key = (workergroup_id, state)
            self._pending.usage[key] = self._pending.usage.get(key, 0.0) + seconds
            self._notify()

    def write_now(self, rows: Iterable[tuple[str, int | str, tuple[object, ...]]]) -> None:
        """Commits rows, of each its table, key and values, before it returns: a killed process has them.

        It waits for the commit that is under way, so the caller must not hold `lock`. What the disk refuses waits for
        the thread, as if it had been left.
        """
        batch = Pending()
        for table, key, row in rows:
            batch.rows[table, key] = row
        with self._committing:
            with self.lock:
                pending = self._pending.rows
                for name in batch.rows:
                    pending.pop(name, None)
            if not self._write(batch):
                self._put_back(batch)

    def write_little(self) -> None:
        """Commits what waits, if it is little, no commit is under way and the disk takes it; else the thread will."""
        if len(self._pending) > LITTLE or self.error or not self._committing.acquire(blocking=False):
            return
        try:
            with self.lock:
                batch = self._taken()
            if not self._write(batch):
                self._put_back(batch)
        finally:
            self._committing.release()

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
        """Writes what is left and closes the store; once more is no error."""
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
                while not len(self._pending) and not self._closing:
                    self._idle = True  # each time: what it was woken for may have been written by a caller
                    self.lock.wait()
                self._idle = False
                self.lock.wait_for(lambda: self._urgent or self._closing, COMMIT_PERIOD_S)
                closing_now = self._closing
            if not self._write_batch():
                if closing_now:
                    return
                threading.Event().wait(RETRY_PERIOD_S)
            elif closing_now:
                with self.lock:
                    if not len(self._pending):
                        return

    def _taken(self) -> Pending:
        """All that waits, which from now on does not; to be called with `lock` and `_committing`."""
        batch, self._pending = self._pending, Pending()
        self._urgent = False
        return batch

    def _write_batch(self) -> bool:
        """Commits what waits; False if the disk refuses, and it waits on."""
        with self._committing:
            with self.lock:
                batch = self._taken()
            is_written = self._write(batch)
            if not is_written:
                self._put_back(batch)
        if self._rows_since_checkpoint >= CHECKPOINT_ROWS:
            self._checkpoint()
        return is_written

    def _checkpoint(self) -> None:
        """Copies SQLite's log into its file, while others commit; what they add meanwhile keeps it from starting again.

        So once it is long, the rest of it is copied while they wait: some ms, seldom.
        """
        self._rows_since_checkpoint = 0
        with contextlib.suppress(sqlite3.Error), contextlib.closing(store_file.connect(self._path)) as db:
            _, pages, _ = db.execute(CHECKPOINT).fetchone()
            if pages > LOG_PAGES_MAX:
                with self._committing:
                    db.execute(CHECKPOINT)

    def _write(self, batch: Pending) -> bool:
        """Commits one batch; False if nothing of it is written."""
        if not len(batch):
            return True
        try:
            self._commit(batch)
        except Exception as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError) or type(error) is sqlite3.DatabaseError:
                return self._disk_refused(error)
            if len(batch) > 1:  # one thing in it is what SQLite cannot keep; the rest must not suffer for it
                return all(self._write(part) for part in batch.parts())
            log.exception("a row cannot be kept and is left out", extra={"action": "store_row_failed"})
        if self.error:
            log.info("the store can be written again", extra={"action": "store_recovered"})
            self.error = ""
        for callback in batch.when_written:
            callback()
        return True

    def _commit(self, batch: Pending) -> None:
        self._rows_since_checkpoint += len(batch)
        if len(batch) == 1 and batch.rows:  # a grant, as a rule; a statement by itself is a transaction
            (((table, key), row),) = batch.rows.items()
            put, delete = store_file.STATEMENTS[table]
            self._db.execute(delete if row is None else put, (key,) if row is None else row)
            return
        self._db.execute("BEGIN IMMEDIATE")
        for statement, rows in _statements(batch):
            self._db.executemany(statement, rows)
        self._decisions_untrimmed += len(batch.decisions)
        if self._decisions_untrimmed >= 1_000:
            self._db.execute(store_file.TRIM_DECISIONS, (DECISIONS_KEPT,))
            self._decisions_untrimmed = 0
        self._db.execute("COMMIT")

    def _disk_refused(self, error: sqlite3.Error) -> bool:
        if not self.error:
            log.error("the store cannot be written: %s", error, extra={"action": "store_failed"})
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
