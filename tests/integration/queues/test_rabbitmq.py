"""Both adapters for RabbitMQ against a real server with real consumers: what they count, and what they warn of."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aio_pika
import celery
import dramatiq
import pytest
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.killed import AtJob, take_one
from tests.integration.queues.rabbitmq_server import PASSWORD, USER, RabbitmqServer
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

    from nullworker.queues.base import Queue

HANG_LIMIT_S = 30
numbers = itertools.count()


@pytest.fixture
def name() -> str:
    return f"renders-{next(numbers)}"


@contextlib.asynccontextmanager
async def connected(rabbitmq: RabbitmqServer) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(rabbitmq.amqp())
    async with connection:
        yield await connection.channel()


async def publish(rabbitmq: RabbitmqServer, name: str, count: int, **declared: Any) -> None:
    async with connected(rabbitmq) as channel:
        await channel.declare_queue(name, durable=True, **declared)
        for _ in range(count):
            message = aio_pika.Message(b"job", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, name)


class RabbitmqDriver(QueueDriver):
    """Publishes to a durable queue, and takes one message at a time."""

    tells_delayed = False
    abandons = True

    def __init__(self, rabbitmq: RabbitmqServer, name: str, url: str, bad_urls: tuple[str, ...]) -> None:
        super().__init__(url, secret=PASSWORD, bad_urls=bad_urls)
        self.rabbitmq = rabbitmq
        self.name = name

    async def produce(self, count: int) -> None:
        await publish(self.rabbitmq, self.name, count)

    async def consume_one_start(self) -> tuple[AbstractConnection, AbstractIncomingMessage]:
        connection = await aio_pika.connect(self.rabbitmq.amqp())
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(self.name, passive=True)
        message = await queue.get(timeout=HANG_LIMIT_S)
        assert message is not None
        return connection, message

    async def finish(self, job: tuple[AbstractConnection, AbstractIncomingMessage]) -> None:
        connection, message = job
        await message.ack()
        await connection.close()

    async def consume_one_to_kill(self) -> AtJob:
        return await take_one("amqp", self.rabbitmq.amqp(), self.name)

    async def abandon(self, job: AtJob) -> None:
        await job.kill()


class AmqpDriver(RabbitmqDriver):
    tells_in_flight = False


async def test_the_management_adapter_passes_the_conformance_kit(rabbitmq: RabbitmqServer, name: str) -> None:
    url = rabbitmq.management(f"%2F/{name}?acks_late=true")
    bad_urls = (
        rabbitmq.management(""),
        rabbitmq.management("%2F/"),
        rabbitmq.management(f"%2F/{name}/more"),
        rabbitmq.management(f"nowhere/{name}"),
        url + "&queue=x",
        url + "&ignore_delayed=perhaps",
        rabbitmq.management(f"%2F/{name}?acks_late=perhaps"),
        url.replace(PASSWORD, f"wrong-{PASSWORD}"),
        url.replace(str(rabbitmq.management_port), "1"),
        url.replace(str(rabbitmq.management_port), str(rabbitmq.port)),
    )
    driver = RabbitmqDriver(rabbitmq, name, url, bad_urls)
    result = await check_queue(driver)
    check_told(driver, result)
    assert "server" in result.info.broker
    async with await open_queue(url) as queue:
        assert (await queue.info()).lag_s == 0


async def test_the_amqp_adapter_passes_the_conformance_kit(rabbitmq: RabbitmqServer, name: str) -> None:
    url = f"{rabbitmq.amqp('%2F')}?queue={name}"
    bad_urls = (
        rabbitmq.amqp(),
        f"{rabbitmq.amqp('nowhere')}?queue={name}",
        url + "&prefetch=1",
        url.replace(PASSWORD, f"wrong-{PASSWORD}"),
        url.replace(str(rabbitmq.port), "1"),
    )
    driver = AmqpDriver(rabbitmq, name, url, bad_urls)
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.lease_s == 1800


async def codes(queue: Queue) -> dict[str, str]:
    return {warning.code: warning.message for warning in (await queue.info()).warnings}


async def warning_of(queue: Queue, code: str) -> str:
    """The warning ``code``, once RabbitMQ's list of consumers, five seconds old, has made for it."""
    while (warning := (await codes(queue)).get(code)) is None:  # noqa: ASYNC110 - there is nothing to wait for
        await asyncio.sleep(0.1)
    return warning


