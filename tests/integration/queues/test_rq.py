"""RQ, with its own library producing and consuming, passes the conformance kit; its traps are rules or warnings."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import redis
import rq
import rq.suspension

from nullworker.queues._redis import now_s
from nullworker.queues.base import QueueError, TakenJob
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues import work
from tests.integration.queues.consumers import Consumers, Held
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.queues.redis_server import RedisDatabase


class RqDriver(QueueDriver):
    """Produces with rq.Queue; each consumer is an `rq worker` that takes one job."""

    tells_paused = True
    abandons = True
    names_consumers = True

    def __init__(self, database: RedisDatabase, client: redis.Redis, consumers: Consumers) -> None:
        super().__init__(
            f"rq://{database.address}?queue=gpu",
            bad_urls=[f"rq://{database.address}?queue=", f"rq://{database.address}?name=gpu", "rq://?queue=gpu"],
        )
        self.database = database
        self.client = client
        self.consumers = consumers
        self.queue = rq.Queue("gpu", connection=client)
        self.names: dict[int, str] = {}  # of workers, by their processes

    def ask(self, *command: object) -> Any:
        return self.client.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py gives it no types

    async def produce(self, count: int) -> None:
        for _ in range(count):
            self.queue.enqueue(work.hold, retry=rq.Retry(max=1))

    async def produce_delayed(self, delay_s: float) -> None:
        self.queue.enqueue_in(timedelta(seconds=delay_s), work.hold)

    async def consume_one_start(self) -> Held:
        name = f"worker-{len(self.names)}"
        arguments = ["--url", self.database.url, "--name", name, "--burst", "--max-jobs", "1", "gpu"]
        held = await self.consumers.start("-m", "rq.cli", "worker", *arguments)
        self.names[held.process.pid] = name
        return held

    async def taken(self, job: Held) -> TakenJob:
        name = self.names[job.process.pid]
        worker = rq.Worker.find_by_key(f"rq:worker:{name}", connection=self.client)
        assert worker is not None
        return TakenJob(str(worker.get_current_job_id()), name)

    async def finish(self, job: Held) -> None:
        await self.consumers.finish(job)

    async def abandon(self, job: Held) -> None:
        await self.consumers.kill(job)
        for member in self.ask("ZRANGE", "rq:wip:gpu", 0, -1):  # the worker's heartbeat was a while ago
            self.client.zadd("rq:wip:gpu", {member: now_s() - 1})

    async def pause(self) -> None:
        rq.suspension.suspend(self.client)

    async def resume(self) -> None:
        rq.suspension.resume(self.client)


@pytest.fixture
def driver(database: RedisDatabase) -> Iterator[RqDriver]:
    with redis.Redis.from_url(database.url) as client, Consumers(database) as consumers:
        yield RqDriver(database, client, consumers)


async def test_it_passes_the_conformance_kit(driver: RqDriver) -> None:
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_a_scheduled_job_that_is_due_waits_for_a_worker_to_come(driver: RqDriver) -> None:
    """From zero there is no scheduler to enqueue it, so it counts as waiting, and it is told what enqueues it."""
    await driver.produce_delayed(-60)
    await driver.produce_delayed(60)
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed) == (1, 1)
        assert [warning.code for warning in (await queue.info()).warnings] == ["scheduler"]


async def test_a_job_whose_worker_is_gone_is_abandoned_and_not_in_flight(driver: RqDriver) -> None:
    await driver.produce(1)
    job = await driver.consume_one_start()
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned, depth.redelivered) == (0, 1, 0, 0)
        await driver.abandon(job)
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned, depth.redelivered) == (0, 0, 1, 1)
        assert [warning.code for warning in (await queue.info()).warnings] == ["abandoned"]
        driver.client.set(driver.queue.registry_cleaning_key, 1, ex=899)  # as workers before RQ 3 leave it
        depth = await queue.depth()
        assert (depth.in_flight, depth.abandoned, depth.delayed) == (0, 0, 1)
        assert depth.next_due_in_s is not None
        assert 800 < depth.next_due_in_s <= 899


async def test_a_job_that_is_handed_over_is_in_flight_once(driver: RqDriver) -> None:
    """For a moment a job is on the hand-over list, and then for another also among the running ones."""
    await driver.produce(2)
    driver.client.lmove("rq:queue:gpu", "rq:queue:gpu:intermediate", "LEFT", "RIGHT")
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight) == (1, 1)
        (job_id,) = driver.ask("LRANGE", "rq:queue:gpu:intermediate", 0, -1)
        driver.client.zadd("rq:wip:gpu", {job_id + b":execution": now_s() + 90})
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight) == (1, 1)


async def test_a_job_whose_worker_died_while_it_took_it_is_abandoned(
    driver: RqDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is left on the hand-over list, and only workers that come bring it back."""
    await driver.produce(1)
    driver.client.lmove("rq:queue:gpu", "rq:queue:gpu:intermediate", "LEFT", "RIGHT")
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 1, 0)
        monkeypatch.setattr("nullworker.queues.rq.HAND_OVER_MAX_S", 0.0)
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 0, 1)
        (job_id,) = driver.ask("LRANGE", "rq:queue:gpu:intermediate", 0, -1)
        driver.client.zadd("rq:wip:gpu", {job_id + b":execution": now_s() + 90})
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 1, 0)


async def test_keys_of_another_schema_are_refused(driver: RqDriver) -> None:
    driver.client.sadd("rq:wip:gpu", "a set, where RQ has a sorted set")
    with pytest.raises(QueueError, match="not older than the one tested"):
        await open_queue(driver.url)


async def test_the_first_reading_of_an_empty_queue_is_not_certain(driver: RqDriver) -> None:
    """A worker of several queues pops a job, and notes a moment later that it runs."""
    async with await open_queue(driver.url) as queue:
        await driver.produce(1)
        assert (await queue.depth()).exact
        driver.client.delete("rq:queue:gpu")
        assert not (await queue.depth()).exact
