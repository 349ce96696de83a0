"""Attacks with a credential for something else than it was given for: S5, S6 and S11 of the faults found."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nullworker.cli.join import command as join
from nullworker.wire.paths import INVITE
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.kit.servers import end_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(config(tmp_path, quick(max_workers=0))) as engine:
        yield engine


async def invited(engine: Running) -> dict[str, Any]:
    status, answer = await engine.call("GET", f"{INVITE}?endpoint={ENDPOINT}")
    assert status == 200
    report = {"loadtime": 1.0, "max_perf": 100.0, "url": f"http://127.0.0.1:{answer['container_id'] % 1000 + 2000}"}
    return {"id": answer["container_id"], "mtoken": answer["master_token"], **report}


async def report(engine: Running, body: dict[str, Any]) -> int:
    return (await engine.call("POST", "/worker_status/", body))[0]


async def test_a_join_token_is_one_workers_and_no_other_has_it_do_anything(engine: Running) -> None:
    victim, attacker = await invited(engine), await invited(engine)
    assert await report(engine, victim) == 200
    assert await report(engine, attacker) == 200
    state = engine.server.driver.engine.state.workers
    hostile = {**attacker, "id": victim["id"], "url": "http://127.0.0.1:6", "error_msg": "broken"}
    assert await report(engine, hostile) == 401
    done = {"worker_id": victim["id"], "mtoken": attacker["mtoken"], "requests": []}
    assert (await engine.call("POST", "/delete_requests/", done))[0] == 401
    for number in (victim["id"] + 1, 7, 0):  # a number of its own choice
        assert await report(engine, {**attacker, "id": number}) == 401
    assert set(state) == {victim["id"], attacker["id"]}
    assert (state[victim["id"]].url, state[victim["id"]].state.value) == (victim["url"], "ready")
    keys, endpoint_id = engine.server.keys, engine.endpoint_id()
    assert keys.join_token(endpoint_id, victim["id"]).reveal() != keys.join_token(endpoint_id, attacker["id"]).reveal()


@pytest.mark.parametrize("token", ["", "j", "j1", "j1-", "j\u0661-x", "1-x", f"j{'9' * 17}-x", "j-1-x", "\ud800"])
async def test_what_is_no_join_token_is_none(engine: Running, token: str) -> None:
    assert engine.server.keys.joins(7, token) is None


async def test_the_authority_signs_no_name_that_a_worker_claims(engine: Running) -> None:
    worker = await invited(engine)
    assert await report(engine, {**worker, "url": "https://bank.example:443"}) == 200
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bank.example")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name)
    asking = request.add_extension(x509.SubjectAlternativeName([x509.DNSName("bank.example")]), critical=False)
    url = f"{engine.url}/api/v0/sign_cert/?instance_id={worker['id']}"
    headers = {"Authorization": f"Bearer {worker['mtoken']}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        pem = asking.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        async with http.post(url, data=pem) as answer:
            assert answer.status == 400, "it asks for a name that is not the worker's"
        pem = request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        async with http.post(url, data=pem) as answer:
            signed = x509.load_pem_x509_certificate(await answer.read())
        async with http.post(url.replace(str(worker["id"]), "1"), data=pem) as answer:
            assert answer.status == 401, "another worker's certificate"
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(each.value) for each in names} == {"127.0.0.1", "localhost"}


@pytest.mark.parametrize(
    "field",
    [
        {"report_addr": "http://x -S sh"},
        {"report_addr": "http://x$(id)"},
        {"master_token": "a b=c"},
        {"master_token": "a\ncalc"},
        {"container_id": "5 rm"},
        {"report_addr": "http://x/*"},
    ],
)
async def test_no_word_of_the_engines_answer_becomes_a_command(unused_tcp_port: int, field: dict[str, str]) -> None:
    async def answer(_request: web.Request) -> web.Response:
        good = {"container_id": 5, "report_addr": "http://127.0.0.1:8080", "master_token": "j1-0"}
        return web.json_response({**good, **field})

    app = web.Application()
    app.router.add_get(INVITE, answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    arguments = ["e", "--instance", f"http://127.0.0.1:{unused_tcp_port}", "--api-key", "k" * 32]
    try:
        done = await asyncio.to_thread(CliRunner().invoke, join, [*arguments, "--address", "127.0.0.1"])
    finally:
        await end_server(runner)
    assert done.exit_code != 0
    assert "MASTER_TOKEN=" not in done.stdout
