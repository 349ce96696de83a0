"""Celery on Redis, its library producing and consuming, passes the conformance kit; its traps are rules or warnings."""

from __future__ import annotations

import asyncio
import json
import signal
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import redis

from nullworker.queues._redis import HAND_OVER_S, now_s
from nullworker.queues.base import QueueError
from nullworker.queues.celery import UNACKED_LOOKED_AT_MAX
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.consumers import Consumers, Held
from tests.integration.queues.told import check_told
from tests.integration.queues.work_celery import LATE_VARIABLE, URL_VARIABLE, make_app
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.queues.base import Queue
    from tests.integration.queues.redis_server import RedisDatabase

WORKER = "-m celery -A tests.integration.queues.work_celery worker -c 1 -Q gpu -l warning"
WORKER += " --without-mingle --without-gossip --without-heartbeat"


class CeleryDriver(QueueDriver):
    """Produces with a task; each consumer is a worker that is told to end while it does its first task."""

    acks_late: ClassVar[bool] = True
    pool: ClassVar[str] = "solo"  # starts fastest
    abandons = True

    def __init__(self, database: RedisDatabase, client: Any, consumers: Consumers) -> None:
        url = f"celery+redis://{database.address}?queue=gpu" + ("&acks_late=true" if self.acks_late else "")
        bad = [f"{url}&{more}" for more in ("visibility_timeout=0", "priority_steps=low", "sep=", "acks=late")]
        bad += [f"celery+redis://{database.address}?acks_late=perhaps", f"celery+amqp://{database.address}"]
        super().__init__(url, bad_urls=bad)
        self.database = database
        self.client = client
        self.consumers = consumers
        self.app = make_app(database.url, acks_late=self.acks_late)
        self.task = self.app.tasks["hold"]

    async def produce(self, count: int) -> None:
        for number in range(count):
            self.task.apply_async(queue="gpu", priority=number * 3)  # over all of the lists

    async def produce_delayed(self, delay_s: float) -> None:
        self.task.apply_async(queue="gpu", countdown=delay_s)

    async def consume_one_start(self) -> Held:
        settings = {URL_VARIABLE: self.database.url, LATE_VARIABLE: "1" if self.acks_late else "0"}
        return await self.consumers.start(*WORKER.split(), "-P", self.pool, env=settings)

    async def finish(self, job: Held) -> None:
        job.process.send_signal(signal.SIGTERM)  # a warm shutdown: no task after this one
        await self.consumers.finish(job)

    async def abandon(self, job: Held) -> None:
        await self.consumers.kill(job)
        for tag in self.client.zrange("unacked_index", 0, -1):  # an hour ago
            self.client.zadd("unacked_index", {tag: now_s() - 3601})


class EarlyCeleryDriver(CeleryDriver):
    """As Celery is by default."""

    acks_late = False
    abandons = False  # the task is lost with its worker
    pool = "threads"  # with solo, Celery's acknowledgement waits until the task is done
    tells_in_flight = False


@pytest.fixture
def driver(database: RedisDatabase) -> Iterator[CeleryDriver]:
    with redis.Redis.from_url(database.url) as client, Consumers(database) as consumers:
        driver = CeleryDriver(database, client, consumers)
        yield driver
        driver.app.close()


@pytest.fixture
def early(driver: CeleryDriver) -> Iterator[EarlyCeleryDriver]:
    early = EarlyCeleryDriver(driver.database, driver.client, driver.consumers)
    yield early
    early.app.close()


async def codes(queue: Queue) -> list[str]:
    return [warning.code for warning in (await queue.info()).warnings]


async def test_with_late_acknowledgement_it_passes_the_conformance_kit(driver: CeleryDriver) -> None:
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert result.info.lease_s == 3600
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_by_default_a_running_task_is_unknown_and_it_warns(early: EarlyCeleryDriver) -> None:
    await early.produce(1)
    async with await open_queue(early.url) as queue:
        assert (await queue.depth()).waiting == 1
        held = await early.consume_one_start()
        await until(lambda: not early.client.hlen("unacked"), "Celery to acknowledge what it only begins")
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight) == (0, None)
        assert await codes(queue) == ["early-ack"]
        await early.finish(held)
        assert (await queue.depth()).in_flight is None


async def test_what_workers_hold_and_have_not_begun_is_told_of(early: EarlyCeleryDriver) -> None:
    message = json.dumps([{"body": "", "headers": {"eta": None}}, "", "gpu"])
    early.client.hset("unacked", mapping={"one": message, "two": message})
    async with await open_queue(early.url) as queue:
        assert await codes(queue) == ["early-ack", "prefetch"]


