"""The procrastinate adapter against real workers of procrastinate: what it counts, and what it must not count."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import procrastinate
import pytest
import pytest_asyncio

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.postgres import PASSWORD, USER, Postgres, postgres_server
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.queues.base import Queue

QUEUE = "render"
EXAMPLE = Path(__file__).parents[3] / "examples" / "procrastinate_app.py"
HANG_LIMIT_S = 20
HEARTBEAT_S = 3600  # a worker of the tests has one heartbeat, so that it can be dead by the next statement


@dataclass
class Running:
    """A worker that is at one job until `finish`."""

    worker: asyncio.Task[None]
    release: asyncio.Event


class ProcrastinateDriver(QueueDriver):
    """An app with one task, which runs until it is told to end; each worker first retries what is stalled."""

    abandons = True

    def __init__(self, server: Postgres, database: str, app: procrastinate.App) -> None:
        super().__init__(
            server.url("procrastinate", database, f"queue={QUEUE}&retries_stalled=true"),
            secret=PASSWORD,
            bad_urls=(
                server.url("procrastinate", database),
                server.url("procrastinate", database, "queue="),
                server.url("procrastinate", database, f"queue={QUEUE}&stalled_s=soon"),
                server.url("procrastinate", database, f"queue={QUEUE}&retries_stalled=perhaps"),
                server.url("procrastinate", database, f"queue={QUEUE}&sslmode=perhaps"),
                server.url("procrastinate", database, f"queue={QUEUE}&queues=2"),
                server.url("procrastinate", "nowhere", f"queue={QUEUE}"),
                f"procrastinate://{USER}:wrong-{PASSWORD}@127.0.0.1:{server.port}/{database}?queue={QUEUE}",
                f"procrastinate://{USER}:{PASSWORD}@127.0.0.1:1/{database}?queue={QUEUE}",
                f"procrastinate://{USER}:{PASSWORD}@127.0.0.1:port/{database}?queue={QUEUE}",
            ),
        )
        self.app = app
        self.started: asyncio.Queue[asyncio.Event] = asyncio.Queue()

        @app.task(queue=QUEUE, name="render", pass_context=False)
        async def render() -> None:
            release = asyncio.Event()
            await self.started.put(release)
            await release.wait()

        self.task = render

    async def produce(self, count: int) -> None:
        for _ in range(count):
            await self.task.defer_async()

    async def produce_delayed(self, delay_s: float) -> None:
        await self.task.configure(schedule_in={"seconds": int(delay_s)}).defer_async()

    async def consume_one_start(self) -> Running:
        for job in await self.app.job_manager.get_stalled_jobs(queue=QUEUE):
            await self.app.job_manager.retry_job(job)
        worker = asyncio.create_task(
            self.app.run_worker_async(
                queues=[QUEUE],
                concurrency=1,
                listen_notify=False,  # a worker that listens takes 5 s to end
                fetch_job_polling_interval=0.05,
                update_heartbeat_interval=HEARTBEAT_S,
                install_signal_handlers=False,
            )
        )
        release = await asyncio.wait_for(self.started.get(), HANG_LIMIT_S)
        return Running(worker, release)

    async def finish(self, job: Running) -> None:
        job.worker.cancel()  # the worker takes no other job, and ends when this one is done
        job.release.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(job.worker, HANG_LIMIT_S)

    async def abandon(self, job: Running) -> None:
        assert not job.worker.done()  # it stays at its job, as far as the tables show
        await self.silence()

    async def silence(self) -> None:
        """Lets 31 s go by, as far as the workers' heartbeats are concerned."""
        silence = "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds'"
        await self.app.connector.execute_query_async(silence)


@contextlib.asynccontextmanager
async def made_driver(
    server: Postgres, kind: type[ProcrastinateDriver] = ProcrastinateDriver
) -> AsyncIterator[ProcrastinateDriver]:
    database = server.create_database()
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=server.dsn(database)))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        yield kind(server, database, app)


@pytest_asyncio.fixture
async def driver(postgres: Postgres) -> AsyncIterator[ProcrastinateDriver]:
    async with made_driver(postgres) as made:
        yield made


async def test_it_passes_the_conformance_kit(driver: ProcrastinateDriver) -> None:
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def depth_of(queue: Queue) -> tuple[int, int | None, int, int]:
    depth = await queue.depth()
    return (depth.waiting, depth.in_flight, depth.delayed, depth.redelivered)


async def codes(queue: Queue) -> dict[str, str]:
    return {warning.code: warning.message for warning in (await queue.info()).warnings}


