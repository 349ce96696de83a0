"""The NATS adapter against a real server with real consumers: what it counts, and what wakes it."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import nats
import pytest
import pytest_asyncio
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import NotFoundError

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.killed import AtJob, take_one
from tests.integration.queues.nats_server import PASSWORD, USER, NatsServer, nats_server
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from nats.aio.client import Client
    from nats.aio.msg import Msg

    from nullworker.queues.base import Queue

STREAM = "JOBS"
CONSUMER = "workers"
HANG_LIMIT_S = 20
ABANDONED_LEASE_S = 0.5


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    async with connected(server) as connection:
        yield connection


@contextlib.asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Client]:
    connection = await nats.connect(server.address)
    try:
        yield connection
    finally:
        await connection.close()


def url(server: NatsServer, more: str = "") -> str:
    return server.url(f"stream={STREAM}&consumer={CONSUMER}{more}")


class NatsDriver(QueueDriver):
    """A stream with one subject, and a durable pull consumer that fetches one message at a time."""

    tells_delayed = False
    abandons = True
    breaks = True

    def __init__(self, server: NatsServer) -> None:
        address = f"127.0.0.1:{server.port}"
        names = f"stream={STREAM}&consumer={CONSUMER}"
        super().__init__(
            url(server),
            secret=PASSWORD,
            bad_urls=(
                server.url(f"stream={STREAM}"),
                server.url(f"consumer={CONSUMER}"),
                server.url(names + "&queue=x"),
                server.url(names + "&acks_late=perhaps"),
                server.url(names + "&creds=/does/not/exist"),
                f"nats://{USER}:wrong-{PASSWORD}@{address}?{names}",
                f"nats://{address}?{names}",
                f"nats://{USER}:{PASSWORD}@127.0.0.1:1?{names}",
                server.url("stream=a.b&consumer=c"),
            ),
        )
        self.server = server
        self.produced = 0

    async def produce(self, count: int) -> None:
        async with connected(self.server) as client:
            await client.jetstream().add_stream(name=STREAM, subjects=["jobs.*"])
            for _ in range(count):
                await client.jetstream().publish("jobs.render", b"job")

    async def consume_one_start(self) -> tuple[Client, Msg]:
        client = await nats.connect(self.server.address)
        subscription = await client.jetstream().pull_subscribe("jobs.render", durable=CONSUMER, stream=STREAM)
        (message,) = await subscription.fetch(1, timeout=HANG_LIMIT_S)
        return client, message

    async def finish(self, job: tuple[Client, Msg]) -> None:
        client, message = job
        await message.ack_sync()
        await client.close()

    async def consume_one_to_kill(self) -> AtJob:
        return await take_one("nats", self.server.address, "jobs.render", CONSUMER, STREAM)

    async def abandon(self, job: AtJob) -> None:
        """The lease is changed to be over soon."""
        assert int(job.handle) == 1  # delivered once
        async with connected(self.server) as client:
            config = (await client.jetstream().consumer_info(STREAM, CONSUMER)).config
            config.ack_wait = ABANDONED_LEASE_S
            await client.jetstream().add_consumer(STREAM, config)
        await job.kill()
        await asyncio.sleep(ABANDONED_LEASE_S)

    async def stop_broker(self) -> None:
        await asyncio.to_thread(self.server.stop)

    async def start_broker(self) -> None:
        await asyncio.to_thread(self.server.start)


async def test_it_passes_the_conformance_kit(server: NatsServer) -> None:
    driver = NatsDriver(server)
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def codes(queue: Queue) -> dict[str, str]:
    return {warning.code: warning.message for warning in (await queue.info()).warnings}


async def depth_of(queue: Queue) -> tuple[int, int | None, int]:
    depth = await queue.depth()
    return (depth.waiting, depth.in_flight, depth.redelivered)


async def add_stream(client: Client, *bodies: str, **settings: Any) -> None:
    await client.jetstream().add_stream(name=STREAM, subjects=["jobs.>"], **settings)
    for subject in bodies:
        await client.jetstream().publish(subject, b"job")


async def add_consumer(client: Client, **settings: Any) -> None:
    settings = {"durable_name": CONSUMER, "ack_policy": AckPolicy.EXPLICIT, **settings}
    await client.jetstream().add_consumer(STREAM, ConsumerConfig(**settings))


async def test_before_there_is_a_consumer_the_stream_is_what_waits(server: NatsServer, client: Client) -> None:
    """With a subject in the URL only its messages wait; and nothing is in flight, for no consumer was given any."""
    async with await open_queue(url(server)) as queue, await open_queue(url(server, "&subject=jobs.render")) as some:
        assert await depth_of(queue) == (0, 0, 0)
        assert "There is no stream JOBS" in (await codes(queue))["missing"]
        await add_stream(client, "jobs.render", "jobs.render", "jobs.other")
        assert await depth_of(queue) == (3, 0, 0)
        assert not (await queue.depth()).exact, "another consumer may be at work"
        assert await depth_of(some) == (2, 0, 0)
        assert "There is no consumer workers" in (await codes(queue))["missing"]
        await add_consumer(client, filter_subject="jobs.other")
        assert await depth_of(queue) == (1, 0, 0)
        assert (await queue.depth()).exact
        assert "missing" not in await codes(queue)
        await client.jetstream().delete_stream(STREAM)
        assert await depth_of(queue) == (0, 0, 0)


async def test_a_stream_that_is_made_wakes_who_waits_for_it(server: NatsServer, client: Client) -> None:
    async with await open_queue(url(server)) as queue:
        assert not await queue.changed(0.1)
        await add_stream(client)
        assert await queue.changed(HANG_LIMIT_S)
        assert not await queue.changed(0.1)
        await client.jetstream().publish("jobs.render", b"job")
        assert await queue.changed(HANG_LIMIT_S)


async def test_a_wake_up_costs_one_message_however_many_are_published(server: NatsServer, client: Client) -> None:
    await add_stream(client)
    async with await open_queue(url(server)) as queue:
        for burst in range(3):
            for _ in range(200):
                await client.jetstream().publish("jobs.render", b"x" * 1000)
            assert await queue.changed(HANG_LIMIT_S), burst
            while await queue.changed(0.1):
                pass
        stats = queue._client.stats  # type: ignore[attr-defined]  # what reached the adapter, by NATS' own count
        assert stats["in_bytes"] < 20_000, stats


async def test_only_the_consumers_own_subjects_wake(server: NatsServer, client: Client) -> None:
    await add_stream(client)
    await add_consumer(client, filter_subject="jobs.render")
    async with await open_queue(url(server)) as queue:
        await client.jetstream().publish("jobs.other", b"job")
        assert not await queue.changed(0.2)
        await client.jetstream().publish("jobs.render", b"job")
        assert await queue.changed(HANG_LIMIT_S)


async def test_subjects_that_take_in_everything_are_not_listened_to(server: NatsServer, client: Client) -> None:
    """A subject that begins with a wildcard could bring the adapter its own replies, and wake it for ever."""
    await client.jetstream().add_stream(name=STREAM, subjects=["*.jobs"])
    async with await open_queue(url(server)) as queue:
        assert not (await queue.info()).pushes
        await client.jetstream().publish("render.jobs", b"job")
        assert not await queue.changed(0.1)
        assert await depth_of(queue) == (1, 0, 0)


async def test_without_acknowledgements_in_flight_is_unknown(server: NatsServer, client: Client) -> None:
    await add_stream(client, "jobs.render", "jobs.render")
    await add_consumer(client, ack_policy=AckPolicy.NONE)
    async with await open_queue(url(server)) as queue:
        subscription = await client.jetstream().pull_subscribe_bind(CONSUMER, STREAM)
        await subscription.fetch(1, timeout=HANG_LIMIT_S)
        assert await depth_of(queue) == (1, None, 0)
        assert "early-ack" in await codes(queue)
        assert (await queue.info()).lease_s is None


async def test_if_consumers_acknowledge_first_what_is_in_flight_is_unknown(server: NatsServer, client: Client) -> None:
    """A message that is still not acknowledged after its lease is one whose consumer died before it could."""
    await add_stream(client, "jobs.render", "jobs.render")
    await add_consumer(client, ack_wait=0.3)
    async with await open_queue(url(server, "&acks_late=false")) as queue:
        subscription = await client.jetstream().pull_subscribe_bind(CONSUMER, STREAM)
        (message,) = await subscription.fetch(1, timeout=HANG_LIMIT_S)
        await message.ack_sync()
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (1, None, 0)
        await subscription.fetch(1, timeout=HANG_LIMIT_S)
        while not (depth := await queue.depth()).abandoned:  # noqa: ASYNC110 - until the lease is over
            await asyncio.sleep(0.05)
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, None, 1)


async def test_what_a_consumer_has_done_is_no_demand_when_the_consumer_vanishes(
    server: NatsServer, client: Client
) -> None:
    """A stream that keeps its messages shows all of them as waiting for the next consumer of that name."""
    await add_stream(client, "jobs.render", "jobs.render", "jobs.render")
    await add_consumer(client, inactive_threshold=1, ack_wait=7200)
    async with await open_queue(url(server)) as queue, await open_queue(url(server, "&subject=jobs.render")) as some:
        assert set(await codes(queue)) == {"vanishes"}
        subscription = await client.jetstream().pull_subscribe_bind(CONSUMER, STREAM)
        for _ in range(2):
            (message,) = await subscription.fetch(1, timeout=HANG_LIMIT_S)
            await message.ack_sync()
        assert await depth_of(queue) == await depth_of(some) == (1, 0, 0)
        await client.jetstream().delete_consumer(STREAM, CONSUMER)  # as the server does
        assert await depth_of(queue) == await depth_of(some) == (1, 0, 0)
        assert "missing" in await codes(queue)
        await client.jetstream().publish("jobs.render", b"job")
        assert await depth_of(queue) == await depth_of(some) == (2, 0, 0)
        await client.jetstream().delete_stream(STREAM)
        await add_stream(client, "jobs.render")
        assert await depth_of(queue) == (1, 0, 0)


async def test_a_message_given_out_again_is_still_in_flight_once(server: NatsServer, client: Client) -> None:
    await add_stream(client, "jobs.render")
    await add_consumer(client, ack_wait=0.3)
    subscription = await client.jetstream().pull_subscribe_bind(CONSUMER, STREAM)
    async with await open_queue(url(server)) as queue:
        await subscription.fetch(1, timeout=HANG_LIMIT_S)
        assert await depth_of(queue) == (0, 1, 0)
        (again,) = await subscription.fetch(1, timeout=HANG_LIMIT_S)
        assert again.metadata.num_delivered == 2
        assert await depth_of(queue) == (0, 1, 1)
        assert "redelivered" in await codes(queue)


async def test_settings_that_hurt_are_told(server: NatsServer, client: Client) -> None:
    await add_stream(client)
    await add_consumer(client, max_ack_pending=4, ack_wait=30)
    async with await open_queue(url(server)) as queue:
        assert (await queue.info()).lease_s == 30
        assert (await queue.depth()).parallel_max == 4
        warnings = await codes(queue)
        assert "at most 4 message(s)" in warnings["max-ack-pending"]
        assert "longer than 30 s" in warnings["short-lease"]
        await client.jetstream().delete_consumer(STREAM, CONSUMER)
        await add_consumer(client, ack_wait=7200, max_ack_pending=100)
        assert not await codes(queue)
        await client.jetstream().delete_consumer(STREAM, CONSUMER)
        await add_consumer(client, ack_policy=AckPolicy.ALL, deliver_subject="to.me", backoff=[60, 7200], max_deliver=3)
        assert set(await codes(queue)) == {"ack-all", "prefetch", "short-lease"}
        assert (await queue.info()).lease_s == 60


async def test_a_server_without_jetstream_is_told_as_that(tmp_path: Path) -> None:
    with nats_server(tmp_path, jetstream=False) as server, pytest.raises(QueueError, match=r"has no JetStream.*-js\.$"):
        await open_queue(url(server))


async def test_a_token_opens_a_server_that_asks_for_one(tmp_path: Path) -> None:
    with nats_server(tmp_path, token="t0ken") as server:
        names = f"stream={STREAM}&consumer={CONSUMER}"
        async with await open_queue(f"nats://t0ken@127.0.0.1:{server.port}?{names}") as queue:
            assert await depth_of(queue) == (0, 0, 0)
        with pytest.raises(QueueError, match="Authorization"):
            await open_queue(f"nats://wrong@127.0.0.1:{server.port}?{names}")


async def test_the_adapter_takes_nothing_and_makes_nothing(server: NatsServer, client: Client) -> None:
    """Neither a consumer nor a stream comes into being by reading."""
    async with await open_queue(url(server)) as queue:
        await queue.depth()
        await queue.info()
        await queue.changed(0.01)
        with pytest.raises(NotFoundError):
            await client.jetstream().stream_info(STREAM)
        await add_stream(client, "jobs.render")
        await queue.depth()
        info = await client.jetstream().stream_info(STREAM)
        assert (info.state.messages, info.state.consumer_count) == (1, 0)