async def test_unacknowledged_messages_are_split_by_queue(driver: CeleryDriver) -> None:
    """The hash is one for all queues of a database."""
    await driver.produce(1)
    await driver.consume_one_start()
    driver.client.hset("unacked", "another's", json.dumps([{"body": "", "headers": {}}, "", "other"]))
    async with await open_queue(driver.url) as queue:
        assert (await queue.depth()).in_flight == 1
        assert await codes(queue) == []
    async with await open_queue(driver.url + "&routing_keys=gpu,other") as queue:
        assert (await queue.depth()).in_flight == 2
        assert await codes(queue) == ["prefetch"], "two messages, and one worker listens to remote control"


async def test_a_task_with_a_countdown_is_delayed_wherever_it_is(driver: CeleryDriver) -> None:
    """A worker takes it long before it is due, and holds it unacknowledged: that is not in flight."""
    await driver.produce_delayed(600)
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.delayed) == (0, 0, 1)
        await driver.produce(1)
        await driver.consume_one_start()
        assert driver.client.hlen("unacked") == 2
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.delayed) == (0, 1, 1)
        assert depth.next_due_in_s == pytest.approx(600, abs=30)
        assert await codes(queue) == []
    async with await open_queue(driver.url + "&visibility_timeout=60") as queue:
        assert await codes(queue) == ["eta-beyond-lease"]
        assert (await queue.info()).lease_s == 60


async def test_beyond_the_visibility_timeout_a_task_is_abandoned_unless_it_is_due_later(driver: CeleryDriver) -> None:
    """The next worker gives both back; a worker for a task that is due in a year would have nothing to do."""
    for tag, eta in (("dead", None), ("due", "2020-01-01T00:00:00+00:00"), ("later", "2999-01-01T00:00:00+00:00")):
        driver.client.hset("unacked", tag, json.dumps([{"body": "", "headers": {"eta": eta}}, "", "gpu"]))
        driver.client.zadd("unacked_index", {tag: now_s() - 4000})
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned, depth.delayed) == (0, 0, 2, 1)


async def test_messages_beyond_the_visibility_timeout_are_told_of(driver: CeleryDriver) -> None:
    driver.client.zadd("unacked_index", {"a tag": now_s() - 4000})
    async with await open_queue(driver.url) as queue:
        assert await codes(queue) == ["expired-lease"]


async def test_a_redelivered_message_is_counted_as_such(driver: CeleryDriver) -> None:
    message = {"body": "", "headers": {"eta": None, "redelivered": True}}
    driver.client.hset("unacked", "tag", json.dumps([message, "", "gpu"]))
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert (depth.in_flight, depth.redelivered) == (1, 1)


async def test_beyond_a_bound_what_is_in_flight_is_at_least_the_number_given(driver: CeleryDriver) -> None:
    message = json.dumps([{"body": "", "headers": {}}, "", "gpu"])
    driver.client.hset("unacked", mapping={f"tag-{number}": message for number in range(UNACKED_LOOKED_AT_MAX + 500)})
    async with await open_queue(driver.url) as queue:
        depth = await queue.depth()
        assert not depth.exact
        assert depth.in_flight is not None
        assert UNACKED_LOOKED_AT_MAX <= depth.in_flight < UNACKED_LOOKED_AT_MAX + 500


async def test_renamed_keys_are_read_where_the_settings_put_them(driver: CeleryDriver) -> None:
    driver.app.conf.broker_transport_options = {
        "global_keyprefix": "shop:",
        "priority_steps": [0, 5],
        "sep": ":",
        "queue_order_strategy": "priority",
    }
    for priority in (0, 5):
        driver.task.apply_async(queue="gpu", priority=priority)
    async with await open_queue(driver.url) as queue:
        assert (await queue.depth()).waiting == 0
    async with await open_queue(driver.url + "&keyprefix=shop:&priority_steps=0,5&sep=:") as queue:
        assert (await queue.depth()).waiting == 2


async def test_keys_of_another_schema_are_refused(driver: CeleryDriver) -> None:
    driver.client.set("gpu", "a string, where kombu has a list")
    with pytest.raises(QueueError, match="not older than the one tested"):
        await open_queue(driver.url)


async def test_the_first_reading_of_an_empty_queue_is_not_certain(driver: CeleryDriver) -> None:
    """A worker pops a message and notes that it holds it a moment later: that moment ends no reservation."""
    async with await open_queue(driver.url) as queue:
        await driver.produce(1)
        assert (await queue.depth()).exact
        driver.client.delete("gpu")
        assert not (await queue.depth()).exact
        await asyncio.sleep(HAND_OVER_S)
        assert (await queue.depth()).exact
