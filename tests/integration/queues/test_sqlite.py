"""The SQLite queue passes the conformance kit, and survives what happens to files."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from nullworker.queues import sqlite_jobs
from nullworker.queues.base import QueueError, TakenJob
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.killed import AtJob, take_one
from tests.integration.queues.told import check_told
from tests.kit.open_files import open_files

if TYPE_CHECKING:
    from pathlib import Path


class SqliteDriver(QueueDriver):
    """Produces and consumes as a user does."""

    abandons = True
    names_consumers = True

    def __init__(self, path: Path, lease_s: float | None = 600.0) -> None:
        directory = path.parent
        (directory / "text.db").write_text("not a database, by any means\n" * 100)
        super().__init__(
            sqlite_jobs.url(path, lease_s=lease_s),
            bad_urls=(
                "sqlite://work.db",
                f"sqlite://{directory}",
                f"sqlite://{directory}/missing/work.db",
                f"sqlite://{path}?tabel=jobs",
                f"sqlite://{path}?table=",
                f"sqlite://{directory}/text.db",
            ),
        )
        self.path = path
        self.lease_s = lease_s

    async def produce(self, count: int) -> None:
        sqlite_jobs.enqueue(self.path, [f"job {number}" for number in range(count)])

    async def produce_delayed(self, delay_s: float) -> None:
        sqlite_jobs.enqueue(self.path, ["later"], delay_s=delay_s)

    async def consume_one_start(self) -> sqlite_jobs.Job:
        job = sqlite_jobs.claim(self.path, "consumer", lease_s=self.lease_s)
        assert job is not None
        return job

    async def taken(self, job: sqlite_jobs.Job) -> TakenJob:
        return TakenJob(str(job.id), "consumer")

    async def consume_one_to_kill(self) -> AtJob:
        return await take_one("sqlite", self.path, self.lease_s)

    async def abandon(self, job: AtJob) -> None:
        await job.kill()
        with contextlib.closing(sqlite3.connect(self.path)) as db, db:  # ten minutes later
            db.execute("UPDATE jobs SET claimed_at = claimed_at - ? WHERE id = ?", (self.lease_s, job.handle))

    async def finish(self, job: sqlite_jobs.Job) -> None:
        assert sqlite_jobs.finish(self.path, job)


def files(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_it_passes_the_conformance_kit(tmp_path: Path) -> None:
    driver = SqliteDriver(tmp_path / "work.db")
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_a_file_or_table_that_is_not_there_yet_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    async with await open_queue(sqlite_jobs.url(path, "other")) as queue:
        warning = (await queue.info()).warnings[0]
        assert (warning.code, f"no file {path} yet" in warning.message) == ("missing", True)
        sqlite_jobs.enqueue(path, ["one"])
        warning = (await queue.info()).warnings[0]
        assert (warning.code, f"no table other in {path} yet" in warning.message) == ("missing", True)


async def test_a_change_is_told_when_a_delayed_job_becomes_due(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, ["soon"], delay_s=2.0)
    async with await open_queue(sqlite_jobs.url(path)) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed) == (0, 1)
        assert depth.next_due_in_s is not None
        assert 0 < depth.next_due_in_s <= 2.0
        assert await queue.changed(30)
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed) == (1, 0)


async def test_a_delayed_job_that_becomes_due_is_waiting_without_a_write(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, ["soon"], delay_s=0.2)
    async with await open_queue(sqlite_jobs.url(path)) as queue:
        for _ in range(100):
            depth = await queue.depth()
            if depth.waiting:
                break
            await asyncio.sleep(depth.next_due_in_s or 0)
        assert (depth.waiting, depth.delayed) == (1, 0)


async def test_a_file_that_another_takes_the_place_of_is_read_from_the_start(tmp_path: Path) -> None:
    path, other = tmp_path / "work.db", tmp_path / "other.db"
    for where, payloads in ((path, ["a"]), (other, ["b", "c"])):
        sqlite_jobs.enqueue(where, payloads)
    async with await open_queue(sqlite_jobs.url(path)) as queue:
        assert (await queue.depth()).waiting == 1
        other.replace(path)
        assert await queue.changed(30)
        assert (await queue.depth()).waiting == 2


async def test_a_file_that_goes_and_comes_back_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, ["a", "b"])
    async with await open_queue(sqlite_jobs.url(path)) as queue:
        assert (await queue.depth()).waiting == 2
        for path_there in files(tmp_path):
            path_there.unlink()
        assert await queue.changed(30)
        assert (await queue.depth()).waiting == 0
        sqlite_jobs.enqueue(path, ["c"])
        assert await queue.changed(30)
        assert (await queue.depth()).waiting == 1


async def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE jobs (id INTEGER, title TEXT)")
    connection.close()
    with pytest.raises(QueueError, match=r"has no column attempts, available_at, status") as error:
        await open_queue(sqlite_jobs.url(path))
    assert open_files(tmp_path) == [], f"closed, though {error!r} is kept"


async def test_a_file_locked_by_a_writer_is_read_when_the_writer_is_done(tmp_path: Path) -> None:
    """A table without WAL locks readers out during a commit; reading waits, and the event loop does not."""
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, ["a"])
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA journal_mode = DELETE")
    async with await open_queue(sqlite_jobs.url(path)) as queue:
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("UPDATE jobs SET status = 'done'")
        reading = asyncio.create_task(queue.depth())
        await asyncio.sleep(0.1)  # which the event loop comes back from, though nothing is written yet
        assert not reading.done()
        assert await queue.changed(5)  # a write is under way
        writer.execute("COMMIT")
        assert (await reading).waiting == 0
    writer.close()


async def test_a_reader_takes_no_part_in_writing(tmp_path: Path) -> None:
    """Opening a queue makes no file, and the connection it reads with cannot write."""
    path = tmp_path / "work.db"
    async with await open_queue(sqlite_jobs.url(path)) as queue:
        await queue.depth()
        assert files(tmp_path) == []
        sqlite_jobs.enqueue(path, ["a"])
        await queue.depth()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            queue._connection.execute("DELETE FROM jobs")  # type: ignore[attr-defined]  # what the test is about
