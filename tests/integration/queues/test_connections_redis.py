"""Redis is reached in each of the ways that docs/queues.md lists, with the real server, Sentinel and Cluster.

What all adapters on Redis share is shown by the one for lists.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.crc import key_slot

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from tests.integration.queues.brokers import program, running
from tests.integration.queues.redis_server import redis_server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.queues.certificates import Certificates
    from tests.integration.queues.redis_server import RedisDatabase

HANG_LIMIT_S = 60.0
PASSWORD = "s3cret:pass@/%"
QUOTED = "s3cret%3Apass%40%2F%25"


async def waiting(url: str) -> int:
    async with await open_queue(url) as queue:
        return (await queue.depth()).waiting


async def codes(url: str) -> set[str]:
    async with await open_queue(url) as queue:
        await queue.depth()
        return {warning.code for warning in (await queue.info()).warnings}


def command(client: redis.Redis, *words: object) -> Any:
    return client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py gives it no types


async def refusal(url: str) -> str:
    with pytest.raises(QueueError) as caught:
        await open_queue(url)
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) <= 400
    return str(caught.value)


async def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + HANG_LIMIT_S
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


@pytest.fixture
def filled(database: RedisDatabase) -> RedisDatabase:
    with contextlib.closing(redis.Redis(port=database.port, db=database.number)) as client:
        client.rpush("jobs", "one")
    return database


@pytest.mark.connection("Redis plain")
async def test_the_librarys_url_follows_the_adapters_name(filled: RedisDatabase) -> None:
    host = f"127.0.0.1:{filled.port}"
    for url in (
        f"redis-list+redis://{host}/{filled.number}?key=jobs",
        f"redis-list+valkey://{host}?db={filled.number}&key=jobs",
        f"redis-list://{host}?virtual_host={filled.number}&key=jobs",
    ):
        assert await waiting(url) == 1
    said = await refusal(f"redis-list+http://:s3cret@{host}/0?key=jobs")
    assert said.startswith("redis-list+http://…: there is no such way to this broker; write one of redis-list, ")
    said = await refusal(f"redis-list://{host}/0?key=jobs&pasword=s3cret")
    assert "unknown parameter 'pasword' (known: db, key, " in said


@pytest.mark.connection("Redis client-settings")
async def test_settings_of_the_librarys_client_change_nothing(filled: RedisDatabase) -> None:
    url = f"redis-list://{filled.address}?key=jobs&socket_timeout=5&health_check_interval=30&max_connections=1"
    assert await waiting(url) == 1


async def test_a_user_and_a_password_may_be_parameters(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", PASSWORD) as broker:
        place = f"127.0.0.1:{broker.port}/0?key=jobs"
        assert await waiting(f"redis-list://{place}&username=default&password={QUOTED}") == 0
        assert await waiting(f"redis-list://default:{QUOTED}@{place}") == 0
        assert "refused the user or password" in await refusal(f"redis-list://{place}&password=s3cret")


@pytest.mark.connection("Redis ipv6")
@pytest.mark.connection("Redis unix")
async def test_an_ipv6_address_and_a_unix_socket(tmp_path: Path) -> None:
    port = free_port()
    with redis_server(tmp_path, "--bind", "127.0.0.1", "-::1", "--unixsocket", "r.sock", port=port):
        with contextlib.closing(redis.Redis(port=port, db=3)) as client:
            client.rpush("jobs", "one")
        assert await waiting(f"redis-list://[::1]:{port}/3?key=jobs") == 1
        for scheme in ("unix", "redis+socket"):
            assert await waiting(f"redis-list+{scheme}://{tmp_path}/r.sock?db=3&key=jobs") == 1
        said = await refusal(f"redis-list+unix://{tmp_path}/none.sock?key=jobs")
        assert f"Redis at {tmp_path}/none.sock does not answer" in said


@pytest.fixture(scope="module")
def tls_port(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A Redis with TLS that takes clients with and without a certificate, and refuses other authorities'."""
    port = free_port()
    settings = ["--tls-port", str(port), "--tls-cert-file", str(certificates.server)]
    settings += ["--tls-key-file", str(certificates.server_key), "--tls-ca-cert-file", str(certificates.authority)]
    directory = tmp_path_factory.mktemp("redis-tls")
    with redis_server(directory, *settings, "--tls-auth-clients", "optional", "--bind", "127.0.0.1", "-::1"):
        yield port