async def test_that_celery_keeps_tasks_in_a_worker_until_they_are_due_is_told(
    rabbitmq: RabbitmqServer, name: str
) -> None:
    await publish(rabbitmq, name, 1)
    app = celery.Celery(broker=rabbitmq.amqp(), set_as_current=False)
    with app, app.connection_for_read() as connection:
        queues = [app.amqp.queues.add(name)]
        consumer = app.amqp.TaskConsumer(connection.channel(), queues, auto_declare=False, prefetch_count=1)
        async with await open_queue(rabbitmq.management(name + "?acks_late=true")) as queue:
            assert "eta-in-worker" not in await codes(queue)
            consumer.register_callback(lambda *_: None)
            await asyncio.to_thread(consumer.consume)
            assert "countdown" in await asyncio.wait_for(warning_of(queue, "eta-in-worker"), HANG_LIMIT_S)


async def test_prefetch_and_early_acknowledgement_are_told_and_in_flight_becomes_unknown(
    rabbitmq: RabbitmqServer, name: str
) -> None:
    """Consumers that acknowledge nothing leave no trace in the counts: in flight is unknown then, and never 0."""
    await publish(rabbitmq, name, 3)
    await publish(rabbitmq, name + "-early", 3)
    async with (
        await open_queue(rabbitmq.management(name + "?acks_late=true")) as queue,
        await open_queue(rabbitmq.management(name + "-early?acks_late=true")) as early,
        connected(rabbitmq) as channel,
    ):
        taken: list[AbstractIncomingMessage] = []

        async def take(message: AbstractIncomingMessage) -> None:
            taken.append(message)

        await channel.set_qos(prefetch_count=2)
        await (await channel.declare_queue(name, passive=True)).consume(take)
        consumer = await (await channel.declare_queue(name + "-early", passive=True)).consume(take, no_ack=True)
        assert "up to 2 messages at a time" in await asyncio.wait_for(warning_of(queue, "prefetch"), HANG_LIMIT_S)
        await asyncio.wait_for(warning_of(early, "early-ack"), HANG_LIMIT_S)
        depth, early_depth = await queue.depth(), await early.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (1, 2, True)
        assert (early_depth.waiting, early_depth.in_flight) == (0, None)
        assert len(taken) == 5
        await (await channel.get_queue(name + "-early")).cancel(consumer)
        while vars(early)["_saw_consumers"]:
            await early.info()
            await asyncio.sleep(0.1)
        assert (await early.depth()).in_flight is None, "with no consumer about, what was last seen holds"


async def test_unless_consumers_acknowledge_late_what_is_in_flight_is_unknown(
    rabbitmq: RabbitmqServer, name: str
) -> None:
    """As with Celery's defaults: five of eight tasks run and were acknowledged before that; they are not zero."""
    await publish(rabbitmq, name, 8)
    async with (
        await open_queue(rabbitmq.management(name)) as queue,
        await open_queue(rabbitmq.management(name + "?acks_late=true")) as late,
        connected(rabbitmq) as channel,
    ):
        declared = await channel.declare_queue(name, passive=True)
        for _ in range(5):
            message = await declared.get(timeout=HANG_LIMIT_S)
            assert message is not None
            await message.ack()
        taken = await declared.get(timeout=HANG_LIMIT_S)
        assert taken is not None
        depth, late_depth = await queue.depth(), await late.depth()
        assert (depth.waiting, depth.in_flight) == (2, None)
        assert (late_depth.waiting, late_depth.in_flight) == (2, 1)


