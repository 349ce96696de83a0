"""arq, with its own library producing and consuming, passes the conformance kit; its traps are rules or warnings."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest
import redis

from nullworker.queues.arq import WINDOW
from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.brokers import python_library
from tests.integration.queues.consumers import ROOT, Consumers, Held
from tests.integration.queues.told import check_told
from tools.brokers.needs import ARQ

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.queues.redis_server import RedisDatabase


MODULE = "tests.integration.queues.consume_arq"


class ArqDriver(QueueDriver):
    """Produces with arq's pool; each consumer is an arq worker that takes one job."""

    abandons = True

    def __init__(self, database: RedisDatabase, client: redis.Redis, consumers: Consumers, library: Path) -> None:
        url = f"arq://{database.address}?queue=gpu"
        bad = [
            f"{url}&{more}" for more in ("job_timeout=0", "job_timeout=long", "read_limit=0", "read_limit=x", "max=1")
        ]
        super().__init__(url, bad_urls=bad)
        self.client = client
        self.consumers = consumers
        self.arguments = ["-m", MODULE, str(database.port), str(database.number), "gpu"]
        self.path = f"{library}{os.pathsep}{ROOT}"

    async def produce(self, count: int, delay_s: float = 0) -> None:
        environment = {**os.environ, "PYTHONPATH": self.path}
        producer = await asyncio.create_subprocess_exec(
            sys.executable, *self.arguments, str(count), str(delay_s), cwd=ROOT, env=environment
        )
        assert await producer.wait() == 0

    async def produce_delayed(self, delay_s: float) -> None:
        await self.produce(1, delay_s)

    async def consume_one_start(self) -> Held:
        return await self.consumers.start(*self.arguments, env={"PYTHONPATH": self.path})

    async def finish(self, job: Held) -> None:
        await self.consumers.finish(job)

    async def abandon(self, job: Held) -> None:
        await self.consumers.kill(job)
        (key,) = self.client.scan_iter("arq:in-progress:*")
        self.client.delete(key)  # which expires when the job's time limit is over


@pytest.fixture
def driver(database: RedisDatabase) -> Iterator[ArqDriver]:
    library = python_library(ARQ)
    with redis.Redis.from_url(database.url) as client, Consumers(database) as consumers:
        yield ArqDriver(database, client, consumers, library)


async def test_it_passes_the_conformance_kit(driver: ArqDriver) -> None:
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert result.info.lease_s == 310
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_beyond_a_bound_the_sum_is_right_and_the_split_is_at_least(driver: ArqDriver) -> None:
    """What waits and what is in flight together is always exact; which is which is looked up for the first jobs."""
    count = WINDOW + 10
    ids = [f"job-{number:04}" for number in range(count)]
    driver.client.zadd("gpu", {job_id: 1_000 + number for number, job_id in enumerate(ids)})
    for job_id in (ids[0], ids[1], ids[-1]):
        driver.client.set(f"arq:in-progress:{job_id}", b"1")
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (count - 2, 2, False)
        driver.client.zrem("gpu", *ids[10:20])
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (count - 10 - 3, 3, True)


async def test_jobs_in_progress_elsewhere_are_not_of_this_queue(driver: ArqDriver) -> None:
    """The keys of running jobs bear no queue's name, and those of cron jobs outlive them by a minute."""
    await driver.produce(1)
    driver.client.set("arq:in-progress:cron:report:1700000000", b"1")
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight) == (1, 0)


async def test_no_more_jobs_run_at_once_than_workers_look_at(driver: ArqDriver) -> None:
    async with await open_queue(driver.url) as queue:
        assert (await queue.depth()).parallel_max == 100
    async with await open_queue(driver.url + "&read_limit=500&job_timeout=3600") as queue:
        assert (await queue.depth()).parallel_max == 500
        assert (await queue.info()).lease_s == 3610


async def test_a_worker_that_runs_several_jobs_at_once_is_told_of(driver: ArqDriver) -> None:
    driver.client.set("gpu:health-check", b"Nov-21 08:34:33 j_complete=0 j_failed=0 j_retried=0 j_ongoing=3 queued=5")
    async with await open_queue(driver.url) as queue:
        (warning,) = (await queue.info()).warnings
        assert warning.code == "prefetch"
        assert "runs 3 jobs" in warning.message


async def test_keys_of_another_schema_are_refused(driver: ArqDriver) -> None:
    driver.client.rpush("gpu", "a list")
    with pytest.raises(QueueError, match="not older than the one tested"):
        await open_queue(driver.url)