@pytest.mark.connection("Redis tls")
@pytest.mark.connection("Redis authority")
async def test_tls_is_verified_with_the_authority_that_the_url_gives(tls_port: int, certificates: Certificates) -> None:
    for url in (
        f"redis-list+rediss://localhost:{tls_port}/0?key=jobs&ssl_ca_certs={certificates.authority}",
        f"redis-list+valkeys://[::1]:{tls_port}/0?key=jobs&tls_ca={certificates.authority}",
    ):
        assert await codes(url) == {"early-ack"}
    place = f"localhost:{tls_port}/0?key=jobs"
    assert "certificate" in await refusal(f"redis-list+tls://{place}")
    assert "certificate" in await refusal(f"redis-list+tls://{place}&tls_ca={certificates.stranger}")
    assert "tls_ca=/nowhere.pem cannot be used (No such file" in await refusal(
        f"redis-list+tls://{place}&tls_ca=/nowhere.pem"
    )
    assert "has no meaning without TLS" in await refusal(f"redis-list://{place}&ssl_cert_reqs=none")


@pytest.mark.connection("Redis unverified")
async def test_what_is_not_verified_is_asked_for_and_warned_of(tls_port: int, certificates: Certificates) -> None:
    """As with Heroku's Redis: signed by itself, for another name."""
    other_name = f"127.0.0.1:{tls_port}/0?key=jobs"
    for verify in ("ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "tls_verify=none"):
        assert "unverified-tls" in await codes(f"redis-list+rediss://{other_name}&{verify}")
    for verify in ("ssl_check_hostname=false", "tls_verify=chain"):
        url = f"redis-list+rediss://{other_name}&tls_ca={certificates.authority}&{verify}"
        assert "unverified-tls" in await codes(url)
        await refusal(f"redis-list+rediss://{other_name}&{verify}")  # the authority is checked all the same
    await refusal(f"redis-list+rediss://{other_name}&tls_ca={certificates.authority}")
    assert "should be one of none, cert_none" in await refusal(f"redis-list+rediss://{other_name}&ssl_cert_reqs=maybe")


@pytest.mark.connection("Redis client-certificate")
async def test_a_client_certificate_is_shown(tmp_path: Path, certificates: Certificates) -> None:
    port = free_port()
    settings = ["--tls-port", str(port), "--tls-cert-file", str(certificates.server)]
    settings += ["--tls-key-file", str(certificates.server_key), "--tls-ca-cert-file", str(certificates.authority)]
    with redis_server(tmp_path, *settings):
        place = f"redis-list+tls://localhost:{port}/0?key=jobs&tls_ca={certificates.authority}"
        assert await waiting(f"{place}&tls_cert={certificates.client}&tls_key={certificates.client_key}") == 0
        assert await waiting(f"{place}&ssl_certfile={certificates.client}&ssl_keyfile={certificates.client_key}") == 0
        await refusal(place)
        assert "tls_key is there without tls_cert" in await refusal(f"{place}&tls_key={certificates.client_key}")
        swapped = await refusal(f"{place}&tls_cert={certificates.client}&tls_key={certificates.server_key}")
        assert "cannot be used (it is not in PEM form, or the key is encrypted or another certificate's)" in swapped


@pytest.mark.connection("Redis failover")
async def test_of_several_servers_the_first_that_answers_is_read(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as second, contextlib.ExitStack() as first:
        for number, (port, stack) in enumerate(zip(ports, (first, second), strict=True), 1):
            directory = tmp_path / str(number)
            directory.mkdir()
            stack.enter_context(redis_server(directory, "--notify-keyspace-events", "KA", port=port))
            with contextlib.closing(redis.Redis(port=port)) as client:
                client.rpush("jobs", *["job"] * number)
        celery = f"celery+redis://localhost:{ports[0]}/0;redis://localhost:{ports[1]}/0?queue=jobs"
        async with (
            await open_queue(f"redis-list://localhost:{ports[0]},localhost:{ports[1]}/0?key=jobs") as queue,
            await open_queue(celery) as other,
        ):
            assert (await queue.depth()).waiting == (await other.depth()).waiting == 1
            first.close()
            assert (await queue.depth()).waiting == (await other.depth()).waiting == 2
            with contextlib.suppress(QueueError):
                await queue.changed(0.05)
            assert await queue.changed(HANG_LIMIT_S)  # the new server is listened to, and something may have happened
            assert not await queue.changed(0.05)
    assert "does not answer" in await refusal(f"redis-list://localhost:{ports[0]},localhost:{ports[1]}/0?key=jobs")


def failed_over(sentinel: redis.Redis) -> bool:
    """Has Sentinel put the replica in the master's place; False while it does not know the replica well enough."""
    try:
        return bool(command(sentinel, "SENTINEL", "FAILOVER", "mymaster"))
    except redis.ResponseError as error:
        if "NOGOODSLAVE" not in str(error):
            raise
        return False


@pytest.mark.connection("Redis sentinel")
async def test_sentinel_says_who_the_master_is(tmp_path: Path) -> None:
    """And says it again after a failover. Redis and Sentinel have passwords of their own."""
    access = ["--requirepass", PASSWORD, "--masterauth", PASSWORD]
    ports = [free_port(), free_port(), free_port()]
    for name in ("first", "second", "sentinel"):
        (tmp_path / name).mkdir()
    configuration = tmp_path / "sentinel" / "sentinel.conf"
    configuration.write_text(
        f"port {ports[2]}\nbind 127.0.0.1\nrequirepass s3cret-too\n"
        f"sentinel monitor mymaster 127.0.0.1 {ports[0]} 1\nsentinel auth-pass mymaster {PASSWORD}\n"
    )
    with (
        contextlib.ExitStack() as master,
        redis_server(tmp_path / "second", *access, "--replicaof", f"127.0.0.1 {ports[0]}", port=ports[1]),
        contextlib.closing(redis.Redis(port=ports[0], password=PASSWORD)) as first,
        contextlib.closing(redis.Redis(port=ports[1], password=PASSWORD)) as second,
        contextlib.closing(redis.Redis(port=ports[2], password="s3cret-too")) as sentinel,
    ):
        master.enter_context(redis_server(tmp_path / "first", *access, port=ports[0]))
        first.rpush("jobs", "one")
        await until(lambda: second.exists("jobs"))
        server = [program("redis-server"), str(configuration), "--sentinel"]
        with running(server, port=ports[2], directory=tmp_path / "sentinel"):
            command(sentinel, "SENTINEL", "DEBUG", "INFO-PERIOD", 100)
            place = f":{QUOTED}@localhost:{free_port()},localhost:{ports[2]}/0?key=jobs"
            url = f"redis-list+sentinel://{place}&master_name=mymaster&sentinel_password=s3cret-too"
            async with await open_queue(url) as queue:
                assert (await queue.depth()).waiting == 1
                assert "Redis mymaster of Sentinel at localhost:" in (await queue.info()).broker
                await until(lambda: failed_over(sentinel))
                question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")
                await until(lambda: int(command(sentinel, *question)[1]) == ports[1])
                # What Sentinel does to the old master as well, some seconds later.
                first.replicaof("127.0.0.1", ports[1])
                command(first, "CLIENT", "KILL", "TYPE", "normal")
                assert not await queue.changed(0.2)  # by then the lost connection is seen
                assert (await queue.depth()).waiting == 1
                reader = queue.broker._reader  # type: ignore[attr-defined]
                assert reader.connection_pool.connection_kwargs["port"] == ports[1]
                master.close()
                second.rpush("jobs", "two")
                assert (await queue.depth()).waiting == 2
            assert "knows no master other" in await refusal(url.replace("=mymaster", "=other"))
            assert "refused the user or password" in await refusal(url.replace("s3cret-too", "s3cret-wrong"))
            assert "needs master_name" in await refusal(url.replace("master_name=mymaster&", ""))
            assert "the scheme is redis-list+sentinel" in await refusal(url.replace("+sentinel:", ":"))


@pytest.mark.connection("Redis cluster")
async def test_a_cluster_says_where_the_queue_is(tmp_path: Path) -> None:
    """And says it again when the queue's slot moves to another server."""
    ports = [free_port(), free_port()]
    with contextlib.ExitStack() as cleanup:
        nodes = []
        for port in ports:
            directory = tmp_path / str(port)
            directory.mkdir()
            bus = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--databases", "1"]
            cleanup.enter_context(redis_server(directory, *bus, port=port))
            nodes.append(cleanup.enter_context(contextlib.closing(redis.Redis(port=port))))
        for node, slots in zip(nodes, ((0, 8191), (8192, 16383)), strict=True):
            command(node, "CLUSTER", "ADDSLOTSRANGE", *slots)
        bus_port = nodes[1].config_get("cluster-port")["cluster-port"]
        command(nodes[0], "CLUSTER", "MEET", "127.0.0.1", ports[1], bus_port)
        await until(lambda: all(node.cluster("INFO")["cluster_state"] == "ok" for node in nodes))
        seed = f"127.0.0.1:{ports[0]},127.0.0.1:{free_port()}"
        nodes[1].rpush("jobs", "one")
        async with await open_queue(f"redis-list+cluster://{seed}?key=jobs") as queue:
            assert (await queue.depth()).waiting == 1
            nodes[1].delete("jobs")
            for node in nodes:
                command(node, "CLUSTER", "SETSLOT", key_slot(b"jobs"), "NODE", nodes[0].cluster("MYID"))
            nodes[0].rpush("jobs", "one", "two")
            assert (await queue.depth()).waiting == 2
        async with await open_queue(f"bullmq+cluster://{seed}?queue=jobs&prefix={{bull}}") as queue:
            assert (await queue.depth()).waiting == 0
        assert "in different slots" in await refusal(f"redis-list+cluster://{seed}?key=jobs&processing=doing")
        assert "no database but 0" in await refusal(f"redis-list+cluster://{seed}/1?key=jobs")
        assert "does not work on Redis Cluster" in await refusal(f"rq+cluster://{seed}?queue=jobs")


async def test_sentinel_and_cluster_over_tls(tmp_path: Path, certificates: Certificates) -> None:
    """So are the servers that they name, whose ports take nothing else."""
    ports = [free_port() for _ in range(4)]
    tls = ["--tls-cert-file", str(certificates.server), "--tls-key-file", str(certificates.server_key)]
    tls += ["--tls-ca-cert-file", str(certificates.authority), "--tls-auth-clients", "no", "--tls-replication", "yes"]
    named = ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"]
    cluster = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        str(free_port()),
        "--databases",
        "1",
        "--tls-cluster",
        "yes",
    ]
    for name in ("master", "sentinel", "cluster"):
        (tmp_path / name).mkdir()
    configuration = tmp_path / "sentinel" / "sentinel.conf"
    configuration.write_text(
        f"port 0\nbind 127.0.0.1\ntls-port {ports[1]}\nsentinel resolve-hostnames yes\n"
        f"sentinel announce-hostnames yes\nsentinel monitor mymaster localhost {ports[0]} 1\n"
    )
    sentinel = [program("redis-server"), str(configuration), "--sentinel", *tls]
    with (
        redis_server(tmp_path / "master", "--tls-port", str(ports[0]), *tls),
        running(sentinel, port=ports[1], directory=tmp_path / "sentinel"),
        redis_server(tmp_path / "cluster", "--tls-port", str(ports[2]), *tls, *cluster, *named, port=ports[3]),
        contextlib.closing(redis.Redis(port=ports[3])) as node,
    ):
        command(node, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await until(lambda: node.cluster("INFO")["cluster_state"] == "ok")
        for url in (
            f"redis-list+sentinel+tls://localhost:{ports[1]}/0?master_name=mymaster&key=jobs",
            f"redis-list+cluster+tls://localhost:{ports[2]}?key=jobs",
        ):
            assert await waiting(f"{url}&tls_ca={certificates.authority}") == 0
            assert "certificate" in await refusal(url)
