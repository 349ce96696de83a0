"""The dispatcher with real parts: an SQLite queue, consumers, workers, an engine; and all that may end under it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from nullworker.queues import sqlite_jobs
from tests.integration.dispatch.kit import Farm, check_peak, check_runs, dispatching, farm, peak, python
from tests.kit.waiting import until


def enqueue(file: Path, count: int, seconds: float, prefix: str = "job") -> list[str]:
    """Puts jobs into the queue; returns their names."""
    names = [f"{prefix}-{number}" for number in range(count)]
    sqlite_jobs.enqueue(file, [f"{name} {seconds:g}" for name in names])
    return names


def done(file: Path) -> int:
    return sqlite_jobs.counts(file)["done"]


def consumer(file: Path) -> list[str]:
    """Takes one job, and ends."""
    return python("sqlite_consumer.py", str(file), "1")


async def test_from_zero_and_back_with_one_reservation_for_each_job(tmp_path: Path) -> None:
    """Twelve jobs, four at a time: each once, on a held worker. Then the dispatcher ends, and the workers go."""
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 12, 0.2)
    async with farm(tmp_path, consumer(file)) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--until-empty") as dispatcher:
            assert await dispatcher.wait() == 0, dispatcher.tail()
        await until(lambda: not running.held, "no worker is held")
        await until(lambda: not running.workers, "all workers have gone")
        check_runs(running.runs(), jobs)
        check_peak(running, 4)
        assert len(running.sessions()) <= len(jobs) + 4  # a consumer that comes late finds nothing
        assert {said["want"] for said in dispatcher.said} <= {None, 0, 1, 2, 3, 4}


@pytest.mark.long
async def test_once_steady_there_are_as_many_reservations_as_jobs(tmp_path: Path) -> None:
    """More jobs, more reservations; those of jobs that are done end, and no others."""
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 2, 9, "long")
    async with farm(tmp_path, consumer(file), most=6) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), most=6) as dispatcher:
            for expected, more in ((2, 2), (4, 0), (4, 0)):
                await until(lambda n=expected: sqlite_jobs.counts(file)["running"] == n, f"{expected} run")  # type: ignore[misc]  # as in kit
                await until(lambda n=expected: running.held == n, f"{expected} are held")  # type: ignore[misc]
                jobs += enqueue(file, more, 4, "short")
            await until(lambda: done(file) == 4, "all are done")
            await until(lambda: not running.held, "all reservations are over")
            assert dispatcher.stop() == 130
        check_runs(running.runs(), jobs)
        assert len(running.sessions()) == 4
        assert running.server is not None
        costs = running.server.costs
        await until(lambda: {label.job for label in costs.labels.values()} == set(jobs), "each job is told")
        assert {label.queue for label in costs.labels.values()} == {sqlite_jobs.url(file)}
        view = await costs.costs("job", 0.0, lambda _: "gpu")
        held = {row.name: row.held_s for row in view.rows}
        assert all(held[job] >= (9 if job.startswith("long") else 4) for job in jobs)


@pytest.mark.long
async def test_a_dispatcher_that_is_killed_leaves_its_reservations_to_the_next(tmp_path: Path) -> None:
    """Killed again and again: no job is lost or done twice, and never more than four workers are held."""
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 40, 0.5)
    async with farm(tmp_path, consumer(file), most=8) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--until-empty") as dispatcher:
            await dispatcher.kill_at(lambda: done(file), 3, 9, 16, 24)
            assert await dispatcher.wait() == 0, dispatcher.tail()
        check_runs(running.runs(), jobs)
        check_peak(running, 4)
        assert "are adopted" in dispatcher.log.read_text()


async def test_ctrl_c_ends_no_job_and_the_next_start_takes_over(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 3, 4)
    async with farm(tmp_path, consumer(file), most=2) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--until-empty") as dispatcher:
            await until(lambda: sqlite_jobs.counts(file)["running"] == 2, "two jobs run")
            assert dispatcher.stop() == 130
            assert "2 reservations stay held" in dispatcher.log.read_text()
            await until(lambda: not running.waiting, "no request waits any more")
            dispatcher.start()
            await until(
                lambda: "2 reservations of an earlier dispatcher" in dispatcher.log.read_text(), "they are adopted"
            )
            assert await dispatcher.wait() == 0, dispatcher.tail()
        check_runs(running.runs(), jobs)
        check_peak(running, 2)


async def test_a_second_dispatcher_of_the_same_queue_refuses(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    enqueue(file, 1, 0.1)
    async with farm(tmp_path, consumer(file)) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file)) as first:
            await until(lambda: done(file) == 1, "the job is done")
            with dispatching(running, tmp_path, sqlite_jobs.url(file)) as second:
                assert await second.wait() == 1
            assert "Another dispatcher serves gpu sqlite://" in first.log.read_text()
            assert "Traceback" not in first.log.read_text()


async def test_a_killed_worker_costs_its_job_no_more_than_a_second_try(tmp_path: Path) -> None:
    """The reservation is over at once, without a notice; what the broker gives away again gets a new one."""
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 3, 2.5)
    async with farm(tmp_path, consumer(file)) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--until-empty") as dispatcher:
            await until(lambda: sqlite_jobs.counts(file)["running"] == 3, "three jobs run")
            lost = running.runs()[0]
            os.kill(worker_of(running, lost.session), signal.SIGKILL)
            await until(lambda: sqlite_jobs.counts(file)["running"] == 1, "the others are done")
            await until(lambda: dispatcher.last["held"] == 0, "all three reservations are over")
            await asyncio.sleep(2)
            assert len(running.sessions()) == 3  # a job in flight without a consumer is no reason for another
            assert sqlite_jobs.requeue_stale(file, worker=lost.session) == 1
            assert await dispatcher.wait() == 0, dispatcher.tail()
        runs = running.runs()
        assert [run.job for run in runs if run.ended_at is None] == [lost.job]
        check_runs([run for run in runs if run.ended_at is not None], jobs)


def worker_of(running: Farm, session: str) -> int:
    """The process id of the worker that holds a session."""
    workers = running.worker_pids()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"NULL_SESSION_ID={session}".encode() in (process / "environ").read_bytes():
                grandparent = parent_of(parent_of(int(process.name)))  # the guard is in between
                if grandparent in workers:
                    return grandparent
    raise AssertionError(f"no worker runs a consumer for {session}")


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_the_engine_is_restarted_under_it(tmp_path: Path) -> None:
    """Jobs go on, reservations are kept, and what waits gets a worker afterwards."""
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 16, 0.5)
    async with farm(tmp_path, consumer(file), most=3) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--until-empty") as dispatcher:
            await until(lambda: done(file) >= 3, lambda: f"three jobs are done: {dispatcher.tail()}")
            await running.stop()
            await asyncio.sleep(1)
            await running.start()
            assert await dispatcher.wait() == 0, dispatcher.tail()
        check_runs(running.runs(), jobs)
        check_peak(running, 4)


async def test_an_engine_that_is_down_at_the_start_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 2, 0.1)
    async with farm(tmp_path, consumer(file)) as running:
        await running.stop()
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--until-empty") as dispatcher:
            await until(lambda: "does not answer" in str(dispatcher.last.get("trouble")), "the dispatcher says so")
            await running.start()
            assert await dispatcher.wait() == 0, dispatcher.tail()
        check_runs(running.runs(), jobs)
        assert dispatcher.log.read_text().count("does not answer") == 1


async def test_what_is_no_longer_wanted_is_withdrawn_while_it_waits(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    enqueue(file, 4, 60)  # longer than a slow machine takes to the end of the test
    async with farm(tmp_path, consumer(file), most=1) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file)) as dispatcher:
            await until(
                lambda: [dispatcher.last.get(what) for what in ("held", "in_flight", "asked")] == [1, 1, 3],
                "one has a worker, whose consumer has its job",
            )
            with sqlite3.connect(file) as table:
                table.execute("DELETE FROM jobs WHERE status = 'waiting'")
            table.close()
            await until(lambda: dispatcher.last.get("asked") == 0, "those who wait have gone")
            assert running.held == 1
            assert dispatcher.last["held"] == 1


async def test_a_reservation_without_keepalives_ends_with_its_lifetime(tmp_path: Path) -> None:
    """The dispatcher is gone for good, the consumer hangs: the worker frees itself."""
    file = tmp_path / "jobs.db"
    enqueue(file, 1, 600)
    lifetime_s = 5.0
    async with farm(tmp_path, consumer(file)) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--lifetime", f"{lifetime_s:g}") as dispatcher:
            await until(lambda: running.runs() != [], "the job runs")
            dispatcher.kill()
            # Long before the job would end: within five thirds of a lifetime, and the 5 s in which the framework looks.
            await until(lambda: all(s.closed_at < float("inf") for s in running.sessions()), "the session closes")
            assert len(running.sessions()) == 1


@pytest.mark.long
async def test_consumers_that_never_end_are_ended_when_idle_where_that_is_asked_for(tmp_path: Path) -> None:
    """And not before: while a job is in flight, no worker counts as idle."""
    file = tmp_path / "jobs.db"
    jobs = enqueue(file, 2, 5)
    command = python("sqlite_consumer.py", str(file), "forever")
    async with farm(tmp_path, command) as running:
        with dispatching(running, tmp_path, sqlite_jobs.url(file), "--end-idle", "2", "--until-empty") as dispatcher:
            assert await dispatcher.wait() == 0, dispatcher.tail()
        runs = running.runs()
        check_runs(runs, jobs)
        assert len(running.sessions()) == 2
        last = max(run.ended_at or 0.0 for run in runs)
        assert all(session.closed_at >= last + 2 for session in running.sessions())


@pytest.mark.long  # the how-to of it is tried each time
async def test_a_limit_on_money_stops_opening_and_ends_nothing(tmp_path: Path) -> None:
    """A worker at 3600 an hour costs one a second; after four, what is held goes on and nothing else begins."""
    file = tmp_path / "jobs.db"
    enqueue(file, 6, 3)
    async with farm(tmp_path, consumer(file), most=2) as running:
        flags = ("--price", "3600", "--max-daily", "4", "--history", str(tmp_path / "history.csv"))
        with dispatching(running, tmp_path, sqlite_jobs.url(file), *flags, most=2) as dispatcher:
            await until(
                lambda: "--max-daily is 4" in str(dispatcher.last.get("reason")), "the limit is reached and said"
            )
            await until(lambda: dispatcher.last.get("held") == 0, "what was held has ended by itself")
            await asyncio.sleep(2)
            assert (dispatcher.last["asked"], dispatcher.last["held"]) == (0, 0)
            counts = sqlite_jobs.counts(file)
            assert counts["running"] == 0
            assert counts["done"] in (2, 3, 4)
            dispatcher.stop()
        assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + counts["done"]
        assert peak([(run.began_at, run.ended_at or 0) for run in running.runs()]) <= 2
