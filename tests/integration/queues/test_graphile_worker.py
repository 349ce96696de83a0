"""The graphile-worker adapter against real workers on Node: what it counts, and what it must not count."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.node_process import NodeProcess, node_process
from tests.integration.queues.postgres import PASSWORD, Postgres
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.queues.base import Queue

NEWEST = "graphile-worker"
SCHEMA = "graphile_worker"


class GraphileDriver(QueueDriver):
    """Adds jobs of one task; workers run one job each."""

    abandons = True

    def __init__(self, server: Postgres, database: str, node: NodeProcess, schema: str) -> None:
        parameters = f"task=render&schema={schema}"
        url = server.url("graphile-worker", database, parameters)
        super().__init__(
            url,
            secret=PASSWORD,
            bad_urls=(
                url + "&job=x",
                url + "&queue=",
                server.url("graphile-worker", database, "schema="),
                server.url("graphile-worker", "nowhere", parameters),
            ),
        )
        self.node = node
        self.server = server
        self.database = database
        self.jobs = f"{schema}._private_jobs"

    async def produce(self, count: int) -> None:
        await self.add(count)

    async def produce_delayed(self, delay_s: float) -> None:
        await self.add(delayS=delay_s)

    async def consume_one_start(self) -> str:
        (job,) = await self.node.call("start", tasks=["render"])
        return str(job)

    async def finish(self, job: str) -> None:
        await self.node.call("finish", job=job)
        while self.execute(f"SELECT id FROM {self.jobs} WHERE id = {job}"):  # noqa: ASYNC110 - written in its own time
            await asyncio.sleep(0.01)

    async def abandon(self, job: str) -> None:
        await self.node.close()
        self.execute(f"UPDATE {self.jobs} SET locked_at = now() - interval '5 hours' WHERE id = {job}")
        await self.node.start()

    async def add(self, count: int = 1, task: str = "render", **spec: object) -> None:
        await self.node.call("add", task=task, count=count, spec=spec)

    def execute(self, query: str) -> list[dict[str, Any]]:
        return self.server.execute(self.database, query)

    def address(self, parameters: str) -> str:
        return self.server.url("graphile-worker", self.database, parameters)


@contextlib.asynccontextmanager
async def made_driver(
    server: Postgres, package: str = NEWEST, schema: str = SCHEMA, *, migrate: bool = True
) -> AsyncIterator[GraphileDriver]:
    database = server.create_database()
    async with node_process("graphile.mjs", package, server.dsn(database), schema) as node:
        if migrate:
            await node.call("migrate")
        yield GraphileDriver(server, database, node, schema)


@pytest.mark.parametrize(("package", "schema"), [(NEWEST, SCHEMA), ("graphile-worker-0-17", "jobs")])
async def test_it_passes_the_conformance_kit(postgres: Postgres, package: str, schema: str) -> None:
    """From a database without its tables, which graphile-worker makes when the first job is added."""
    async with made_driver(postgres, package, schema, migrate=False) as driver:
        result = await check_queue(driver)
        check_told(driver, result)
        assert result.info.pushes
        assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def depth_of(queue: Queue) -> tuple[int, int | None, int, int]:
    depth = await queue.depth()
    return (depth.waiting, depth.in_flight, depth.delayed, depth.redelivered)


async def codes(queue: Queue) -> dict[str, str]:
    return {warning.code: warning.message for warning in (await queue.info()).warnings}


async def test_jobs_of_a_named_queue_wait_one_at_a_time(postgres: Postgres) -> None:
    """3 jobs of one named queue, 2 of another and 1 of none: 3 can run at the same time, and no more than that."""
    async with made_driver(postgres) as driver:
        await driver.add(3, queueName="a")
        await driver.add(2, queueName="b")
        await driver.add(1, queueName="later", delayS=500)
        async with (
            await open_queue(driver.url) as queue,
            await open_queue(driver.address("queue=a")) as only_a,
            await open_queue(driver.address("task=other")) as other,
        ):
            assert await depth_of(queue) == (2, 0, 4, 0)
            await driver.add(1)
            assert await depth_of(queue) == (3, 0, 4, 0)
            assert await depth_of(only_a) == (1, 0, 2, 0)
            assert await depth_of(other) == (0, 0, 0, 0)
            assert "6 waiting job(s) are in 3 named queue(s)" in (await codes(queue))["serialised"]
            job = await driver.consume_one_start()  # holds a, whose jobs came first
            assert await depth_of(queue) == (2, 1, 4, 0)
            assert await depth_of(only_a) == (0, 1, 2, 0)
            await driver.finish(job)
            assert await depth_of(queue) == (3, 0, 3, 0)


async def test_a_named_queue_shared_by_two_tasks_runs_one_job_at_a_time(postgres: Postgres) -> None:
    async with made_driver(postgres) as driver:
        await driver.add(1, queueName="a")
        await driver.add(1, task="other", queueName="a")
        async with (
            await open_queue(driver.address("schema=graphile_worker")) as everything,
            await open_queue(driver.address("task=other")) as other,
        ):
            assert await depth_of(everything) == (1, 0, 1, 0)
            job = await driver.consume_one_start()
            assert await depth_of(everything) == (0, 1, 1, 0)
            assert await depth_of(other) == (0, 0, 1, 0)
            await driver.finish(job)
            assert await depth_of(other) == (1, 0, 0, 0)


async def test_a_job_that_has_failed_for_good_is_no_demand(postgres: Postgres) -> None:
    async with made_driver(postgres) as driver:
        await driver.add(2, maxAttempts=1)
        driver.execute(f"UPDATE {driver.jobs} SET attempts = 1 WHERE id = (SELECT min(id) FROM {driver.jobs})")
        async with await open_queue(driver.url) as queue:
            assert await depth_of(queue) == (1, 0, 0, 0)


async def test_a_job_whose_lock_ran_out_is_abandoned_until_a_worker_takes_it_back(postgres: Postgres) -> None:
    """A dead worker's job is in flight for four hours, which --check tells after one; then it is abandoned."""
    async with made_driver(postgres) as driver:
        await driver.produce(1)
        job = await driver.consume_one_start()
        async with await open_queue(driver.url) as queue:
            assert await depth_of(queue) == (0, 1, 0, 0)
            assert "old-running" not in await codes(queue)
            await driver.abandon(job)  # a worker that lives would take its own back
            driver.execute(f"UPDATE {driver.jobs} SET locked_at = now() - interval '3 hours'")
            assert await depth_of(queue) == (0, 1, 0, 0)
            assert "1 job(s)" in (await codes(queue))["old-running"]
            driver.execute(f"UPDATE {driver.jobs} SET locked_at = now() - interval '5 hours'")
            depth = await queue.depth()
            assert (depth.waiting, depth.in_flight, depth.abandoned, depth.redelivered) == (0, 0, 1, 1)
            driver.execute(f"UPDATE {driver.jobs} SET attempts = max_attempts")
            depth = await queue.depth()
            assert (depth.waiting, depth.in_flight, depth.abandoned, depth.redelivered) == (0, 0, 0, 1)


