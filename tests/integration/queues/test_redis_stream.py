"""The Redis stream passes the conformance kit, and its traps are rules or warnings."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis

from nullworker.queues.base import QueueError, TakenJob
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.killed import AtJob, take_one
from tests.integration.queues.told import check_told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.queues.redis_server import RedisDatabase


CLAIM_AFTER_S = 600


class StreamDriver(QueueDriver):
    """A group with one consumer that reads one entry at a time, and first claims what others have left."""

    tells_delayed = False
    abandons = True
    names_consumers = True

    def __init__(self, client: Any, url: str) -> None:
        super().__init__(
            url,
            bad_urls=[
                url.partition("&")[0],
                url + "&acks_late=perhaps",
                url + "&claim_after=soon",
                url + "&claim_after=0",
            ],
        )
        self.client = client

    async def produce(self, count: int) -> None:
        for number in range(count):
            self.client.xadd("jobs", {"number": number})
        if not self.client.xinfo_groups("jobs"):
            self.client.xgroup_create("jobs", "workers", "0")

    async def consume_one_start(self) -> bytes:
        _, claimed, *_ = self.client.xautoclaim("jobs", "workers", "me", CLAIM_AFTER_S * 1000, count=1)
        if claimed:
            return bytes(claimed[0][0])
        ((_, ((job, _fields),)),) = self.client.xreadgroup("workers", "me", {"jobs": ">"}, count=1)
        return bytes(job)

    async def taken(self, job: bytes) -> TakenJob:
        return TakenJob(job.decode(), "me")

    async def consume_one_to_kill(self) -> AtJob:
        return await take_one("redis-stream", self.url.replace("redis-stream:", "redis:").partition("?")[0])

    async def abandon(self, job: AtJob | bytes) -> None:
        if isinstance(job, AtJob):
            await job.kill()
            job = job.handle.encode()
        self.client.xclaim("jobs", "workers", "me", 0, [job], idle=CLAIM_AFTER_S * 1000 + 1, justid=True)

    async def finish(self, job: bytes) -> None:
        assert self.client.xack("jobs", "workers", job) == 1


@pytest.fixture
def client(database: RedisDatabase) -> Iterator[Any]:
    with redis.Redis.from_url(database.url) as client:
        yield client


@pytest.fixture
def url(database: RedisDatabase) -> str:
    return f"redis-stream://{database.address}?stream=jobs&group=workers"


async def test_it_passes_the_conformance_kit(client: Any, url: str) -> None:
    driver = StreamDriver(client, f"{url}&claim_after={CLAIM_AFTER_S}")
    result = await check_queue(driver)
    check_told(driver, result)
    assert result.info.pushes, "a blocking XREAD without a group needs no server setting"
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_a_group_that_does_not_exist_yet_has_the_whole_stream_to_read(client: Any, url: str) -> None:
    client.xadd("jobs", {"number": 1})
    async with await open_queue(url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight) == (1, 0)
        assert [warning.code for warning in (await queue.info()).warnings] == ["no-group"]


async def test_where_redis_does_not_know_the_lag_entries_are_counted_up_to_a_bound(client: Any, url: str) -> None:
    """After XDEL among the undelivered, the lag is unknown to Redis: the adapter counts, and says where it stops."""
    ids = [client.xadd("jobs", {"number": number}) for number in range(400)]
    client.xgroup_create("jobs", "workers", "0")
    client.xreadgroup("workers", "me", {"jobs": ">"}, count=1)
    client.xdel("jobs", ids[-2])
    async with await open_queue(url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (256, 1, False)
        client.xdel("jobs", *ids[5:-2])
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (5, 1, True)


async def test_entries_that_were_removed_before_the_group_read_them_do_not_wait_for_ever(client: Any, url: str) -> None:
    """Redis 7 goes on counting them in the group's lag (redis/redis#13957)."""

    def read(count: int) -> None:
        for _, entries in client.xreadgroup("workers", "me", {"jobs": ">"}, count=count):
            client.xack("jobs", "workers", *[job for job, _ in entries])

    for _ in range(3):
        client.xadd("jobs", {"number": 1})
    client.xgroup_create("jobs", "workers", "0")
    read(1)
    for _ in range(20):
        client.xadd("jobs", {"number": 1}, maxlen=5, approximate=False)
    async with await open_queue(url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (5, 0, True)
        read(3)
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (2, 0, True)
        read(100)
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (0, 0, True)
        client.xadd("jobs", {"number": 1})
        assert (await queue.depth()).waiting == 1


async def test_an_entry_that_was_deleted_before_the_group_read_it_does_not_wait_for_ever(client: Any, url: str) -> None:
    ids = [client.xadd("jobs", {"number": number}) for number in range(4)]
    client.xgroup_create("jobs", "workers", "0")
    client.xreadgroup("workers", "me", {"jobs": ">"}, count=2)
    client.xdel("jobs", ids[2])
    async with await open_queue(url) as queue:
        assert (await queue.depth()).waiting == 1
        client.xreadgroup("workers", "me", {"jobs": ">"}, count=2)
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (0, 3, True)


async def test_an_entry_that_is_deleted_and_never_acknowledged_is_no_job(client: Any, url: str) -> None:
    """Redis has it as pending for ever."""
    driver = StreamDriver(client, url)
    await driver.produce(3)
    ((_, entries),) = client.xreadgroup("workers", "me", {"jobs": ">"}, count=3)
    new, old, at_work = (job for job, _fields in entries)
    await driver.abandon(old)
    client.xdel("jobs", new, old)
    for more, abandoned in (("", None), (f"&claim_after={CLAIM_AFTER_S}", 0)):
        async with await open_queue(url + more) as queue:
            depth = await queue.depth()
            assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 1, abandoned)
    await driver.finish(at_work)
    async with await open_queue(url) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (0, 0, 0)


