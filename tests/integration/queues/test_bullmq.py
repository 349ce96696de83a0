"""BullMQ, its library on Node producing and consuming, passes the conformance kit; its traps are rules or warnings."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from nullworker.queues.base import QueueError, TakenJob
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.brokers import node_library
from tests.integration.queues.consumers import Consumers, Held
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.queues.base import Queue
    from tests.integration.queues.redis_server import RedisDatabase

FOLDER = Path(__file__).parent / "node"


class BullmqDriver(QueueDriver):
    """Everything is done by node/bullmq.cjs."""

    tells_paused = True
    abandons = True
    names_consumers = True

    def __init__(self, database: RedisDatabase, client: Any, consumers: Consumers) -> None:
        place = f"bullmq://{database.address}"
        super().__init__(
            f"{place}?queue=gpu",
            bad_urls=[place, f"{place}?queue=gpu&prefix=", f"{place}?queue=gpu&q=x", f"{place}?queue=gpu&rate_limit=0"],
        )
        node, modules = node_library(FOLDER)
        self.client = client
        self.consumers = consumers
        self.command = [node, str(FOLDER / "bullmq.cjs"), str(database.port), str(database.number), "gpu"]
        self.environment = {"NODE_PATH": str(modules / "node_modules")}

    async def run(self, *arguments: object) -> None:
        node = await asyncio.create_subprocess_exec(
            *self.command, *map(str, arguments), env={**os.environ, **self.environment}
        )
        assert await node.wait() == 0

    async def produce(self, count: int) -> None:
        await self.run("add", count, 0)

    async def produce_delayed(self, delay_s: float) -> None:
        await self.run("add", 1, int(delay_s * 1000))

    async def consume_one_start(self) -> Held:
        return await self.consumers.start(*self.command, "consume", env=self.environment)

    async def taken(self, job: Held) -> TakenJob:
        return TakenJob(self.consumers.begun(job), f"worker of {job.begun_key}")

    async def finish(self, job: Held) -> None:
        await self.consumers.finish(job)

    async def abandon(self, job: Held) -> None:
        await self.consumers.kill(job)
        (lock,) = self.client.scan_iter("bull:gpu:*:lock")
        self.client.delete(lock)  # which expires after lockDuration

    async def pause(self) -> None:
        await self.run("pause")

    async def resume(self) -> None:
        await self.run("resume")


@pytest.fixture
def driver(database: RedisDatabase) -> Iterator[BullmqDriver]:
    with redis.Redis.from_url(database.url) as client, Consumers(database) as consumers:
        yield BullmqDriver(database, client, consumers)


async def codes(queue: Queue) -> list[str]:
    return [warning.code for warning in (await queue.info()).warnings]


async def test_it_passes_the_conformance_kit(driver: BullmqDriver) -> None:
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_jobs_with_a_priority_wait_too(driver: BullmqDriver) -> None:
    await driver.run("add", 2, 0, 5)
    async with await open_queue(driver.url) as queue:
        assert (await queue.depth()).waiting == 2
        assert await codes(queue) == []


async def test_a_delayed_job_that_is_due_waits_for_a_worker_to_come(driver: BullmqDriver) -> None:
    """With no worker nothing moves it to the list, so it counts as waiting."""
    await driver.run("add", 1, 600_000)
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed) == (0, 1)
        assert depth.next_due_in_s == pytest.approx(600, abs=30)
        ((job, score),) = driver.client.zrange("bull:gpu:delayed", 0, -1, withscores=True)
        driver.client.zadd("bull:gpu:delayed", {job: score - 601_000 * 0x1000})
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed, depth.next_due_in_s) == (1, 0, None)


async def test_limits_on_what_runs_are_told_of(driver: BullmqDriver) -> None:
    await driver.run("concurrency", 3)
    await driver.run("limit", 7)
    async with await open_queue(driver.url) as queue:
        assert (await queue.depth()).parallel_max == 3
        assert await codes(queue) == ["concurrency", "rate-limit"]


async def test_while_a_rate_limit_lets_no_job_start_they_are_delayed(driver: BullmqDriver) -> None:
    """A worker would be held and idle until the period is over."""
    await driver.run("limit", 1)
    await driver.produce(3)
    async with await open_queue(driver.url) as queue:
        assert (await queue.depth()).waiting == 3
        await driver.finish(await driver.consume_one_start())
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.delayed) == (0, 0, 2)
        assert depth.next_due_in_s == pytest.approx(60, abs=30)
        driver.client.pexpire("bull:gpu:limiter", 100)
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed, depth.next_due_in_s) == (2, 0, None), "it is over soon"


async def test_a_rate_limit_of_workers_is_told_of_and_read_with_the_number_in_the_url(driver: BullmqDriver) -> None:
    """Redis has the count of jobs that started, and not the limit."""
    await driver.produce(3)
    driver.client.set("bull:gpu:limiter", 2, px=60_000)
    async with await open_queue(driver.url) as queue, await open_queue(driver.url + "&rate_limit=2") as limited:
        assert (await queue.depth()).waiting == 3
        assert await codes(queue) == ["rate-limit"]
        depth = await limited.depth()
        assert (depth.waiting, depth.delayed) == (0, 3)
        assert await codes(limited) == []
        driver.client.set("bull:gpu:limiter", 2**53 - 1, px=60_000)  # as queue.rateLimit(60000) does
        assert (await queue.depth()).waiting == 0


async def test_groups_which_are_not_read_make_the_reading_inexact(driver: BullmqDriver) -> None:
    """BullMQ Pro keeps their jobs in keys of their own."""
    await driver.produce(1)
    driver.client.zadd("bull:gpu:groups", {"customer": 1})
    async with await open_queue(driver.url) as queue:
        assert not (await queue.depth()).exact
        assert await codes(queue) == ["groups"]


async def test_a_job_whose_worker_died_is_abandoned_and_is_told_of(driver: BullmqDriver) -> None:
    await driver.produce(1)
    held = await driver.consume_one_start()
    async with await open_queue(driver.url) as queue:
        assert await codes(queue) == []
        await driver.abandon(held)
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 0, 1)
        assert await codes(queue) == ["stalled"]


async def test_the_marker_of_older_versions_is_no_job(driver: BullmqDriver) -> None:
    driver.client.rpush("bull:gpu:wait", "7", "0:1700000000000")
    driver.client.set("bull:gpu:id", 7)
    async with await open_queue(driver.url) as queue:
        assert (await queue.depth()).waiting == 1
        assert await codes(queue) == ["old-library"]


async def test_another_prefix_is_another_queue(driver: BullmqDriver) -> None:
    driver.client.lpush("shop:gpu:wait", "1")
    async with await open_queue(driver.url) as ours, await open_queue(driver.url + "&prefix=shop") as theirs:
        assert (await ours.depth()).waiting == 0
        assert (await theirs.depth()).waiting == 1


async def test_keys_of_another_schema_are_refused(driver: BullmqDriver) -> None:
    driver.client.zadd("bull:gpu:wait", {"a sorted set, where BullMQ has a list": 1})
    with pytest.raises(QueueError, match="not older than the one tested"):
        await open_queue(driver.url)