async def test_what_dramatiq_has_delayed_calls_for_a_worker_to_move_it(rabbitmq: RabbitmqServer, name: str) -> None:
    """It is in a queue of its own, with a due time that nobody can read but the worker that holds it in memory."""
    make: Any = RabbitmqBroker  # without types
    broker = make(url=rabbitmq.amqp("%2F"), middleware=[], confirm_delivery=True)
    actor = dramatiq.actor(broker=broker, queue_name=name, actor_name="hold")(print)
    amqp = f"{rabbitmq.amqp('%2F')}?queue={name}"
    async with await open_queue(rabbitmq.management(name)) as queue, await open_queue(amqp) as by_amqp:
        assert (await queue.depth()).waiting == (await by_amqp.depth()).waiting == 0
        await asyncio.to_thread(actor.send_with_options, delay=1)
        assert "1 message(s)" in (await codes(queue))["delay-queue"]
        assert "1 message(s)" in (await codes(by_amqp))["delay-queue"]
        depth = await queue.depth()
        assert (depth.waiting, depth.delayed, depth.exact) == (1, 0, False)
        assert (await by_amqp.depth()).waiting == 1
        await asyncio.to_thread(actor.send)
        assert ((await queue.depth()).waiting, (await by_amqp.depth()).waiting) == (2, 2)
        async with connected(rabbitmq) as channel:
            await (await channel.declare_queue(name + ".DQ", passive=True)).get(timeout=HANG_LIMIT_S)
            depth = await queue.depth()
            assert (depth.waiting, depth.delayed) == (1, 1), "a worker has it in memory until it is due"
    async with (
        await open_queue(rabbitmq.management(name + "?ignore_delayed=true")) as queue,
        await open_queue(amqp + "&ignore_delayed=true") as by_amqp,
    ):
        while (depth := await queue.depth()).waiting != 1:  # noqa: ASYNC110 - until the message is given back
            await asyncio.sleep(0.02)
        assert (depth.waiting, depth.delayed) == (1, 1)
        assert (await by_amqp.depth()).waiting == 1
        assert "delay-queue" not in {*await codes(queue), *await codes(by_amqp)}
    await asyncio.to_thread(broker.close)


async def test_settings_that_hurt_are_told(rabbitmq: RabbitmqServer, name: str) -> None:
    policy = {"pattern": f"^{name}-expires$", "definition": {"expires": 3_600_000}}
    rabbitmq.api("PUT", f"policies/%2F/{name}", json.dumps(policy))
    await publish(rabbitmq, name, 0)
    await publish(rabbitmq, f"{name}-timely", 0, arguments={"x-consumer-timeout": 7_200_000})
    await publish(rabbitmq, f"{name}-expires", 0)
    await publish(rabbitmq, f"{name}-single", 2, arguments={"x-single-active-consumer": True})
    await publish(rabbitmq, f"{name}-auto", 0, auto_delete=True)
    async with await open_queue(rabbitmq.management(name)) as queue:
        assert set(await codes(queue)) == {"short-lease", "in-flight-unknown"}
        assert "?acks_late=true" in (await codes(queue))["in-flight-unknown"]
    async with await open_queue(rabbitmq.management(name + "?acks_late=true")) as queue:
        assert set(await codes(queue)) == {"short-lease"}
        assert (await queue.info()).lease_s == 1800
    async with await open_queue(rabbitmq.management(f"{name}-single?acks_late=true")) as queue:
        assert set(await codes(queue)) == {"short-lease", "serialised"}
        depth = await queue.depth()
        assert (depth.waiting, depth.parallel_max) == (2, 1)
        assert not depth.exact, "no consumer was seen, so that it is not known whether they acknowledge"
    async with await open_queue(rabbitmq.management(f"{name}-auto?acks_late=true")) as queue:
        assert set(await codes(queue)) == {"short-lease", "vanishes"}
    async with await open_queue(rabbitmq.management(f"{name}-timely?acks_late=true")) as queue:
        assert not await codes(queue)
        assert (await queue.info()).lease_s == 7200
    async with await open_queue(rabbitmq.management(f"{name}-expires")) as queue:
        await asyncio.wait_for(warning_of(queue, "vanishes"), HANG_LIMIT_S)


