"""What it costs to have a grant on disk before it is answered: a line of a log, or a commit of SQLite.

Each way is timed grant by grant, at the rate of a busy engine, with and without the store's writer at work beside it,
and with and without another process that keeps a core busy:

    python bench/grant_commit.py [--grants 5000] [--runs 3]
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sqlite3
import statistics
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Write = Callable[[int], object]

#: Grants a second: more than 1,000 workers with jobs of a second ask for, and so few that the disk is idle between.
RATE = 2_000
#: What the store's writer commits beside them: so many rows, so often (`nullworker.engine.store_writer`).
BATCH_ROWS = 500
BATCH_PERIOD_S = 0.05
CHECKPOINT_BATCHES = 8
INSERT = "INSERT OR REPLACE INTO reservations VALUES (?, ?, ?, ?, 0, 60.0, 0)"
TABLE = (
    "CREATE TABLE reservations (request_idx INTEGER PRIMARY KEY, endpoint_id INTEGER NOT NULL, cost REAL NOT NULL, "
    "worker_id INTEGER NOT NULL, confirmed INTEGER NOT NULL, replay_timeout_s REAL NOT NULL, received INTEGER NOT NULL)"
)


def connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    return db


@dataclass
class Store:
    """The store's file as the engine has it: one connection, which one thread at a time uses, and its writer."""

    directory: Path
    db: sqlite3.Connection
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write_batches(self, done: threading.Event) -> None:
        numbers = itertools.count(1)
        with closing(connect(self.directory / "engine.db")) as other:
            while not done.wait(BATCH_PERIOD_S):
                with self.lock:
                    self.db.execute("BEGIN IMMEDIATE")
                    first = next(numbers) * BATCH_ROWS
                    self.db.executemany(INSERT, [(first + n, 1, 1.0, 1) for n in range(BATCH_ROWS)])
                    self.db.execute("COMMIT")
                if first // BATCH_ROWS % CHECKPOINT_BATCHES == 0:
                    other.execute("PRAGMA wal_checkpoint(PASSIVE)")  # syncs to the disk, which no grant waits for


@contextmanager
def open_store(directory: Path, *, is_busy: bool) -> Iterator[Store]:
    """The store; where ``is_busy``, with a thread that commits to it as the engine's writer does."""
    with closing(connect(directory / "engine.db")) as db:
        db.execute(TABLE)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        store = Store(directory, db)
        done = threading.Event()
        thread = threading.Thread(target=store.write_batches, args=[done])
        if is_busy:
            thread.start()
        yield store
        done.set()
        if is_busy:
            thread.join()


@contextmanager
def log_line(store: Store) -> Iterator[Write]:
    """One write to a file that is open for appending."""
    fd = os.open(store.directory / "grants.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    yield lambda n: os.write(fd, b"[%d,%d,1,%d,1.0]\n" % (n, n << 20, n % 1000))
    os.close(fd)


@contextmanager
def commit(store: Store) -> Iterator[Write]:
    """A commit on the store's connection, taken in turn with the writer's by a lock."""

    def write(n: int) -> None:
        with store.lock:
            store.db.execute(INSERT, (n << 20, 1, 1.0, n % 1000))

    yield write


@contextmanager
def commit_otherwise(store: Store) -> Iterator[Write]:
    """A commit to the store's file on another connection: SQLite sleeps for milliseconds where the writer is first."""
    with closing(connect(store.directory / "engine.db")) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        yield lambda n: db.execute(INSERT, (n << 20, 1, 1.0, n % 1000))


@contextmanager
def commit_elsewhere(store: Store) -> Iterator[Write]:
    """A commit to a file of its own, which a thread checkpoints."""
    path = store.directory / "grants.db"
    with closing(connect(path)) as db, closing(connect(path)) as other:
        db.execute(TABLE)
        db.execute("PRAGMA wal_autocheckpoint = 0")
        done = threading.Event()

        def checkpoint() -> None:
            while not done.wait(0.5):
                other.execute("PRAGMA wal_checkpoint(PASSIVE)")

        thread = threading.Thread(target=checkpoint)
        thread.start()
        yield lambda n: db.execute(INSERT, (n << 20, 1, 1.0, n % 1000))
        done.set()
        thread.join()


def spin() -> None:
    while True:
        pass


@contextmanager
def busy_core(*, is_busy: bool) -> Iterator[None]:
    """Where ``is_busy``, another process that computes without end."""
    if not is_busy:
        yield
        return
    process = multiprocessing.get_context("spawn").Process(target=spin, daemon=True)
    process.start()
    time.sleep(0.5)
    yield
    process.kill()
    process.join()


def timed(write: Write, count: int) -> list[float]:
    """Seconds of each of ``count`` writes, begun at `RATE` a second."""
    taken = []
    begin = time.perf_counter()
    for n in range(1, count + 1):
        rest = begin + n / RATE - time.perf_counter()
        if rest > 0:
            time.sleep(rest)
        before = time.perf_counter()
        write(n)
        taken.append(time.perf_counter() - before)
    return sorted(taken)


WAYS = {
    "line of a log": log_line,
    "commit, the store's connection": commit,
    "commit, another connection": commit_otherwise,
    "commit, another file": commit_elsewhere,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grants", type=int, default=5_000, help="grants of a run")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--directory", type=Path, help="where the files are made; the default is the system's")
    given = parser.parse_args()
    print("| way | writer at work | busy core | p50 ms | p99 ms (each run) | p99.9 ms | max ms |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (name, way), writing, busy in itertools.product(WAYS.items(), (False, True), (False, True)):
        runs = []
        for _ in range(given.runs):
            with (
                tempfile.TemporaryDirectory(dir=given.directory) as directory,
                busy_core(is_busy=busy),
                open_store(Path(directory), is_busy=writing) as store,
                way(store) as write,
            ):
                runs.append(timed(write, given.grants))
        p50, p999 = (statistics.median(run[int(len(run) * part)] for run in runs) * 1e3 for part in (0.5, 0.999))
        p99 = ", ".join(f"{run[int(len(run) * 0.99)] * 1e3:.3f}" for run in runs)
        worst = max(run[-1] for run in runs) * 1e3
        yes = {False: "no", True: "yes"}
        print(f"| {name} | {yes[writing]} | {yes[busy]} | {p50:.3f} | {p99} | {p999:.2f} | {worst:.1f} |", flush=True)


if __name__ == "__main__":
    main()
