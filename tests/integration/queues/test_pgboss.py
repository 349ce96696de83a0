"""The pg-boss adapter against pg-boss itself on Node: what it counts, and what it must not count."""

from __future__ import annotations

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

QUEUE = "render"


class PgBossDriver(QueueDriver):
    """Sends to one queue, and fetches one job at a time."""

    abandons = True

    def __init__(self, server: Postgres, database: str, node: NodeProcess, schema: str) -> None:
        parameters = f"queue={QUEUE}&schema={schema}"
        url = server.url("pgboss", database, parameters)
        super().__init__(
            url,
            secret=PASSWORD,
            bad_urls=(
                server.url("pgboss", database),
                url + "&task=x",
                server.url("pgboss", database, f"queue={QUEUE}&schema="),
                server.url("pgboss", "nowhere", parameters),
            ),
        )
        self.node = node
        self.server = server
        self.database = database
        self.schema = schema
        self.supervises = False

    async def produce(self, count: int) -> None:
        await self.node.call("start")
        await self.create()
        await self.send(count)

    async def produce_delayed(self, delay_s: float) -> None:
        await self.send(startAfter=int(delay_s))

    async def consume_one_start(self) -> str:
        if self.supervises:  # as an instance does from time to time
            await self.node.call("supervise", name=QUEUE)
        (job,) = await self.node.call("fetch", name=QUEUE)
        return str(job)

    async def finish(self, job: str) -> None:
        await self.node.call("complete", name=QUEUE, job=job)

    async def abandon(self, job: str) -> None:
        await self.node.close()
        self.execute(f"UPDATE {self.schema}.job SET started_on = now() - interval '1 day' WHERE id = '{job}'")
        await self.node.start()
        await self.node.call("start")
        self.supervises = True

    async def create(self, **options: Any) -> None:
        await self.node.call("createQueue", name=QUEUE, options=options)

    async def send(self, count: int = 1, **options: Any) -> list[str | None]:
        ids: list[str | None] = await self.node.call("send", name=QUEUE, count=count, options=options)
        return ids

    async def take(self) -> int:
        """How many jobs pg-boss would start now; they stay active."""
        taken = 0
        while await self.node.call("fetch", name=QUEUE):
            taken += 1
        return taken

    def execute(self, query: str) -> None:
        self.server.execute(self.database, query)


@contextlib.asynccontextmanager
async def made_driver(
    server: Postgres, package: str = "pg-boss", schema: str = "pgboss", *, start: bool = True
) -> AsyncIterator[PgBossDriver]:
    database = server.create_database()
    async with node_process("pgboss.mjs", package, server.dsn(database), schema) as node:
        if start:
            await node.call("start")
        yield PgBossDriver(server, database, node, schema)


@pytest.mark.parametrize("schema", ["pgboss", "jobs"])
async def test_it_passes_the_conformance_kit(postgres: Postgres, schema: str) -> None:
    """From a database without its tables, which pg-boss makes when it is started."""
    async with made_driver(postgres, schema=schema, start=False) as driver:
        result = await check_queue(driver)
        check_told(driver, result)
        assert not result.info.pushes


async def depth_of(queue: Queue) -> tuple[int, int | None, int, int]:
    depth = await queue.depth()
    return (depth.waiting, depth.in_flight, depth.delayed, depth.redelivered)


async def codes(queue: Queue) -> dict[str, str]:
    return {warning.code: warning.message for warning in (await queue.info()).warnings}


async def test_a_queue_that_is_made_with_notify_pushes(postgres: Postgres) -> None:
    async with made_driver(postgres) as driver, await open_queue(driver.url) as queue:
        assert not (await queue.info()).pushes
        assert "missing" in await codes(queue)
        await driver.create(notify=True, expireInSeconds=7200)
        assert (await queue.info()).pushes
        assert not await codes(queue)
        assert not await queue.changed(0.1)
        await driver.send()
        assert await queue.changed(20)


@pytest.mark.parametrize("policy", ["singleton", "stately", "key_strict_fifo"])
async def test_policies_that_serialise_let_one_job_of_a_key_wait(postgres: Postgres, policy: str) -> None:
    """What counts as waiting is what pg-boss would start if it were asked at this moment."""
    async with made_driver(postgres) as driver:
        await driver.create(policy=policy, expireInSeconds=7200)
        for key in ("a", "a", "b"):
            await driver.send(singletonKey=key)
        queued = 2 if policy == "stately" else 3  # stately keeps one job of a key in each state
        async with await open_queue(driver.url) as queue:
            assert await depth_of(queue) == (2, 0, queued - 2, 0)
            assert set(await codes(queue)) == {"serialised"}
            assert await driver.take() == 2
            assert await depth_of(queue) == (0, 2, queued - 2, 0)
            await driver.send(singletonKey="a")
            assert (await queue.depth()).waiting == 0
            assert await driver.take() == 0


