"""The table of jobs: each is claimed once, and ended only by the consumer that holds it."""

from __future__ import annotations

import contextlib
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from nullworker.queues import sqlite, sqlite_jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def test_jobs_are_claimed_in_the_order_they_came(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    ids = sqlite_jobs.enqueue(path, ["a", "b"])
    ids += sqlite_jobs.enqueue(path, ["c"])
    claimed = [sqlite_jobs.claim(path, "w") for _ in range(4)]
    assert [job and (job.id, job.payload, job.attempts) for job in claimed] == [
        (ids[0], "a", 1),
        (ids[1], "b", 1),
        (ids[2], "c", 1),
        None,
    ]


def test_many_consumers_at_once_never_get_the_same_job(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, [str(number) for number in range(40)])

    def consume(worker: str) -> list[int]:
        mine = []
        while job := sqlite_jobs.claim(path, worker):
            mine.append(job.id)
            assert sqlite_jobs.finish(path, job)
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for ids in pool.map(consume, "abcd") for job_id in ids]
    assert sorted(taken) == list(range(1, 41))
    assert sqlite_jobs.counts(path) == {"waiting": 0, "running": 0, "done": 40, "failed": 0}


def test_a_queue_that_does_not_exist_has_nothing_to_claim(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    assert sqlite_jobs.claim(path, "w") is None
    assert sqlite_jobs.requeue_stale(path) == 0
    assert sqlite_jobs.counts(path)["waiting"] == 0
    assert not path.exists()
    sqlite_jobs.create(path)
    sqlite_jobs.create(path)
    assert sqlite_jobs.claim(path, "w") is None


def test_a_job_that_was_requeued_is_not_ended_by_its_first_holder(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, ["a"])
    first = sqlite_jobs.claim(path, "first")
    assert first is not None
    assert sqlite_jobs.renew(path, first)
    assert sqlite_jobs.requeue_stale(path, older_than_s=60) == 0
    assert sqlite_jobs.requeue_stale(path, worker="another") == 0
    assert sqlite_jobs.requeue_stale(path, worker="first") == 1
    second = sqlite_jobs.claim(path, "second")
    assert second is not None
    assert second.attempts == 2
    assert not sqlite_jobs.renew(path, first)
    assert not sqlite_jobs.finish(path, first)
    assert not sqlite_jobs.fail(path, first)
    assert sqlite_jobs.finish(path, second)
    assert not sqlite_jobs.finish(path, second)


def test_a_failed_job_is_kept_or_put_back(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, ["a"])
    job = sqlite_jobs.claim(path, "w")
    assert job is not None
    assert sqlite_jobs.fail(path, job, "try again", retry_in_s=0)
    job = sqlite_jobs.claim(path, "w")
    assert job is not None
    assert sqlite_jobs.fail(path, job, "no memory")
    assert sqlite_jobs.counts(path)["failed"] == 1
    connection = sqlite3.connect(path)
    row = connection.execute("SELECT error, attempts, finished_at > enqueued_at FROM jobs").fetchone()
    connection.close()
    assert row == ("no memory", 2, 1)


def test_other_programs_may_insert_a_payload_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "work.db"
    table = 'odd "name"'
    sqlite_jobs.create(path, table)
    connection = sqlite3.connect(path)
    connection.execute('INSERT INTO "odd ""name""" (payload) VALUES (?)', ("by hand",))
    connection.commit()
    connection.close()
    job = sqlite_jobs.claim(path, "w", table=table)
    assert job is not None
    assert job.payload == "by hand"


def test_payloads_are_added_all_or_none(tmp_path: Path) -> None:
    path = tmp_path / "work.db"

    sqlite_jobs.create(path)

    def payloads() -> Iterator[str]:
        yield "a"
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        sqlite_jobs.enqueue(path, payloads())
    assert sqlite_jobs.counts(path)["waiting"] == 0


def test_the_url_of_a_path_with_odd_characters_leads_back_to_it(tmp_path: Path) -> None:
    url = sqlite_jobs.url(tmp_path / "a b?c#d%.db", "t&u")
    assert url == f"sqlite://{tmp_path}/a%20b%3Fc%23d%25.db?table=t%26u"


@pytest.mark.parametrize("back_s", [3_600.0, 86_400.0 * 30])
async def test_a_job_without_a_delay_is_due_after_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_s: float
) -> None:
    """Also one that another language's statement added."""
    path = tmp_path / "work.db"
    sqlite_jobs.enqueue(path, ["a"])
    sqlite_jobs.enqueue(path, ["later"], delay_s=60.0)
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("INSERT INTO jobs (payload) VALUES ('b')")
    past = sqlite_jobs._now() - back_s
    monkeypatch.setattr(sqlite_jobs, "_now", lambda: past)
    monkeypatch.setattr(sqlite, "_now", lambda: past)
    async with await sqlite.SqliteQueue.open(sqlite_jobs.url(path)) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed) == (2, 1)
    claimed = [sqlite_jobs.claim(path, "w") for _ in range(3)]
    assert [job and job.payload for job in claimed] == ["a", "b", None]
