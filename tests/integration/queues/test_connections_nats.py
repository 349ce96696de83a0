"""NATS is reached in each of the ways that docs/queues.md lists, with real servers; there is no stream, so 0 waits."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import nkeys
import pytest

from nullworker.queues.base import QueueError
from nullworker.queues.registry import open_queue
from tests.integration.queues.brokers import program, running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.integration.queues.certificates import Certificates

SECRET = "s3cret:@/?#%"
QUOTED = "s3cret%3A%40%2F%3F%23%25"
NAMES = "stream=JOBS&consumer=workers"


async def codes(url: str) -> set[str]:
    async with await open_queue(f"{url}{'&' if '?' in url else '?'}{NAMES}") as queue:
        assert (await queue.depth()).waiting == 0
        info = await queue.info()
        assert "s3cret" not in repr(info)
        return {warning.code for warning in info.warnings} - {"missing"}


async def refusal(url: str) -> str:
    with pytest.raises(QueueError) as caught:
        await open_queue(f"{url}{'&' if '?' in url else '?'}{NAMES}")
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) <= 400
    return str(caught.value)


@contextlib.contextmanager
def server(directory: Path, *settings: str) -> Iterator[int]:
    """A server with JetStream, on IPv4 and IPv6; its port."""
    port = free_port("::")
    lines = [f"port: {port}", 'host: "::"', f'jetstream {{ store_dir: "{directory}/jetstream" }}', *settings]
    (directory / "nats.conf").write_text("\n".join(lines))
    command = [program("nats-server"), "-c", "nats.conf"]
    with running(command, port=port, directory=directory):
        yield port


def tls(certificates: Certificates, verify: str = "") -> str:
    files = f'cert_file: "{certificates.server}", key_file: "{certificates.server_key}"'
    return f'tls {{ {files}, ca_file: "{certificates.authority}" {verify} }}'


@pytest.mark.connection("NATS plain")
@pytest.mark.connection("NATS ipv6")
@pytest.mark.connection("NATS failover")
@pytest.mark.connection("NATS client-settings")
async def test_one_server_and_several_with_a_password(tmp_path: Path) -> None:
    with server(tmp_path, f'authorization {{ user: "me", password: "{SECRET}" }}') as port:
        down = f"127.0.0.1:{free_port()}"
        for url in (
            f"nats://me:{QUOTED}@127.0.0.1:{port}?name=x&connect_timeout=2",
            f"nats+nats://127.0.0.1:{port}?user=me&password={QUOTED}",
            f"nats://me:{QUOTED}@[::1]:{port}",
            f"nats://me:{QUOTED}@{down},[::1]:{port}",
            f"nats://me:{QUOTED}@{down},nats://me:{QUOTED}@127.0.0.1:{port}",
        ):
            assert await codes(url) == set()
        assert "check user and password" in await refusal(f"nats://me:s3cret@127.0.0.1:{port}")
        assert "check user and password" in await refusal(f"nats://s3cret@127.0.0.1:{port}")
        assert "write one of user and creds" in await refusal(f"nats://me:{QUOTED}@127.0.0.1:{port}?creds=/x")
        assert f"NATS at {down}, {down}: " in await refusal(f"nats://s3cret-token@{down},{down}")
        said = await refusal(f"nats://127.0.0.1:{port}?tokn=s3cret")
        assert "unknown parameter 'tokn' (known: acks_late, consumer, creds, domain, inbox_prefix, nkey, " in said
        assert "write one of nats, nats+nats, nats+tls, nats+ws, nats+wss" in await refusal(f"nats+ssl://{down}")


async def test_a_token(tmp_path: Path) -> None:
    with server(tmp_path, f'authorization {{ token: "{SECRET}" }}') as port:
        assert await codes(f"nats://{QUOTED}@localhost:{port}") == set()
        assert await codes(f"nats://localhost:{port}?token={QUOTED}") == set()


@pytest.mark.connection("NATS tls")
@pytest.mark.connection("NATS authority")
@pytest.mark.connection("NATS unverified")
@pytest.mark.connection("NATS websocket")
@pytest.mark.filterwarnings("ignore:parameter 'timeout' of type 'float':DeprecationWarning")  # nats-py, of aiohttp
async def test_tls_and_websockets_are_verified_with_the_authority_that_the_url_gives(
    tmp_path: Path, certificates: Certificates
) -> None:
    websocket, plain = free_port(), free_port()
    for name in ("tls", "plain"):
        (tmp_path / name).mkdir()
    secured = f'websocket {{ host: "127.0.0.1", port: {websocket}, {tls(certificates)} }}'
    with (
        server(tmp_path / "tls", tls(certificates), secured) as port,
        server(tmp_path / "plain", f'websocket {{ host: "127.0.0.1", port: {plain}, no_tls: true }}'),
    ):
        ours, other = f"tls_ca={certificates.authority}", f"tls_ca={certificates.stranger}"
        assert await codes(f"nats+ws://127.0.0.1:{plain}/path") == set()
        assert "no meaning without TLS" in await refusal(f"nats+ws://127.0.0.1:{plain}?tls_verify=none")
        for scheme, place in (("nats+tls", port), ("nats+wss", websocket)):
            assert await codes(f"{scheme}://localhost:{place}?{ours}") == set()
            assert await codes(f"{scheme}://127.0.0.1:{place}?{ours}&tls_verify=chain") == {"unverified-tls"}
            assert await codes(f"{scheme}://127.0.0.1:{place}?tls_verify=none") == {"unverified-tls"}
            for wrong in (
                f"{scheme}://localhost:{place}",
                f"{scheme}://localhost:{place}?{other}",
                f"{scheme}://127.0.0.1:{place}?{ours}",
                f"{scheme}://127.0.0.1:{place}?{other}&tls_verify=chain",
            ):
                assert "certificate" in (await refusal(wrong)).lower()


@pytest.mark.connection("NATS client-certificate")
async def test_a_client_certificate_is_shown(tmp_path: Path, certificates: Certificates) -> None:
    with server(tmp_path, tls(certificates, ", verify: true")) as port:
        url = f"nats+tls://localhost:{port}?tls_ca={certificates.authority}"
        assert await codes(f"{url}&tls_cert={certificates.client}&tls_key={certificates.client_key}") == set()
        await refusal(url)


@pytest.mark.connection("NATS nkey")
@pytest.mark.connection("NATS creds")
@pytest.mark.connection("NATS inbox-prefix")
async def test_an_nkey_and_a_user_with_few_rights(tmp_path: Path) -> None:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    public = nkeys.from_seed(bytearray(seed)).public_key.decode()
    (tmp_path / "user.nk").write_bytes(seed)
    rights = 'permissions: { publish: "$JS.API.>", subscribe: ["_INBOX_me.>", "$JS.EVENT.ADVISORY.>"] }'
    with server(tmp_path, f"authorization {{ users: [ {{ nkey: {public}, {rights} }} ] }}") as port:
        url = f"nats://localhost:{port}?nkey={tmp_path}/user.nk&inbox_prefix=_INBOX_me"
        assert await codes(url) == set()
        assert "check user and password, token, creds or nkey" in await refusal(f"nats://localhost:{port}")
        # A credentials file holds a JWT, which needs a server with operators; here, that the file is read.
        assert "No such file" in await refusal(f"nats://localhost:{port}?creds={tmp_path}/none.creds")
