"""The Redis list passes the conformance kit; and what is true of every queue on Redis: errors, pushes, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest
import redis

from nullworker.queues import _redis_broker
from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.testing.queues import QueueDriver, check_queue
from tests.integration.queues.killed import AtJob, take_one
from tests.integration.queues.redis_server import RedisDatabase, redis_server
from tests.integration.queues.told import check_told
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class ListDriver(QueueDriver):
    """Consumers move an element to a second list while they work on it, and put back what the dead left there."""

    tells_delayed = False
    abandons = True

    def __init__(self, client: redis.Redis, url: str, **rest: object) -> None:
        super().__init__(url, **rest)  # type: ignore[arg-type]  # passed on
        self.client = client
        self.left: list[bytes] = []

    async def produce(self, count: int) -> None:
        self.client.rpush("jobs", *[f"job {number}" for number in range(count)])

    async def consume_one_start(self) -> bytes:
        for job in self.left:
            await self.finish(job)
            self.client.lpush("jobs", job)
        self.left.clear()
        moved = self.client.lmove("jobs", "doing", "LEFT", "RIGHT")
        assert isinstance(moved, bytes)
        return moved

    async def finish(self, job: bytes) -> None:
        assert self.client.lrem("doing", 1, job.decode()) == 1

    async def consume_one_to_kill(self) -> AtJob:
        return await take_one("redis-list", self.url.replace("redis-list:", "redis:").partition("?")[0])

    async def abandon(self, job: AtJob) -> None:
        await job.kill()
        self.left.append(job.handle.encode())


class BareListDriver(ListDriver):
    """Consumers pop, and what they work on is not visible."""

    tells_in_flight = False
    abandons = False  # what is popped is lost with its consumer

    async def consume_one_start(self) -> bytes:
        job = self.client.lpop("jobs")
        assert isinstance(job, bytes)
        return job

    async def finish(self, job: bytes) -> None:
        pass


@contextlib.contextmanager
def client_of(port: int, number: int = 0, **rest: object) -> Iterator[redis.Redis]:
    with contextlib.closing(redis.Redis(port=port, db=number, **rest)) as client:  # type: ignore[arg-type]
        yield client


async def test_with_a_processing_list_it_passes_the_kit(database: RedisDatabase) -> None:
    with client_of(database.port, database.number) as client:
        url = f"redis-list://{database.address}?key=jobs&processing=doing&lease=60"
        bad = (
            f"redis-list://{database.address}",
            f"redis-list://{database.address}?key=",
            f"redis-list://{database.address}?kee=jobs",
            f"redis-list://{database.address}?key=jobs&key=more",
            f"redis-list://{database.address}?key=jobs#more",
            f"redis-list://127.0.0.1:{database.port}/jobs?key=jobs",
            f"redis-list://127.0.0.1:{database.port}/9999?key=jobs",
            f"redis-list://127.0.0.1:{free_port()}/0?key=jobs",
            "redis-list:///0?key=jobs",
            "redis-list://127.0.0.1:port/0?key=jobs",
            f"redis-lisst://{database.address}?key=jobs",
            "redis-list",
        )
        driver = ListDriver(client, url, bad_urls=bad)
        result = await check_queue(driver)
        check_told(driver, result)
    assert result.info.pushes
    assert result.info.warnings == ()
    assert min(result.push_delays_s) < 1.0, result.push_delays_s


async def test_without_one_what_is_in_flight_is_unknown_and_it_warns(database: RedisDatabase) -> None:
    with client_of(database.port, database.number) as client:
        driver = BareListDriver(client, f"redis-list://{database.address}?key=jobs")
        result = await check_queue(driver)
        check_told(driver, result)
    assert [warning.code for warning in result.info.warnings] == ["early-ack"]


async def test_a_server_that_does_not_notify_is_not_told_to(tmp_path: Path) -> None:
    """Without keyspace notifications the adapter polls, and leaves the server's setting as it is."""
    with redis_server(tmp_path) as broker, client_of(broker.port) as client:
        url = f"redis-list://127.0.0.1:{broker.port}/0?key=jobs&processing=doing"
        driver = ListDriver(client, url)
        result = await check_queue(driver)
        check_told(driver, result)
        assert not result.info.pushes
        assert client.config_get("notify-keyspace-events") == {"notify-keyspace-events": ""}


async def test_a_broker_that_goes_and_comes_back_is_read_again(tmp_path: Path) -> None:
    with contextlib.ExitStack() as cleanup:
        port = free_port()
        server = contextlib.ExitStack()
        cleanup.callback(server.close)

        class Breaking(ListDriver):
            breaks = True

            async def stop_broker(self) -> None:
                server.close()

            async def start_broker(self) -> None:
                server.enter_context(redis_server(tmp_path, "--notify-keyspace-events", "KA", port=port))

        server.enter_context(redis_server(tmp_path, "--notify-keyspace-events", "KA", port=port))
        client = cleanup.enter_context(client_of(port))
        await check_queue(Breaking(client, f"redis-list://127.0.0.1:{port}/0?key=jobs&processing=doing"))