async def test_jobs_behind_a_lock_are_delayed_until_it_is_free(driver: ProcrastinateDriver) -> None:
    """Of 3 jobs on one lock, 2 on another and 1 without, 3 can run at the same time, and no more than that."""
    for lock, count in (("a", 3), ("b", 2), (None, 1)):
        for _ in range(count):
            await driver.task.configure(lock=lock).defer_async()
    async with await open_queue(driver.url) as queue:
        assert await depth_of(queue) == (3, 0, 3, 0)
        assert "6" not in (await codes(queue))["serialised"]
        assert "5 waiting job(s) share 2 lock(s)" in (await codes(queue))["serialised"]
        first = await driver.consume_one_start()  # holds lock a
        assert await depth_of(queue) == (2, 1, 3, 0)
        await driver.finish(first)
        assert await depth_of(queue) == (3, 0, 2, 0)


async def test_a_lock_held_in_another_queue_counts(driver: ProcrastinateDriver) -> None:
    """Locks hold across queues: a job whose lock is first in another queue waits for that one."""
    await driver.task.configure(lock="shared", queue="elsewhere").defer_async()
    await driver.task.configure(lock="shared").defer_async()
    async with await open_queue(driver.url) as queue:
        assert await depth_of(queue) == (0, 0, 1, 0)


async def test_a_scheduled_job_holds_up_its_lock(driver: ProcrastinateDriver) -> None:
    """The first job of a lock, due later, keeps those behind it: procrastinate does not let them overtake."""
    await driver.task.configure(lock="a", schedule_in={"seconds": 500}).defer_async()
    await driver.task.configure(lock="a").defer_async()
    async with await open_queue(driver.url) as queue:
        assert await depth_of(queue) == (0, 0, 2, 0)
        assert (await driver.app.job_manager.fetch_job(queues=[QUEUE], worker_id=await a_worker(driver))) is None
        await driver.task.configure(lock="a", priority=1).defer_async()  # overtakes by its priority
        assert await depth_of(queue) == (1, 0, 2, 0)


async def a_worker(driver: ProcrastinateDriver) -> int:
    return await driver.app.job_manager.register_worker()


async def test_a_stalled_job_is_not_in_flight(driver: ProcrastinateDriver) -> None:
    """Unless its consumers retry such jobs, it calls for none: procrastinate does not; --check tells of it."""
    await driver.produce(2)
    worker = await a_worker(driver)
    for _ in range(2):
        assert await driver.app.job_manager.fetch_job(queues=[QUEUE], worker_id=worker)
    bare = driver.url.partition("&")[0]
    async with await open_queue(bare) as queue, await open_queue(driver.url) as retried:
        assert await depth_of(queue) == (0, 2, 0, 0)
        assert (await queue.depth()).exact
        await driver.silence()
        assert await depth_of(queue) == await depth_of(retried) == (0, 0, 0, 2)
        assert ((await queue.depth()).abandoned, (await retried.depth()).abandoned) == (0, 2)
        assert "&retries_stalled=true" in (await codes(queue))["stalled"]
        assert "&retries_stalled=true" not in (await codes(retried))["stalled"]
        assert not (await queue.depth()).exact, "a worker may be at work without a heartbeat"
        assert "2 job(s)" in (await codes(queue))["stalled"]
        async with await open_queue(driver.url + "&stalled_s=600") as patient:
            assert await depth_of(patient) == (0, 2, 0, 0)
            await driver.app.job_manager.prune_stalled_workers(30)
            assert await depth_of(patient) == (0, 0, 0, 2)


async def test_the_job_of_a_consumer_that_was_killed_is_done_by_the_next(postgres: Postgres) -> None:
    """With the example, which retries what is stalled when it starts."""
    database = postgres.create_database()
    environment = {**os.environ, "DATABASE_URL": postgres.dsn(database), "NULL_SESSION_ID": "1"}

    async def at_work() -> asyncio.subprocess.Process:
        pipe = asyncio.subprocess.PIPE
        consumer = await asyncio.create_subprocess_exec(sys.executable, EXAMPLE, env=environment, stdout=pipe)
        begun = "SELECT 1 FROM procrastinate_jobs WHERE status IN ('doing', 'succeeded')"
        while not postgres.execute(database, begun):  # noqa: ASYNC110 - it begins in its own time
            await asyncio.sleep(0.02)
        return consumer

    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=postgres.dsn(database)))
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await app.configure_task("render", queue="gpu", allow_unknown=True).defer_async(frame="lone", seconds=60)
    async with await open_queue(postgres.url("procrastinate", database, "queue=gpu&retries_stalled=true")) as queue:
        assert (await queue.depth()).waiting == 1
        consumer = await at_work()
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 1, 0)
        consumer.kill()
        await consumer.wait()
        postgres.execute(database, "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '31 seconds'")
        postgres.execute(database, "UPDATE procrastinate_jobs SET args = args || '{\"seconds\": 0}'")
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 0, 1)
        out, _ = await asyncio.wait_for((await at_work()).communicate(), HANG_LIMIT_S)
        assert out == b"rendered lone\n"
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 0, 0)


