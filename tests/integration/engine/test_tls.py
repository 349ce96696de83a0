"""Workers that serve over TLS, with a certificate that the engine signs and the unmodified client verifies."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.engine.kit import config, endpoint_of, quick, running
from tests.integration.instance_files import CERTIFICATE, KEY, instance_certificate
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def _instance_files() -> Iterator[None]:
    with instance_certificate():
        yield


def somebody_elses() -> tuple[bytes, bytes]:
    """A certificate that signs itself, and its key, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "somebody else")])
    now = dt.datetime.now(dt.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return certificate.public_bytes(serialization.Encoding.PEM), key.private_bytes(*form)


@pytest.mark.usefixtures("_instance_files")
async def test_workers_share_the_machines_certificate_and_the_unmodified_client_verifies_it(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(), use_ssl=True)) as engine:
        async with endpoint_of(engine) as endpoint:
            sessions = await asyncio.gather(*(endpoint.session(cost=100, lifetime=60) for _ in range(2)))
            assert [session.url.split(":")[0] for session in sessions] == ["https", "https"]
            assert all(await asyncio.gather(*(session.is_open() for session in sessions)))
            with pytest.raises(aiohttp.ClientConnectorCertificateError):  # a client without the authority's root
                async with aiohttp.ClientSession() as http:
                    await http.get(sessions[0].url)
            async with aiohttp.ClientSession() as http:
                root = await (await http.get(f"{engine.url}/static/jvastai_root.cer")).text()
            strict = ssl.create_default_context(cadata=root)
            port = int(sessions[0].url.rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=strict)
            writer.close()
            assert [path.stat().st_mode & 0o777 for path in (CERTIFICATE, KEY)] == [0o600, 0o600]
            await asyncio.gather(*(session.close() for session in sessions))
        await until(lambda: engine.workers == {}, "the fleet is back at zero")
    assert not CERTIFICATE.exists()
    assert not KEY.exists()


@pytest.mark.usefixtures("_instance_files")
async def test_anothers_certificate_is_left_alone_and_who_waits_is_told(tmp_path: Path) -> None:
    others = somebody_elses()
    CERTIFICATE.write_bytes(others[0])
    KEY.write_bytes(others[1])
    async with running(config(tmp_path, quick(min_load=100.0), use_ssl=True)) as engine:
        group = next(iter(engine.server.driver.engine.state.workergroups.values()))
        await until(lambda: group.failures > 0, "the workergroup has failed")
        assert "this engine did not sign" in group.last_error
    assert (CERTIFICATE.read_bytes(), KEY.read_bytes()) == others
