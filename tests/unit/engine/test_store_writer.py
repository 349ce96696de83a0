from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nullworker.engine import store_writer
from nullworker.engine.decisions import Decision
from nullworker.engine.store_file import connect, open_store_file
from nullworker.engine.store_writer import Pending, StoreWriter
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    open_store_file(tmp_path / "engine.db")
    return tmp_path / "engine.db"


@pytest.fixture
def writer(path: Path) -> Iterator[StoreWriter]:
    writer = StoreWriter(connect(path))
    yield writer
    writer.close()


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(connect(path)) as db:
        return db.execute(query).fetchall()


def worker_row(worker_id: int, url: str = "") -> tuple[object, ...]:
    return (worker_id, 1, "ready", url, 100.0, True, "", False, "[]", "[]", "[]")


def test_what_is_left_is_written_by_itself(writer: StoreWriter, path: Path) -> None:
    """Without a flush: a callback tells when it is done."""
    written = threading.Event()
    with writer.lock:
        writer.leave("workers", 1, worker_row(1))
        writer._pending.when_written.append(written.set)
    assert written.wait(60)
    assert len(rows(path, "SELECT * FROM workers")) == 1


def test_the_last_word_on_a_row_counts(writer: StoreWriter, path: Path) -> None:
    with writer.lock:
        writer.leave("workers", 1, worker_row(1, "first"))
        writer.leave("workers", 1, worker_row(1, "second"))
        writer.leave("workers", 2, worker_row(2))
        writer.leave("workers", 2, None)
    assert writer.flush()
    assert rows(path, "SELECT id, url FROM workers") == [(1, "second")]
    writer.leave("workers", 1, None)
    assert writer.flush()
    assert rows(path, "SELECT id FROM workers") == []


def test_what_belongs_together_is_written_together(writer: StoreWriter, path: Path) -> None:
    """A reader sees both rows of each pair or neither, however the writer's turns fall."""
    done = threading.Event()

    def leave_pairs() -> None:
        for number in range(1, 2_001):
            with writer.lock:
                writer.leave("workers", 1, worker_row(1, str(number)))
                writer.leave("workers", 2, worker_row(2, str(number)))
        done.set()

    thread = threading.Thread(target=leave_pairs)
    thread.start()
    seen = 0
    while not done.is_set() or seen == 0:
        found = rows(path, "SELECT url FROM workers")
        assert len(set(found)) <= 1
        seen += len(found)
    thread.join()


def test_a_flood_is_written_whole(writer: StoreWriter, path: Path) -> None:
    for number in range(5_000):
        writer.leave("workers", number, worker_row(number))
        writer.add_usage(number % 3, "ready", 1.0)
    assert writer.flush()
    assert rows(path, "SELECT count(*) FROM workers") == [(5_000,)]
    assert rows(path, "SELECT sum(seconds) FROM usage") == [(5_000.0,)]


def test_the_record_of_decisions_is_bounded(writer: StoreWriter, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_writer, "DECISIONS_KEPT", 500)
    for number in range(2_500):
        writer.add_decision(Decision(1.0, number, "grant", 1, 1, number, "load", "because"))
    assert writer.flush()
    # It is trimmed once there are a thousand more.
    assert rows(path, "SELECT count(*) BETWEEN 500 AND 1499, max(event_number) FROM decisions") == [(1, 2_499)]