async def test_a_quorum_queue_is_five_seconds_late_and_says_so(rabbitmq: RabbitmqServer, name: str) -> None:
    async with await open_queue(rabbitmq.management(name + "?acks_late=true")) as queue:
        assert "missing" in await codes(queue)
        assert (await queue.info()).lag_s == 5, "it may become a quorum queue"
        await publish(rabbitmq, name, 2, arguments={"x-queue-type": "quorum"})
        assert (await queue.info()).lag_s == 5
        async with await open_queue(f"{rabbitmq.amqp()}?queue={name}") as by_amqp:
            assert (await by_amqp.depth()).waiting == 2
        while (depth := await queue.depth()).waiting != 2:  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.1)
        assert depth.in_flight == 0


async def test_a_stream_is_refused(rabbitmq: RabbitmqServer, name: str) -> None:
    await publish(rabbitmq, name, 1, arguments={"x-queue-type": "stream"})
    with pytest.raises(QueueError, match="is a stream"):
        await open_queue(rabbitmq.management(name))


async def test_names_and_virtual_hosts_with_odd_characters_are_read(rabbitmq: RabbitmqServer, name: str) -> None:
    vhost = f"v/{name}"
    rabbitmq.api("PUT", f"vhosts/{quote(vhost, safe='')}")
    rabbitmq.api("PUT", f"permissions/{quote(vhost, safe='')}/{USER}", '{"configure":".*","write":".*","read":".*"}')
    odd = f"{name}+x/y#z"
    connection = await aio_pika.connect(rabbitmq.amqp(quote(vhost, safe="")))
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(odd)
        await channel.default_exchange.publish(aio_pika.Message(b"job"), odd)
    path = f"{quote(vhost, safe='')}/{quote(odd, safe='')}"
    async with await open_queue(rabbitmq.management(path)) as queue:
        assert (await queue.depth()).waiting == 1
        assert (await queue.info()).name == f"{vhost}/{odd}"
    async with await open_queue(f"{rabbitmq.amqp(quote(vhost, safe=''))}?queue={quote(odd)}") as queue:
        assert (await queue.depth()).waiting == 1


async def test_many_queues_are_asked_for_at_once(rabbitmq: RabbitmqServer, name: str) -> None:
    count = 60
    async with connected(rabbitmq) as channel:
        for number in range(count):
            await channel.declare_queue(f"{name}-{number}", durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"job"), f"{name}-7")
    queues: list[Any] = [await open_queue(rabbitmq.management(f"{name}-{number}")) for number in range(count)]
    try:
        asked: list[list[str]] = []
        batch = queues[0]._api._counts
        ask = batch._ask

        async def noting(names: list[str]) -> Any:
            asked.append(names)
            return await ask(names)

        batch._ask = noting
        depths = await asyncio.gather(*(queue.depth() for queue in queues))
        assert [depth.waiting for depth in depths] == [int(number == 7) for number in range(count)]
        assert [len(names) for names in asked] == [count]
    finally:
        for queue in queues:
            await queue.close()


@pytest.mark.long
async def test_a_server_that_was_down_is_read_again(rabbitmq: RabbitmqServer, name: str) -> None:
    """While it is down, reading fails over both ways; when it is back, durable messages are counted again."""
    await publish(rabbitmq, name, 2)
    async with (
        await open_queue(rabbitmq.management(name)) as by_http,
        await open_queue(f"{rabbitmq.amqp()}?queue={name}") as by_amqp,
    ):
        for queue in (by_http, by_amqp):
            assert (await queue.depth()).waiting == 2
        rabbitmq.stop()
        for queue in (by_http, by_amqp):
            for read in (queue.depth, queue.info):
                with pytest.raises(QueueError, match=r"^RabbitMQ.*\.$") as failed:
                    await read()
                assert PASSWORD not in str(failed.value)
        rabbitmq.start()
        for queue in (by_http, by_amqp):
            assert (await queue.depth()).waiting == 2


async def test_a_connection_that_the_server_closed_is_made_again(rabbitmq: RabbitmqServer, name: str) -> None:
    await publish(rabbitmq, name, 1)
    queue: Any = await open_queue(f"{rabbitmq.amqp()}?queue={name}")
    async with queue:
        await queue._connection.transport.connection.close()
        assert (await queue.depth()).waiting == 1
