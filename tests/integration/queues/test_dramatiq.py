"""dramatiq, its own library producing and consuming, passes the conformance kit; its traps are rules or warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dramatiq
import pytest
from dramatiq.brokers.redis import RedisBroker

from nullworker.queues._redis import now_s
from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues import work
from tests.integration.queues.consumers import Consumers, Held
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.queues.base import Queue
    from tests.integration.queues.redis_server import RedisDatabase


class DramatiqDriver(QueueDriver):
    """Produces with an actor; each consumer is a worker that takes one message."""

    abandons = True

    def __init__(self, database: RedisDatabase, consumers: Consumers) -> None:
        url = f"dramatiq://{database.address}?queue=gpu"
        super().__init__(url, bad_urls=[url + "&heartbeat_timeout=-1", url + "&namespace=", url + "&ns=x"])
        self.database = database
        self.consumers = consumers
        make: Any = RedisBroker  # without types
        self.broker = make(url=database.url, middleware=[])
        self.actor = dramatiq.actor(broker=self.broker, queue_name="gpu", actor_name="hold")(work.hold)

    async def produce(self, count: int) -> None:
        for _ in range(count):
            self.actor.send()

    async def produce_delayed(self, delay_s: float) -> None:
        self.actor.send_with_options(delay=int(delay_s * 1000))

    async def consume_one_start(self, **variables: str) -> Held:
        command = ("-m", "tests.integration.queues.consume_dramatiq", self.database.url, "gpu")
        return await self.consumers.start(*command, env={"dramatiq_queue_prefetch": "1", **variables})

    async def finish(self, job: Held) -> None:
        await self.consumers.finish(job)

    async def abandon(self, job: Held) -> None:
        await self.consumers.kill(job)
        heartbeats, client = "dramatiq:__heartbeats__", self.broker.client
        for worker in client.zrange(heartbeats, 0, -1):
            client.zadd(heartbeats, {worker: (now_s() - 61) * 1000})


@pytest.fixture
def driver(database: RedisDatabase) -> Iterator[DramatiqDriver]:
    with Consumers(database) as consumers:
        driver = DramatiqDriver(database, consumers)
        yield driver
        driver.broker.close()
        driver.broker.client.close()


async def codes(queue: Queue) -> list[str]:
    return [warning.code for warning in (await queue.info()).warnings]


async def test_it_passes_the_conformance_kit(driver: DramatiqDriver) -> None:
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_a_delayed_message_that_is_due_waits_for_a_worker_to_come(driver: DramatiqDriver) -> None:
    """With no worker nothing moves it to the queue, so it counts as waiting; the next one's due time is known."""
    await driver.produce_delayed(-60)
    await driver.produce_delayed(600)
    await driver.produce_delayed(60)
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed) == (1, 2)
        assert depth.next_due_in_s == pytest.approx(60, abs=5)


async def test_messages_of_a_dead_worker_are_abandoned_and_not_in_flight(driver: DramatiqDriver) -> None:
    await driver.produce(1)
    await driver.abandon(await driver.consume_one_start())
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned, depth.redelivered) == (0, 0, 1, 1)
        assert await codes(queue) == ["abandoned"]
    async with await open_queue(driver.url + "&heartbeat_timeout=3600") as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 1, 0)


async def test_a_worker_that_fetches_ahead_or_holds_what_is_not_due_is_told_of(driver: DramatiqDriver) -> None:
    """One thread takes two messages by default: the second waits in its memory, and no other worker can have it."""
    await driver.produce(2)
    await driver.produce_delayed(600)
    await driver.consume_one_start(dramatiq_queue_prefetch="0")
    async with await open_queue(driver.url) as queue:
        for _ in range(200):
            if set(await codes(queue)) == {"prefetch", "delayed-in-worker"}:
                break
            await queue.changed(0.05)
        assert set(await codes(queue)) == {"prefetch", "delayed-in-worker"}
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.delayed) == (0, 2, 1)


async def test_many_processes_make_the_reading_inexact(driver: DramatiqDriver) -> None:
    for number in range(510):
        driver.broker.client.zadd("dramatiq:__heartbeats__", {f"process-{number}": now_s() * 1000})
    async with await open_queue(driver.url) as queue:
        assert not (await queue.depth()).exact


async def test_keys_of_another_schema_are_refused(driver: DramatiqDriver) -> None:
    driver.broker.client.set("dramatiq:gpu", "a string, where dramatiq has a list")
    with pytest.raises(QueueError, match="not older than the one tested"):
        await open_queue(driver.url)
