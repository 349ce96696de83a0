"""Attacks by one who sits between: an engine's TLS, its authority pinned, and a demand for grants that stays. S12."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import ssl
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio
from click.testing import CliRunner

from nullworker.cli.keys import command
from nullworker.client import NullClient
from nullworker.client.errors import ClientError
from nullworker.client.instances import find_authority, find_instance
from nullworker.engine.api import listening
from nullworker.engine.auth.certificates import CertificateAuthority
from nullworker.engine.config import ConfigError, EndpointConfig, WorkergroupConfig, load_config
from nullworker.engine.state_dir import StateError, open_state_dir
from nullworker.engine.tls import EngineTls, own_names
from nullworker.wire import paths
from nullworker.wire.worker_side import engine_tls
from nullworker.wire.worker_side.engine_trust import EngineTrust
from nullworker.wire.worker_side.environment import SettingsError
from nullworker.wire.worker_side.messages import Identity
from nullworker.worker.supervisor import without_credential
from tests.integration.classic_kit import ClassicProcess
from tests.integration.engine.kit import ENDPOINT, Running, config, invitation, quick, running
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONNECTIONS = 64
OTHER = "other"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    state = tmp_path_factory.mktemp("engine") / "state"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "connections_max", lambda: CONNECTIONS)
        settings = config(state, quick(max_workers=1))
        other = EndpointConfig(OTHER, quick(max_workers=0), (WorkergroupConfig(),))
        settings = replace(settings, tls=True, endpoints=(*settings.endpoints, other))
        async with running(settings) as engine:
            yield engine


@pytest.fixture
def trusting(engine: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    monkeypatch.setenv("NULLWORKER_CA", str(engine.server.state_dir / "engine-ca.pem"))
    return engine


def pinned(engine: Running) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(engine.server.state_dir / "engine-ca.pem"))


# -------------------------------------------------------------------------------------------------------------- engine


async def test_a_worker_and_a_client_speak_tls_with_an_engine_that_they_pin(trusting: Running) -> None:
    async with NullClient(trusting.url, trusting.key) as client:
        reservation = await client.open(ENDPOINT, deadline_s=HANG_S)
        await reservation.release()
        assert {worker.status for worker in await client.workers(ENDPOINT)} != set()
    assert trusting.url.startswith("https://")


@pytest.mark.parametrize("authority", ["none", "another", "no file"])
async def test_a_client_that_does_not_trust_it_sends_no_key(
    engine: Running, authority: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NULLWORKER_STATE", str(tmp_path))
    if authority != "none":
        file = tmp_path / "ca.pem"
        monkeypatch.setenv("NULLWORKER_CA", str(file))
        if authority == "another":
            file.write_text(CertificateAuthority.open(open_state_dir(tmp_path / "other")).ca_pem)
    async with NullClient(engine.url, engine.key) as client:
        with pytest.raises(ClientError, match=r"certificate|No such file"):
            await asyncio.wait_for(client.endpoints(), HANG_S)


async def test_a_command_pins_the_engine_of_this_machine_by_itself(
    engine: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NULLWORKER_STATE", str(engine.server.state_dir))
    said = await asyncio.to_thread(CliRunner().invoke, command, ["--instance", engine.url])
    assert said.exit_code == 0, said.output
    monkeypatch.setenv("NULLWORKER_STATE", str(tmp_path))
    said = await asyncio.to_thread(CliRunner().invoke, command, ["--instance", engine.url, "--api-key", "x" * 30])
    assert said.exit_code == 1


async def test_local_is_the_engine_of_this_machine_as_it_serves(
    engine: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NULLWORKER_STATE", str(engine.server.state_dir))
    assert find_instance("local").url == engine.url
    assert find_authority(find_instance("local")) == engine.server.state_dir / "engine-ca.pem"
    monkeypatch.setenv("NULLWORKER_STATE", str(tmp_path / "state"))
    (tmp_path / "state").mkdir(0o700)
    (tmp_path / "state" / "engine-ca.pem").write_text("of the start before this one")
    async with running(config(tmp_path / "state", quick(max_workers=0))) as without:
        assert find_instance("local").url == without.url
        assert find_authority(find_instance("local")) is None


async def test_an_invitation_brings_the_authority_and_the_demand_for_grants(trusting: Running) -> None:
    variables = await invitation(trusting)
    assert variables["NULL_GRANTS"] == "required"
    context = engine_tls.context(variables)
    assert context is not None
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as http, http.get(trusting.url + paths.PUBKEY) as answer:
        assert answer.status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_protocols_and_plain_http_are_refused(engine: Running) -> None:
    port = int(engine.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    got = await asyncio.wait_for(reader.read(), HANG_S)
    assert b"HTTP/1.1" not in got
    writer.close()
    old = pinned(engine)
    old.minimum_version, old.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=old)


async def test_handshakes_that_do_not_end_keep_no_worker_out(engine: Running) -> None:
    """S1 over TLS: a connection counts from its first byte on, and may be closed before its handshake is over."""
    port = int(engine.url.rpartition(":")[2])
    worker_id = 2**40 + 9
    token = engine.server.keys.join_token(engine.endpoint_id(OTHER), worker_id).reveal()
    body = {"id": worker_id, "mtoken": token, "loadtime": 1.0, "max_perf": 100.0, "cur_load": 0.0}
    body |= {"num_requests_recieved": 0, "working_request_idxs": [], "url": "http://127.0.0.1:9"}
    writers: list[asyncio.StreamWriter] = []
    http = engine.server._http
    assert http is not None

    async def report(session: aiohttp.ClientSession) -> bool:
        with contextlib.suppress(aiohttp.ClientError):
            async with session.post(engine.url + paths.WORKER_STATUS, json=body) as answer:
                return answer.status == 200
        return False

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=pinned(engine))) as kept,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=pinned(engine))) as fresh,
    ):
        assert await report(kept)
        for _ in range(3 * CONNECTIONS):
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
                writers.append(writer)
        await until(lambda: http._count > CONNECTIONS // 4, "handshakes are under way")
        assert http._count <= CONNECTIONS + listening.UNPROVEN_MIN
        assert await report(kept)

        async def until_taken() -> None:
            while not await report(fresh):
                pass

        await asyncio.wait_for(until_taken(), HANG_S)
        for writer in writers:
            writer.close()
    await until(lambda: http._count <= len(http.connections), "what is gone is forgotten")


# ----------------------------------------------------------------------------------------------------- in their parts


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "engine.example"])
async def test_beyond_this_machine_there_is_tls_or_a_word_that_there_is_none(host: str) -> None:
    with pytest.raises(ConfigError, match="without TLS keys could be read on the way; set tls = true"):
        load_config(None, {}, [("host", host)])
    assert load_config(None, {}, [("host", host), ("tls", "true")]).tls
    assert not load_config(None, {}, [("host", host), ("insecure", "true")]).tls
    assert load_config(None, {}, [("host", "localhost")]).host == "localhost"


async def test_a_certificate_and_its_key_go_together() -> None:
    with pytest.raises(ConfigError, match="a certificate and its key go together"):
        load_config(None, {}, [("tls_certificate", "a.pem")])


async def test_files_of_the_operators_are_used_or_refused_in_a_sentence(tmp_path: Path) -> None:
    authority = CertificateAuthority.open(open_state_dir(tmp_path / "state"))
    given = tmp_path / "both.pem"
    given.write_bytes(authority.own(["127.0.0.1"]))
    flags = [("tls_certificate", str(given)), ("tls_key", str(given))]
    found = EngineTls.open(load_config(None, {}, flags), tmp_path, authority)
    assert found.ca_pem is None
    given.write_text("nothing")
    with pytest.raises(StateError, match="give a certificate and its key in PEM"):
        EngineTls.open(load_config(None, {}, flags), tmp_path, authority)


async def test_its_certificate_is_for_the_names_that_it_is_reached_by() -> None:
    names = own_names("0.0.0.0", "https://engine.example:8443")
    assert {"127.0.0.1", "localhost", "engine.example"} <= set(names)
    assert "0.0.0.0" not in names
    assert own_names("10.0.0.7", "")[-1] == "10.0.0.7"


async def test_no_answer_takes_the_demand_for_grants_away(engine: Running) -> None:
    trust = EngineTrust(Identity(7, "token", "http://127.0.0.1:1"), demands_grants=True)
    assert trust.issues_grants
    trust.learn(await _get(engine, paths.PUBKEY), None)  # as one who sits between would have it
    assert trust.issues_grants
    spec_env = engine.server._known_of_engine()
    assert engine_tls.demands_grants(spec_env)
    with pytest.raises(SettingsError):
        engine_tls.demands_grants({"NULL_GRANTS": "perhaps"})


async def _get(engine: Running, path: str) -> bytes:
    connector = aiohttp.TCPConnector(ssl=pinned(engine))
    async with aiohttp.ClientSession(connector=connector) as http, http.get(engine.url + path) as answer:
        return await answer.read()


async def test_a_worker_trusts_its_engine_alone_and_its_consumer_whom_it_did(engine: Running) -> None:
    environ: dict[str, str] = {**engine.server._known_of_engine(), "SSL_CERT_FILE": "/own.pem", "MASTER_TOKEN": "t"}
    before = dict(environ)
    engine_tls.install(environ)
    context = ssl.create_default_context(cafile=environ["SSL_CERT_FILE"])
    assert [each["subject"] for each in context.get_ca_certs()] == [
        each["subject"] for each in pinned(engine).get_ca_certs()
    ]
    seen = without_credential(environ)
    assert seen == {name: value for name, value in before.items() if name != "MASTER_TOKEN"}
    assert "REQUESTS_CA_BUNDLE" not in seen
    with pytest.raises(SettingsError, match="holds no certificate"):
        engine_tls.install({engine_tls.CA_VARIABLE: "xx"})


async def test_a_worker_asks_no_engine_that_another_authority_vouches_for(engine: Running, tmp_path: Path) -> None:
    other = CertificateAuthority.open(open_state_dir(tmp_path / "other")).ca_pem
    code = (
        "import os; from nullworker.wire.worker_side import engine_tls; engine_tls.install(os.environ)\n"
        "import urllib.request, sys\n"
        "print(urllib.request.urlopen(sys.argv[1], timeout=20).status)"
    )

    def ask(ca: str) -> Any:
        env = {**os.environ, engine_tls.CA_VARIABLE: engine_tls.encoded(ca)}
        return subprocess.run(
            [sys.executable, "-c", code, engine.url + paths.PUBKEY],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )

    good, bad = await asyncio.gather(
        asyncio.to_thread(ask, (engine.server.state_dir / "engine-ca.pem").read_text()), asyncio.to_thread(ask, other)
    )
    assert good.stdout == "200\n", good.stderr
    assert "CERTIFICATE_VERIFY_FAILED" in bad.stderr


# -------------------------------------------------------------------------------------------- certificates of workers


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def asking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """An engine that asks workers for certificates."""
    state = tmp_path_factory.mktemp("asking") / "state"
    settings = config(state, quick(max_workers=1))
    other = EndpointConfig(OTHER, quick(max_workers=0), (WorkergroupConfig(),))  # what joins is no fleet's
    settings = replace(settings, tls=True, worker_certificates=True, endpoints=(*settings.endpoints, other))
    async with running(settings) as engine:
        yield engine


async def reported(engine: Running, context: ssl.SSLContext, worker_id: int, token: str) -> int:
    """What a worker's report is answered."""
    status = {
        "id": worker_id, "mtoken": token, "version": "0", "loadtime": 1.0, "cur_load": 0.0, "rej_load": 0.0,
        "new_load": 0.0, "cur_perf": 1.0, "perf": 1.0, "max_perf": 1.0, "error_msg": "", "additional_disk_usage": 0.0,
        "cur_capacity": 0, "max_capacity": 0, "num_requests_working": 0, "num_requests_recieved": 0,
        "working_request_idxs": [], "url": "",
    }  # fmt: skip
    connector = aiohttp.TCPConnector(ssl=context)
    async with (
        aiohttp.ClientSession(connector=connector) as http,
        http.post(engine.url + paths.WORKER_STATUS, json=status) as answer,
    ):
        return answer.status