async def test_if_consumers_acknowledge_first_what_is_in_flight_is_unknown(client: Any, url: str) -> None:
    """What is idle beyond the claim time was read by a consumer that died before it could acknowledge."""
    driver = StreamDriver(client, url)
    await driver.produce(3)
    await driver.finish(await driver.consume_one_start())
    await driver.abandon(await driver.consume_one_start())
    async with await open_queue(f"{url}&acks_late=false&claim_after={CLAIM_AFTER_S}") as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.abandoned) == (1, None, 1)


async def test_a_user_who_may_run_no_scripts_reads_the_same(client: Any, url: str) -> None:
    ids = [client.xadd("jobs", {"number": number}) for number in range(4)]
    client.xgroup_create("jobs", "workers", "0")
    client.xreadgroup("workers", "me", {"jobs": ">"}, count=1)
    client.xdel("jobs", ids[1])
    commands = ["+multi", "+exec", "+select", "+xinfo", "+xrange", "+xrevrange", "+xread", "+xpending"]
    client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["jobs"], commands=commands)
    async with await open_queue(url.replace("://", "://reader:pw@")) as queue:
        depth = await queue.depth()
        assert (depth.waiting, depth.in_flight, depth.exact) == (2, 1, True)


async def test_a_consumer_that_holds_several_messages_is_told_of(client: Any, url: str) -> None:
    driver = StreamDriver(client, url)
    await driver.produce(3)
    client.xreadgroup("workers", "greedy", {"jobs": ">"}, count=2)
    async with await open_queue(url) as queue:
        (warning, lease) = (await queue.info()).warnings
        assert (warning.code, lease.code) == ("prefetch", "no-lease")
        assert "holds 2 messages" in warning.message


async def test_messages_idle_beyond_the_claim_time_are_told_of(client: Any, url: str) -> None:
    driver = StreamDriver(client, url)
    await driver.produce(1)
    await driver.consume_one_start()
    async with await open_queue(url) as queue:
        assert [warning.code for warning in (await queue.info()).warnings] == ["no-lease"]
        assert (await queue.info()).lease_s is None
    async with await open_queue(url + "&claim_after=0.001") as queue:
        await asyncio.sleep(0.01)
        info = await queue.info()
        assert info.lease_s == 0.001
        assert [warning.code for warning in info.warnings] == ["idle-pending"]


async def test_where_redis_cannot_tell_how_long_entries_are_idle_it_is_unknown(
    client: Any, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before version 6.2, which has no such argument."""
    driver = StreamDriver(client, url)
    await driver.produce(1)
    await driver.consume_one_start()
    queue: Any = await open_queue(url + "&claim_after=0.001")
    async with queue:
        await asyncio.sleep(0.01)
        assert (await queue.depth()).abandoned == 1
        ask = queue.broker.ask

        async def older(*command: object, **options: object) -> Any:
            return await ask(*("IDLING" if part == "IDLE" else part for part in command), **options)

        monkeypatch.setattr(queue.broker, "ask", older)
        depth = await queue.depth()
        assert (depth.in_flight, depth.abandoned) == (1, None)
        assert (await queue.info()).lease_s == 0.001


async def test_a_key_that_is_no_stream_is_refused(client: Any, url: str) -> None:
    client.rpush("jobs", "a list")
    with pytest.raises(QueueError, match="holds something else than such a queue"):
        await open_queue(url)


async def test_changes_between_two_readings_of_a_burst_count_once(client: Any, url: str) -> None:
    driver = StreamDriver(client, url)
    async with await open_queue(url) as queue:
        await driver.produce(100)
        assert await queue.changed(30)
        assert not await queue.changed(0.05)
