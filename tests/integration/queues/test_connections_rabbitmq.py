"""RabbitMQ is reached in each of the ways that docs/queues.md lists, over its management API and over AMQP."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING
from urllib.parse import quote

import aio_pika
import aiohttp
import pytest
from aiohttp import web

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from tests.integration.queues.rabbitmq_server import PASSWORD, USER, RabbitmqServer
from tests.kit.servers import end_server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.integration.queues.certificates import Certificates

LOGIN = f"{USER}:{PASSWORD}@"
numbers = itertools.count()


@pytest.fixture
async def name(rabbitmq: RabbitmqServer) -> str:
    """A queue with one message."""
    queue = f"connections-{next(numbers)}"
    connection = await aio_pika.connect(rabbitmq.amqp())
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(queue, durable=True)
        await channel.default_exchange.publish(aio_pika.Message(b"job"), queue)
    return queue


async def codes(url: str) -> set[str]:
    async with await open_queue(url) as queue:
        assert (await queue.depth()).waiting == 1
        info = await queue.info()
        assert PASSWORD not in repr(info)
        return {warning.code for warning in info.warnings} - {"short-lease", "in-flight-unknown"}


async def refusal(url: str) -> str:
    with pytest.raises(QueueError) as caught:
        await open_queue(url)
    assert PASSWORD not in str(caught.value)
    assert len(str(caught.value)) <= 400
    return str(caught.value)


@pytest.mark.connection("RabbitMQ plain")
async def test_addresses_of_the_api_and_of_the_interface_do_as_well(rabbitmq: RabbitmqServer, name: str) -> None:
    host = f"rabbitmq+http://{LOGIN}127.0.0.1:{rabbitmq.management_port}"
    for path in (name, f"%2F/{name}", f"api/queues/%2F/{name}", f"#/queues/%2F/{name}"):
        assert await codes(f"{host}/{path}") == set()
    said = await refusal(f"{host}/{name}?cafil=x")
    assert "unknown parameter 'cafil' (known: acks_late, ignore_delayed, no_verify_ssl, path_prefix, tls_ca, " in said
    assert "write one of rabbitmq+http, rabbitmq+https" in await refusal(
        host.replace("+http", "+http+tls") + f"/{name}"
    )
    without_port = await refusal(f"rabbitmq+http://{LOGIN}127.0.0.1/{name}")
    assert without_port.endswith("15672 unless the URL has another (clouds: 443).")


@pytest.mark.connection("AMQP plain")
@pytest.mark.connection("AMQP client-settings")
async def test_amqp_with_settings_of_the_librarys_client(rabbitmq: RabbitmqServer, name: str) -> None:
    url = f"{rabbitmq.amqp('%2F')}?queue={name}"
    assert await codes(url) == set()
    assert await codes(url + "&heartbeat=30&connection_attempts=3") == set()
    assert "(known: auth_mechanism, ignore_delayed, no_verify_ssl, queue, tls_ca, " in await refusal(url + "&heart=1")


@pytest.mark.connection("RabbitMQ tls")
@pytest.mark.connection("RabbitMQ authority")
@pytest.mark.connection("RabbitMQ client-certificate")
@pytest.mark.connection("RabbitMQ unverified")
@pytest.mark.connection("AMQP tls")
@pytest.mark.connection("AMQP authority")
@pytest.mark.connection("AMQP client-certificate")
@pytest.mark.connection("AMQP unverified")
@pytest.mark.parametrize("way", ["http", "amqp"])
async def test_tls_is_verified_with_the_authority_and_the_certificate_that_the_url_gives(
    rabbitmq: RabbitmqServer, name: str, certificates: Certificates, way: str
) -> None:
    def url(host: str, parameters: str) -> str:
        if way == "http":
            return f"rabbitmq+https://{LOGIN}{host}:{rabbitmq.management_tls_port}/{name}?{parameters}"
        return f"amqps://{LOGIN}{host}:{rabbitmq.tls_port}/?queue={name}&{parameters}"

    ours, other = f"tls_ca={certificates.authority}", f"tls_ca={certificates.stranger}"
    shown = f"tls_cert={certificates.client}&tls_key={certificates.client_key}"
    assert await codes(url("localhost", ours)) == set()
    assert await codes(url("localhost", f"cacertfile={certificates.authority}&{shown}")) == set()
    assert "certificate" in await refusal(url("localhost", other))
    assert "certificate" in await refusal(url("127.0.0.1", ours))
    for verify in ("no_verify_ssl=1", "verify=verify_none", "tls_verify=none", f"tls_verify=chain&{ours}"):
        assert await codes(url("127.0.0.1", verify)) == {"unverified-tls"}
    assert "certificate" in await refusal(url("127.0.0.1", f"tls_verify=chain&{other}"))
    assert "no meaning without TLS" in await refusal(url("localhost", ours).replace("s://", "://", 1))


@pytest.mark.connection("AMQP external")
async def test_the_client_certificate_is_the_user(
    rabbitmq: RabbitmqServer, name: str, certificates: Certificates
) -> None:
    url = f"amqps://localhost:{rabbitmq.tls_port}/?queue={name}&tls_ca={certificates.authority}"
    shown = f"&tls_cert={certificates.client}&tls_key={certificates.client_key}"
    for mechanism in ("auth_mechanism=external", "auth=EXTERNAL"):
        assert await codes(f"{url}{shown}&{mechanism}") == set()
    await refusal(f"{url}&auth_mechanism=external")
    assert "should be plain or external" in await refusal(f"{url}&auth_mechanism=kerberos")


@pytest.mark.connection("RabbitMQ ipv6")
@pytest.mark.connection("AMQP ipv6")
async def test_an_ipv6_address(rabbitmq: RabbitmqServer, name: str, certificates: Certificates) -> None:
    ours = f"tls_ca={certificates.authority}"
    assert await codes(f"amqps://{LOGIN}[::1]:{rabbitmq.tls_port}/?queue={name}&{ours}") == set()
    async with proxy(rabbitmq, "", host="::1") as port:
        assert await codes(f"rabbitmq+http://{LOGIN}[::1]:{port}/{name}") == set()


@pytest.mark.connection("RabbitMQ failover")
@pytest.mark.connection("AMQP failover")
async def test_of_several_servers_the_first_that_answers_is_read(rabbitmq: RabbitmqServer, name: str) -> None:
    down, amqp = f"127.0.0.1:{free_port()}", f"127.0.0.1:{rabbitmq.port}"
    for url in (
        f"rabbitmq+http://{LOGIN}{down},127.0.0.1:{rabbitmq.management_port}/{name}",
        f"amqp://{LOGIN}{down},{amqp}/?queue={name}",
        f"amqp://{LOGIN}{down}/;amqp://{LOGIN}{amqp}/?queue={name}",
    ):
        assert await codes(url) == set()
    for url in (f"rabbitmq+http://{LOGIN}{down},{down}/{name}", f"amqp://{LOGIN}{down},{down}/?queue={name}"):
        assert down in await refusal(url)


@contextlib.asynccontextmanager
async def proxy(rabbitmq: RabbitmqServer, prefix: str, *, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A proxy before the management API, which takes ``prefix`` off the path; its port."""
    async with aiohttp.ClientSession() as session:

        async def forward(request: web.Request) -> web.Response:
            path = request.raw_path.removeprefix(prefix)
            if path == request.raw_path and prefix:
                return web.Response(status=404)
            url = type(request.url)(f"http://127.0.0.1:{rabbitmq.management_port}{path}", encoded=True)
            async with session.get(url, headers={"Authorization": request.headers["Authorization"]}) as answer:
                return web.Response(status=answer.status, body=await answer.read())

        app = web.Application()
        app.router.add_get("/{path:.*}", forward)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            port = free_port()
            await web.TCPSite(runner, host, port).start()
            yield port
        finally:
            await end_server(runner)


@pytest.mark.connection("RabbitMQ path-prefix")
async def test_the_api_behind_a_path(rabbitmq: RabbitmqServer, name: str) -> None:
    rabbitmq.api("PUT", f"vhosts/{quote('a/b', safe='')}")
    rabbitmq.api("PUT", f"queues/{quote('a/b', safe='')}/{name}", '{"durable": true}')
    async with proxy(rabbitmq, "/mq/rabbit") as port:
        host = f"rabbitmq+http://{LOGIN}127.0.0.1:{port}"
        assert await codes(f"{host}/%2F/{name}?path_prefix=/mq/rabbit") == set()
        assert await codes(f"{host}/mq/rabbit/api/queues/%2F/{name}") == set()
        async with await open_queue(f"{host}/mq/rabbit/api/queues/a%2Fb/{name}") as queue:
            assert (await queue.depth()).waiting == 0
            info = await queue.info()
            assert (info.name, {warning.code for warning in info.warnings}) == (
                f"a/b/{name}",
                {"short-lease", "in-flight-unknown"},
            )
            assert "/mq/rabbit (server" in info.broker
        await refusal(f"{host}/%2F/{name}")