async def test_a_worker_that_holds_several_jobs_is_told(postgres: Postgres) -> None:
    async with made_driver(postgres) as driver:
        await driver.produce(3)
        async with await open_queue(driver.url) as queue:
            await driver.node.call("start", tasks=["render"], concurrentJobs=2)
            assert await depth_of(queue) == (1, 2, 0, 0)
            assert "holds 2 jobs at once" in (await codes(queue))["prefetch"]


async def test_jobs_with_a_flag_that_workers_forbid_do_not_wait(postgres: Postgres) -> None:
    """What a worker with ``forbiddenFlags`` skips calls for none, if the URL says so; --check tells of flags."""
    async with made_driver(postgres) as driver:
        await driver.add(1, flags=["it's 100% off"])
        await driver.add(1, flags=["other"], delayS=500)
        await driver.add(1, flags=["other"], queueName="a")
        await driver.add(1)
        async with (
            await open_queue(driver.url) as queue,
            await open_queue(driver.url + "&forbidden_flags=it's 100%25 off,more") as some,
            await open_queue(driver.url + "&forbidden_flags=other") as others,
        ):
            assert await depth_of(queue) == (3, 0, 1, 0)
            assert "3 waiting job(s) have flags" in (await codes(queue))["flags"]
            assert await depth_of(some) == (2, 0, 1, 0)
            assert await depth_of(others) == (2, 0, 0, 0)
            assert "1 waiting job(s) have flags" in (await codes(others))["flags"]


async def test_tables_of_an_older_version_are_an_error_and_no_zero(postgres: Postgres) -> None:
    """Before 0.16, ``jobs`` was a table without the names of tasks and queues."""
    database = postgres.create_database()
    postgres.execute(database, "CREATE SCHEMA graphile_worker")
    postgres.execute(database, "CREATE TABLE graphile_worker.jobs (id bigint, task_id int, run_at timestamptz)")
    with pytest.raises(QueueError, match=r"another version .*: upgrade graphile-worker to 0\.16 or later\.$"):
        await open_queue(postgres.url("graphile-worker", database))


async def test_where_there_are_no_tables_the_check_says_so(postgres: Postgres) -> None:
    async with await open_queue(postgres.url("graphile-worker", postgres.create_database())) as queue:
        assert await depth_of(queue) == (0, 0, 0, 0)
        assert "missing" in await codes(queue)


async def test_a_user_that_may_read_the_view_alone_sees_all_rows(postgres: Postgres) -> None:
    """Row security hides graphile-worker's own tables from others, which would look like an empty queue."""
    async with made_driver(postgres) as driver:
        await driver.produce(2)
        name = f"reader_{driver.database}"
        for statement in (
            f"CREATE USER {name} PASSWORD 'x'",
            f"GRANT USAGE ON SCHEMA graphile_worker TO {name}",
            f"GRANT SELECT ON graphile_worker.jobs TO {name}",
        ):
            driver.execute(statement)
        url = f"graphile-worker://{name}:x@127.0.0.1:{postgres.port}/{driver.database}"
        async with await open_queue(url) as queue:
            assert await depth_of(queue) == (2, 0, 0, 0)
