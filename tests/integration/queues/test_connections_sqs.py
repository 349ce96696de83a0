"""SQS is reached in each of the ways that docs/queues.md lists: moto's server, through AWS's own client."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from typing import TYPE_CHECKING

import pytest

from nullworker.queues._sqs_connections import CONNECTIONS, SqsPlace
from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from nullworker.queues.urls import parse_url
from tests.integration.queues.moto_server import REGION, Moto, moto_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.integration.queues.certificates import Certificates

numbers = itertools.count()


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """On IPv6, as all its tests do as well for IPv4."""
    with moto_server(tmp_path_factory.mktemp("moto"), host="::1") as server:
        yield server


@pytest.fixture
def name(moto: Moto) -> str:
    """A queue with one message."""
    queue = f"renders-{next(numbers)}"
    with moto.client() as client:
        client.send_message(QueueUrl=client.create_queue(QueueName=queue)["QueueUrl"], MessageBody="job")
    return queue


async def codes(url: str) -> set[str]:
    async with await open_queue(url) as queue:
        assert (await queue.depth()).waiting == 1
        return {warning.code for warning in (await queue.info()).warnings} - {"short-lease", "no-dead-letter"}


async def refusal(url: str) -> str:
    with pytest.raises(QueueError) as caught:
        await open_queue(url)
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) <= 400
    return str(caught.value)


@pytest.mark.connection("SQS plain")
@pytest.mark.connection("SQS endpoint")
@pytest.mark.connection("SQS queue-url")
@pytest.mark.connection("SQS ipv6")
async def test_by_region_and_name_and_by_its_own_url(moto: Moto, name: str) -> None:
    at = f"endpoint_url={moto.endpoint_url}"
    own = f"sqs+http://[::1]:{moto.port}/123456789012/{name}"
    for url in (
        *(f"sqs://{REGION}/{name}?{at}", f"sqs://{REGION}/123456789012/{name}?{at}"),
        *(f"{own}?region={REGION}", f"sqs://{REGION}/{moto.endpoint_url}/123456789012/{name}?{at}"),
    ):
        assert await codes(url) == set()
    assert "add region=… to the URL" in await refusal(own)
    assert f"the region is the URL's host: sqs://{REGION}/{name}" in await refusal(
        f"sqs://eu/{name}?{at}&region={REGION}"
    )
    assert "(known: acks_late, endpoint_url, late, no_verify_ssl, profile, " in await refusal(
        f"sqs://{REGION}/{name}?regio=x"
    )
    for keys in (f"sqs://AKIA:s3cret@{REGION}/{name}", f"sqs://{REGION}/{name}?endpoint_url=http://me:s3cret@host"):
        assert "keys do not belong into the URL" in await refusal(keys)


@pytest.mark.parametrize(
    ("host", "region", "endpoint"),
    [
        ("sqs.eu-west-1.amazonaws.com", "eu-west-1", "https://sqs.eu-west-1.amazonaws.com"),
        ("sqs-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1", "https://sqs-fips.us-gov-west-1.amazonaws.com"),
        ("sqs.cn-north-1.amazonaws.com.cn", "cn-north-1", "https://sqs.cn-north-1.amazonaws.com.cn"),
        (
            "vpce-1a-2b.sqs.eu-west-1.vpce.amazonaws.com",
            "eu-west-1",
            "https://vpce-1a-2b.sqs.eu-west-1.vpce.amazonaws.com",
        ),
        (
            "sqs.us-east-1.localhost.localstack.cloud:4566",
            "us-east-1",
            "https://sqs.us-east-1.localhost.localstack.cloud:4566",
        ),
        ("eu-west-1.queue.amazonaws.com", "eu-west-1", None),
        ("queue.amazonaws.com", "us-east-1", None),
    ],
)
def test_the_region_is_found_in_the_hosts_that_aws_has(host: str, region: str, endpoint: str | None) -> None:
    """AWS itself cannot be asked here: what is handed to its client is looked at."""
    url = parse_url(f"sqs+https://{host}/123456789012/renders.fifo", parameters=(), connections=CONNECTIONS)
    where = SqsPlace.of(url)
    assert (where.region, where.name, where.endpoint_url) == (region, "renders.fifo", endpoint)
    assert where.queue_url == f"https://{host}/123456789012/renders.fifo"


@pytest.mark.connection("SQS profile")
async def test_a_profile(moto: Moto, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text("[staging]\naws_access_key_id = AKIA\naws_secret_access_key = s3cret\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    url = f"sqs://{REGION}/{name}?endpoint_url={moto.endpoint_url}"
    assert await codes(f"{url}&profile=staging") == set()
    assert "production" in await refusal(f"{url}&profile=production")


@contextlib.asynccontextmanager
async def with_tls(moto: Moto, certificates: Certificates, verify: ssl.VerifyMode) -> AsyncIterator[str]:
    """A TLS proxy before moto, which can ask clients for a certificate; ``localhost`` with its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    context.load_verify_locations(certificates.authority)
    context.verify_mode = verify

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("::1", moto.port)
        await asyncio.gather(copy(reader, requests), copy(answers, writer))

    proxy = await asyncio.start_server(forward, "localhost", 0, ssl=context)
    async with proxy:
        yield f"localhost:{proxy.sockets[0].getsockname()[1]}"


@pytest.mark.connection("SQS tls")
@pytest.mark.connection("SQS authority")
@pytest.mark.connection("SQS unverified")
@pytest.mark.connection("SQS client-certificate")
@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # urllib3, where the URL says so
async def test_tls_with_the_authority_and_the_certificate_that_the_url_gives(
    moto: Moto, name: str, certificates: Certificates
) -> None:
    ours = f"ca_bundle={certificates.authority}"
    shown = f"client_cert={certificates.client}&client_key={certificates.client_key}"
    async with with_tls(moto, certificates, ssl.CERT_NONE) as place:
        url = f"sqs+https://{place}/123456789012/{name}?region={REGION}"
        assert await codes(f"{url}&{ours}") == set()
        for verify in ("no_verify_ssl=true", "tls_verify=none"):
            assert await codes(f"{url}&{verify}") == {"unverified-tls"}
        for wrong in (url, f"{url}&tls_ca={certificates.stranger}"):
            assert "certificate" in (await refusal(wrong)).lower()
        assert "full or none" in await refusal(f"{url}&{ours}&tls_verify=chain")
        assert "no meaning without TLS" in await refusal(f"sqs+http://{place}/1/{name}?region={REGION}&{ours}")
    async with with_tls(moto, certificates, ssl.CERT_REQUIRED) as place:
        url = f"sqs://{REGION}/{name}?endpoint_url=https://{place}&{ours}"
        assert await codes(f"{url}&{shown}") == set()
        await refusal(url)