def test_one_row_that_cannot_be_kept_costs_no_other(
    writer: StoreWriter, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writer.lock:
        for number in (1, 2, 3):
            writer.leave("workers", number, worker_row(number, "\ud800" if number == 2 else "fine"))
        writer.leave("workers", 4, (2**70, 1, "ready", "", 100.0, True, "", False, "[]", "[]", "[]"))
        writer.leave("workers", 5, (5, None, "ready", "", 100.0, True, "", False, "[]", "[]", "[]"))
        writer.add_decision(Decision(1.0, 1, "grant", 1, 1, 1, "load", "because"))
    assert writer.flush()
    assert rows(path, "SELECT id FROM workers") == [(1,), (3,)]
    assert rows(path, "SELECT count(*) FROM decisions") == [(1,)]
    assert caplog.text.count("a row cannot be kept") == 3
    writer.leave("workers", 6, worker_row(6))
    assert writer.flush()
    assert rows(path, "SELECT count(*) FROM workers") == [(3,)]


def test_close_writes_what_is_left(path: Path) -> None:
    writer = StoreWriter(connect(path))
    writer.leave("workers", 1, worker_row(1))
    writer.close()
    assert rows(path, "SELECT id FROM workers") == [(1,)]
    assert not writer.flush()


def test_what_was_refused_takes_no_newer_words_place(writer: StoreWriter, path: Path) -> None:
    """While a refused batch was on its way back, newer rows and decisions were left."""
    refused = Pending()
    refused.rows["workers", 1] = worker_row(1, "older")
    refused.rows["workers", 2] = worker_row(2, "older")
    refused.decisions.append(Decision(1.0, 1, "grant", 1, 1, 1, "load", "older"))
    refused.usage[1, "ready"] = 1.0
    with writer.lock:
        writer.leave("workers", 1, worker_row(1, "newer"))
        writer.add_decision(Decision(1.0, 2, "grant", 1, 1, 1, "load", "newer"))
        writer.add_usage(1, "ready", 2.0)
        writer._put_back(refused)
    assert writer.flush()
    assert rows(path, "SELECT id, url FROM workers ORDER BY id") == [(1, "newer"), (2, "older")]
    assert rows(path, "SELECT reason FROM decisions ORDER BY seq") == [("older",), ("newer",)]
    assert rows(path, "SELECT seconds FROM usage") == [(3.0,)]


def test_what_is_written_now_takes_the_place_of_what_waits(writer: StoreWriter, path: Path) -> None:
    with writer.lock:
        writer.leave("workers", 1, worker_row(1, "older"))
    writer.write_now([("workers", 1, worker_row(1, "now")), ("workers", 2, worker_row(2, "now"))])
    assert rows(path, "SELECT id, url FROM workers ORDER BY id") == [(1, "now"), (2, "now")]
    assert writer.flush()
    assert rows(path, "SELECT url FROM workers") == [("now",), ("now",)]
    writer.leave("workers", 1, worker_row(1, "newer"))
    assert writer.flush()
    assert rows(path, "SELECT url FROM workers WHERE id = 1") == [("newer",)]


def test_what_is_written_now_waits_where_the_disk_refuses(writer: StoreWriter, path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        writer._db.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        writer.write_now([("workers", 1, worker_row(1))])
        assert writer.error == "database is locked"
        other.execute("ROLLBACK")
    assert writer.flush(60)
    assert rows(path, "SELECT id FROM workers") == [(1,)]
    assert writer.error == ""


@pytest.fixture
def idle_writer(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreWriter]:
    """Its thread writes nothing by itself before the test ends."""
    monkeypatch.setattr(store_writer, "COMMIT_PERIOD_S", 600.0)
    writer = StoreWriter(connect(path))
    yield writer
    writer.close()


def test_a_little_is_written_when_the_call_returns(idle_writer: StoreWriter, path: Path) -> None:
    idle_writer.leave("workers", 1, worker_row(1))
    idle_writer.add_decision(Decision(1.0, 1, "grant", 1, 1, 1, "load", "one"))
    idle_writer.write_little()
    idle_writer.write_little()
    assert rows(path, "SELECT id FROM workers") == [(1,)]
    assert rows(path, "SELECT reason FROM decisions") == [("one",)]


async def test_the_thread_writes_the_next_row_after_it_was_woken_for_one_that_a_caller_wrote(
    writer: StoreWriter, path: Path
) -> None:
    for number in range(1, 11):
        with writer.lock:  # so that the thread finds nothing when it wakes
            writer.leave("workers", number, worker_row(number))
            writer.write_little()
        await until(lambda: writer.lock._waiters, "the thread never waits again")  # type: ignore[attr-defined]
        writer.leave("workers", 100, worker_row(100, f"http://{number}"))
        query = f"SELECT id FROM workers WHERE url = 'http://{number}'"
        await until(lambda: rows(path, query), "the row is never written", hang_s=10)  # noqa: B023 - called at once


def test_more_than_a_little_is_left_to_the_thread(idle_writer: StoreWriter, path: Path) -> None:
    for number in range(store_writer.LITTLE + 1):
        idle_writer.leave("workers", number, worker_row(number))
    idle_writer.write_little()
    assert rows(path, "SELECT id FROM workers") == []
    assert idle_writer.flush()
    assert len(rows(path, "SELECT id FROM workers")) == store_writer.LITTLE + 1


def test_a_little_waits_while_another_commit_is_under_way(idle_writer: StoreWriter, path: Path) -> None:
    idle_writer.leave("workers", 1, worker_row(1))
    with idle_writer._committing:
        idle_writer.write_little()
    assert rows(path, "SELECT id FROM workers") == []
    idle_writer.write_little()
    assert rows(path, "SELECT id FROM workers") == [(1,)]


def test_a_little_that_the_disk_refuses_is_tried_by_the_thread_alone(idle_writer: StoreWriter, path: Path) -> None:
    idle_writer.leave("workers", 1, worker_row(1))
    with closing(sqlite3.connect(path)) as other:
        idle_writer._db.execute("PRAGMA busy_timeout = 0")
        other.execute("BEGIN IMMEDIATE")
        idle_writer.write_little()
        assert idle_writer.error == "database is locked"
        other.execute("ROLLBACK")
    idle_writer.write_little()
    assert rows(path, "SELECT id FROM workers") == []
    assert idle_writer.flush(60)
    assert rows(path, "SELECT id FROM workers") == [(1,)]


def test_the_log_of_sqlite_is_cut_while_grants_are_written_all_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_writer, "CHECKPOINT_ROWS", 50)
    monkeypatch.setattr(store_writer, "LOG_PAGES_MAX", 100)
    writer = StoreWriter(connect(path))
    for number in range(1, 2_001):
        writer.write_now([("workers", number, worker_row(number))])
        if number % 100 == 0:
            writer.leave("workers", 1, worker_row(1))
            assert writer.flush()
    pages = path.with_name("engine.db-wal").stat().st_size // 4096
    writer.close()
    assert pages < 1_000  # of 2,000 or more that were written
    assert rows(path, "SELECT count(*) FROM workers") == [(2_000,)]


FULL_DISK = """
import pathlib, resource, sys
from nullworker.engine.store_file import connect
from nullworker.engine.store_writer import StoreWriter

_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
writer = StoreWriter(connect(pathlib.Path(sys.argv[1])))
resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
writer.leave("workers", 1, (1, 1, "ready", "x" * 50_000, 100.0, True, "", False, "[]", "[]", "[]"))
while not writer.error:
    assert not writer.flush(0.1)
writer.leave("workers", 1, (1, 1, "ready", "newer", 100.0, True, "", False, "[]", "[]", "[]"))
writer.leave("workers", 2, (2, 1, "ready", "", 100.0, True, "", False, "[]", "[]", "[]"))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
assert writer.flush(60)
assert not writer.error
writer.close()
"""


def test_a_disk_that_is_full_for_a_while_loses_nothing(path: Path) -> None:
    """A real refusal, by the kernel's limit on file sizes, in a process of its own."""
    subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], check=True, timeout=100)
    assert rows(path, "SELECT id, url FROM workers") == [(1, "newer"), (2, "")]