async def test_changed_tells_of_what_may_have_happened_while_the_broker_was_away(tmp_path: Path) -> None:
    port = free_port()
    settings = ("--notify-keyspace-events", "KA")
    with redis_server(tmp_path, *settings, port=port):
        queue = await open_queue(f"redis-list://127.0.0.1:{port}/0?key=jobs")
    async with queue:
        waiting = asyncio.create_task(queue.changed(60))
        with pytest.raises(QueueError, match="does not answer"):
            await waiting
        with pytest.raises(QueueError, match="does not answer"):
            await queue.changed(60)
        with redis_server(tmp_path, *settings, port=port):
            assert await queue.changed(60)
            assert not await queue.changed(0.05)


async def test_changes_of_a_burst_count_as_few(database: RedisDatabase) -> None:
    with client_of(database.port, database.number) as client:
        async with await open_queue(f"redis-list://{database.address}?key=jobs") as queue:
            for number in range(200):
                client.rpush("jobs", number)
            assert await queue.changed(30)
            told = 1
            while await queue.changed(0.2):
                told += 1
            assert told < 20


async def test_a_password_is_needed_used_and_never_shown(tmp_path: Path) -> None:
    secret = "sw0rd:fish@/%"  # every character that a URL could trip over
    quoted = "sw0rd%3Afish%40%2F%25"
    with redis_server(tmp_path, "--requirepass", secret) as broker, client_of(broker.port, password=secret) as client:
        place = f"127.0.0.1:{broker.port}/0?key=jobs&processing=doing"
        driver = ListDriver(client, f"redis-list://:{quoted}@{place}", secret=secret)
        await check_queue(driver)
        for url in (f"redis-list://{place}", f"redis-list://:wr0ng@{place}", f"redis-list://me:wr0ng@{place}"):
            with pytest.raises(QueueError, match="refused the user or password") as caught:
                await open_queue(url)
            assert "wr0ng" not in str(caught.value)
        with pytest.raises(QueueError) as caught:
            await open_queue(f"redis-list://:{quoted}@{place}&more=1")
        assert quoted not in str(caught.value)


async def test_a_user_who_may_not_read_or_ask_is_told_so(tmp_path: Path) -> None:
    with redis_server(tmp_path) as broker, client_of(broker.port) as client:
        client.acl_setuser(
            "reader", enabled=True, passwords=["+pw"], keys=["jobs"], commands=["+llen", "+multi", "+exec"]
        )
        place = f"127.0.0.1:{broker.port}/0"
        async with await open_queue(f"redis-list://reader:pw@{place}?key=jobs") as queue:
            assert (await queue.depth()).waiting == 0
            assert not (await queue.info()).pushes
        with pytest.raises(QueueError, match=r"forbids its user to read this \(.*\); allow it with ACL SETUSER\.$"):
            await open_queue(f"redis-list://reader:pw@{place}?key=other")


async def test_a_key_of_another_type_is_refused(database: RedisDatabase) -> None:
    with client_of(database.port, database.number) as client:
        client.set("jobs", "a string")
        with pytest.raises(QueueError, match="holds something else than such a queue"):
            await open_queue(f"redis-list://{database.address}?key=jobs")


async def test_a_broker_that_accepts_and_never_answers_is_an_error_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_redis_broker, "ANSWER_LIMIT_S", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(QueueError, match="does not answer"):
            await open_queue(f"redis-list://127.0.0.1:{port}/0?key=jobs")


def make_certificate(directory: Path) -> None:
    """key.pem and cert.pem for the name localhost."""
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost"
    subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)


async def test_tls_is_spoken_and_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    make_certificate(tmp_path)
    settings = ["--tls-port", str(port), "--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"]
    with redis_server(tmp_path, *settings, "--tls-auth-clients", "no") as broker:
        trusted = f"redis-list+tls://localhost:{port}/0?key=jobs&tls_ca={tmp_path}/cert.pem"
        async with await open_queue(trusted) as queue:
            assert (await queue.depth()).waiting == 0
        monkeypatch.setattr(_redis_broker, "ANSWER_LIMIT_S", 0.5)
        for url in (
            f"redis-list+tls://localhost:{port}/0?key=jobs",  # signed by an unknown authority
            f"redis-list+tls://127.0.0.1:{port}/0?key=jobs&tls_ca={tmp_path}/cert.pem",  # it is for another name
            f"redis-list://localhost:{port}/0?key=jobs",  # no TLS
            f"redis-list+tls://localhost:{broker.port}/0?key=jobs",  # TLS to a port that speaks none
        ):
            with pytest.raises(QueueError, match="does not answer"):
                await open_queue(url)