async def test_a_fleets_worker_shows_its_certificate_and_holds(
    asking: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NULLWORKER_CA", str(asking.server.state_dir / "engine-ca.pem"))
    async with NullClient(asking.url, asking.key) as client:
        reservation = await client.open(ENDPOINT, deadline_s=HANG_S)
        await reservation.release()


@pytest.mark.parametrize(("worker_id", "shown"), [(77, "none"), (78, "another's"), (79, "a server's"), (80, "its own")])
async def test_a_stolen_token_is_worth_nothing_without_the_certificate(
    asking: Running, tmp_path: Path, worker_id: int, shown: str
) -> None:
    keys, authority = asking.server.keys, asking.server._authority
    token = keys.join_token(asking.endpoint_id(OTHER), worker_id).reveal()
    chain = {"another's": authority.for_worker(5), "a server's": authority.own([f"{worker_id}.worker.invalid"])}
    context = pinned(asking)
    if shown != "none":
        (tmp_path / "own.pem").write_bytes(chain.get(shown) or authority.for_worker(worker_id))
        context.load_cert_chain(tmp_path / "own.pem")
    if shown == "a server's":
        with pytest.raises((aiohttp.ClientError, OSError)):
            await reported(asking, context, worker_id, token)
    else:
        assert await reported(asking, context, worker_id, token) == (200 if shown == "its own" else 401)
    assert (worker_id in asking.server.driver.engine.state.workers) == (shown == "its own")


async def test_an_invitation_brings_the_certificate_and_a_consumer_does_not_see_it(
    asking: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NULLWORKER_CA", str(asking.server.state_dir / "engine-ca.pem"))
    variables = await invitation(asking, OTHER)
    monkeypatch.setattr(ssl, "create_default_context", ssl.create_default_context)
    environ = dict(variables)
    engine_tls.install(environ)
    context = ssl.create_default_context(cadata=ssl.DER_cert_to_PEM_cert(b64(variables["NULL_ENGINE_CA"])))
    worker_id, token = int(variables["CONTAINER_ID"]), variables["MASTER_TOKEN"]
    assert await reported(asking, context, worker_id, token) == 200
    assert "NULL_CLIENT_CERTIFICATE" not in without_credential(environ)
    with pytest.raises(SettingsError, match="NULL_CLIENT_CERTIFICATE holds no certificate"):
        engine_tls.install({"NULL_CLIENT_CERTIFICATE": variables["NULL_ENGINE_CA"]})


async def test_a_classic_backend_shows_its_certificate_to_the_engine_that_it_pins_and_reports_to_no_other(
    asking: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NULLWORKER_CA", str(asking.server.state_dir / "engine-ca.pem"))
    variables = await invitation(asking, OTHER)
    another = CertificateAuthority.open(open_state_dir(tmp_path / "another")).ca_pem
    deceived = {**await invitation(asking, OTHER), engine_tls.CA_VARIABLE: engine_tls.encoded(another)}
    with (
        ClassicProcess("helloworld", env=deceived, port=int(deceived["WORKER_PORT"])) as bad,
        ClassicProcess("helloworld", env=variables, port=int(variables["WORKER_PORT"])),
    ):
        worker_id = int(variables["CONTAINER_ID"])
        await until(lambda: asking.workers.get(worker_id) == "ready", "the backend is ready")
        await until(lambda: "CERTIFICATE_VERIFY_FAILED" in bad.said, "the other refuses the engine")
        assert int(deceived["CONTAINER_ID"]) not in asking.workers


def b64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text)


async def test_certificates_of_workers_need_tls() -> None:
    with pytest.raises(ConfigError, match="needs TLS"):
        load_config(None, {}, (("worker_certificates", "true"),))