async def test_a_failed_job_blocks_its_key_in_strict_order(postgres: Postgres) -> None:
    """With ``key_strict_fifo`` a key stands still after a failure, and while a retry is not due."""
    async with made_driver(postgres) as driver:
        await driver.create(policy="key_strict_fifo", retryLimit=0)
        for key in ("a", "a", "b", "b"):
            await driver.send(singletonKey=key, retryLimit=1 if key == "b" else 0, retryDelay=600)
        async with await open_queue(driver.url) as queue:
            jobs = [await driver.consume_one_start() for _ in range(2)]
            for job in jobs:
                await driver.node.call("fail", name=QUEUE, job=job)
            assert await depth_of(queue) == (0, 0, 3, 0)  # a's and b's second, and b's first until its retry
            assert await driver.take() == 0
            driver.execute("UPDATE pgboss.job SET start_after = now() WHERE state = 'retry'")
            assert (await queue.depth()).waiting == 1
            assert await driver.take() == 1


@pytest.mark.parametrize("policy", ["standard", "short", "exclusive"])
async def test_other_policies_let_all_that_is_queued_run(postgres: Postgres, policy: str) -> None:
    async with made_driver(postgres) as driver:
        await driver.create(policy=policy)
        for _ in range(3):
            await driver.send()
        async with await open_queue(driver.url) as queue:
            waiting = (await queue.depth()).waiting
            assert waiting == (3 if policy == "standard" else 1)
            assert await driver.take() == waiting


async def test_a_job_past_its_time_limit_is_abandoned_if_it_will_be_tried_again(postgres: Postgres) -> None:
    """It is not in flight, for no worker is taken to run it; without tries left it is no demand either."""

    async def left(queue: Queue) -> tuple[int, int | None, int | None, int]:
        depth = await queue.depth()
        return (depth.waiting, depth.in_flight, depth.abandoned, depth.redelivered)

    async with made_driver(postgres) as driver:
        await driver.create(retryLimit=1, expireInSeconds=900, heartbeatSeconds=60)
        await driver.send(2)
        assert await driver.take() == 2
        async with await open_queue(driver.url) as queue:
            assert await left(queue) == (0, 2, 0, 0)
            assert (await queue.info()).lease_s == 60
            assert "short-lease" in await codes(queue)
            assert "stalled" not in await codes(queue)
            first = "id = (SELECT id FROM pgboss.job ORDER BY id LIMIT 1)"
            driver.execute(f"UPDATE pgboss.job SET started_on = now() - interval '901 seconds' WHERE {first}")
            assert await left(queue) == (0, 1, 1, 1)
            assert "1 active job(s)" in (await codes(queue))["stalled"]
            driver.execute(f"UPDATE pgboss.job SET heartbeat_on = now() - interval '61 seconds' WHERE NOT {first}")
            assert await left(queue) == (0, 0, 2, 2)
            driver.execute("UPDATE pgboss.job SET retry_count = 1")
            assert await left(queue) == (0, 0, 0, 2)


async def test_jobs_that_depend_on_others_are_delayed(postgres: Postgres) -> None:
    async with made_driver(postgres) as driver:
        await driver.create()
        await driver.send(2)
        driver.execute("UPDATE pgboss.job SET blocked = true WHERE id = (SELECT id FROM pgboss.job LIMIT 1)")
        async with await open_queue(driver.url) as queue:
            depth = await queue.depth()
            assert (depth.waiting, depth.delayed, depth.next_due_in_s) == (1, 1, None)
            assert await driver.take() == 1


async def test_groups_are_told(postgres: Postgres) -> None:
    async with made_driver(postgres) as driver:
        await driver.create(expireInSeconds=7200)
        await driver.send(group={"id": "customer"})
        async with await open_queue(driver.url) as queue:
            assert set(await codes(queue)) == {"groups"}


async def test_a_queue_with_a_table_of_its_own_is_read(postgres: Postgres) -> None:
    async with made_driver(postgres) as driver:
        await driver.create(partition=True)
        await driver.send(2)
        async with await open_queue(driver.url) as queue:
            assert await depth_of(queue) == (2, 0, 0, 0)


async def test_tables_of_version_10_are_an_error_and_no_zero(postgres: Postgres) -> None:
    async with made_driver(postgres, package="pg-boss-10") as driver:
        await driver.create()
        await driver.send()
        with pytest.raises(QueueError, match=r"another version .*: upgrade pg-boss to 12\.22 or later\.$"):
            await open_queue(driver.url)