async def test_other_queues_are_not_counted_and_are_read_together(driver: ProcrastinateDriver) -> None:
    """Readings of several queues at once are right for each of them."""
    for number in range(5):
        for _ in range(number):
            await driver.task.configure(queue=f"q{number}").defer_async()
    queues = [await open_queue(driver.url.replace(f"queue={QUEUE}", f"queue=q{number}")) for number in range(5)]
    try:
        depths = await asyncio.gather(*(queue.depth() for queue in queues for _ in range(3)))
        assert [depth.waiting for depth in depths] == [number for number in range(5) for _ in range(3)]
    finally:
        for queue in queues:
            await queue.close()


async def test_many_queues_of_a_database_share_two_connections(driver: ProcrastinateDriver, postgres: Postgres) -> None:
    queues = [await open_queue(driver.url.replace(f"queue={QUEUE}", f"queue=q{number}")) for number in range(30)]
    count = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE application_name = 'nullworker'"
    assert postgres.execute("postgres", count) == [{"n": 2}]
    for queue in queues:
        await queue.close()
    while postgres.execute("postgres", count) != [{"n": 0}]:  # noqa: ASYNC110 - the server notices in its own time
        await asyncio.sleep(0.02)


async def test_connections_that_the_server_ends_are_made_again(driver: ProcrastinateDriver, postgres: Postgres) -> None:
    """Reading goes on as if nothing had happened, and who waits for a change is woken, for one may have been missed."""
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nullworker'"
    async with await open_queue(driver.url) as queue:
        await driver.produce(1)
        assert await queue.changed(HANG_LIMIT_S)
        waiting = asyncio.create_task(queue.changed(HANG_LIMIT_S * 10))
        assert not (await asyncio.wait({waiting}, timeout=0.1))[0]
        await asyncio.to_thread(postgres.execute, "postgres", end)
        assert await asyncio.wait_for(waiting, HANG_LIMIT_S)
        assert await depth_of(queue) == (1, 0, 0, 0)
        while await queue.changed(0.1):
            pass
        await driver.produce(1)
        assert await queue.changed(HANG_LIMIT_S)


async def test_tables_in_another_schema_are_found_by_name(postgres: Postgres) -> None:
    database = postgres.create_database()
    postgres.execute(database, "CREATE SCHEMA jobs")
    connector = procrastinate.PsycopgConnector(
        conninfo=postgres.dsn(database), kwargs={"options": "-c search_path=jobs"}
    )
    app = procrastinate.App(connector=connector)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await app.configure_task("render", queue=QUEUE, allow_unknown=True).defer_async()
    url = postgres.url("procrastinate", database, f"queue={QUEUE}")
    async with await open_queue(url + "&schema=jobs") as queue:
        assert await depth_of(queue) == (1, 0, 0, 0)
        assert not await codes(queue)
    async with await open_queue(url) as queue:
        assert await depth_of(queue) == (0, 0, 0, 0)
        assert "missing" in await codes(queue)


async def test_an_older_schema_is_an_error_and_no_zero(postgres: Postgres) -> None:
    """Before 3.1 there was no table of workers; a queue that cannot be read there must not look empty."""
    database = postgres.create_database()
    postgres.execute(
        database,
        "CREATE TABLE procrastinate_jobs (id bigserial, queue_name text, status text, lock text, priority int,"
        " scheduled_at timestamptz)",
    )
    with pytest.raises(QueueError, match=r"older version: apply procrastinate's migrations"):
        await open_queue(postgres.url("procrastinate", database, f"queue={QUEUE}"))


async def test_a_user_without_rights_is_told_which(driver: ProcrastinateDriver, postgres: Postgres) -> None:
    database = driver.url.rpartition("/")[2].partition("?")[0]
    postgres.execute(database, f"CREATE USER reader_{database} PASSWORD 'x'")
    url = f"procrastinate://reader_{database}:x@127.0.0.1:{postgres.port}/{database}?queue={QUEUE}"
    with pytest.raises(QueueError, match=r"permission denied for .*; grant this user .*\.$"):
        await open_queue(url)


class MortalDriver(ProcrastinateDriver):
    """With a server of its own, which can be stopped."""

    breaks = True

    def __init__(self, server: Postgres, database: str, app: procrastinate.App) -> None:
        super().__init__(server, database, app)
        self.bad_urls = ()
        self.server = server

    async def stop_broker(self) -> None:
        await self.app.close_async()  # its pool would take long to notice that the server is back
        await asyncio.to_thread(self.server.stop)

    async def start_broker(self) -> None:
        await asyncio.to_thread(self.server.start)
        await self.app.open_async()


async def test_a_server_that_was_down_is_read_and_listened_to_again() -> None:
    with postgres_server() as server:
        async with made_driver(server, MortalDriver) as driver:
            result = await check_queue(driver)
            check_told(driver, result)
            assert not [left_out for left_out in result.left_out if "down" in left_out]
            async with await open_queue(driver.url) as queue:
                await driver.stop_broker()
                await driver.start_broker()
                assert await queue.changed(HANG_LIMIT_S), "what was missed meanwhile may be a change"
                assert not await queue.changed(0.1)
                await driver.produce(1)
                assert await queue.changed(HANG_LIMIT_S)
