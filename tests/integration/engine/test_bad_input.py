"""Any body at any path: a refusal that names the field, never a 500, never a changed state."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import os
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from nullworker.core import views
from nullworker.engine.logs import close, configure
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.integration.fuzz_targets import fuzz_engine
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DONE = {"worker_id": 1, "mtoken": "x", "requests": []}
REPORT = {"id": 1, "mtoken": "x", "loadtime": 1.0, "max_perf": 100.0, "url": "http://127.0.0.1:9", "cur_load": 0.0}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One engine for all tests here: none of them may change its state."""
    async with running(config(tmp_path_factory.mktemp("engine"), quick(max_workers=0))) as engine:
        yield engine


def state(engine: Running) -> str:
    """All of the engine's state that a call could change."""
    core = engine.server.driver.engine
    rows = [views.endpoints(core), views.workers(core), views.waiters(core, engine.endpoint_id())]
    names = sorted(engine.server.catalog.by_name)
    return json.dumps([rows, names, sorted(core.state.reservations)], default=dataclasses.asdict)


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/route/", {"endpoint": ENDPOINT, "cost": "much"}, 400, "cost"),
        ("/route/", {"endpoint": ENDPOINT, "cost": -1}, 400, "cost"),
        ("/route/", {"endpoint": ENDPOINT, "request_idx": 2**60}, 400, "request_idx"),
        ("/route/", {"endpoint": ENDPOINT, "request_idx": 5_000}, 400, "request_idx"),
        ("/route/", {"cost": 100}, 400, "endpoint"),
        ("/route/", {"endpoint": "no-such", "cost": 100}, 404, None),
        ("/route/", [], 400, None),
        ("/worker_status/", REPORT, 401, None),
        ("/worker_status/", {**REPORT, "id": "one"}, 400, "id"),
        ("/worker_status/", {"id": 1}, 400, "mtoken"),
        ("/delete_requests/", DONE, 401, None),
        ("/delete_requests/", {"worker_id": 1, "mtoken": "x", "requests": [{"request_idx": 1}]}, 401, None),
        ("/delete_requests/", {"worker_id": 1, "requests": [{"request_idx": 1}]}, 400, "requests[0].status"),
        ("/get_endpoint_workers/", {"id": 99}, 404, None),
        ("/get_endpoint_logs/", {"id": 99}, 404, None),
        ("/get_autogroup_logs/", {"id": 99}, 404, None),
        ("/api/v0/endptjobs/", {"endpoint_name": ENDPOINT}, 400, "endpoint_name"),
        ("/api/v0/endptjobs/", {"endpoint_name": "x", "target_util": 2}, 400, "target_util"),
        ("/api/v0/endptjobs/", {}, 400, "endpoint_name"),
        ("/api/v0/autojobs/", {"endpoint_name": "no-such"}, 400, "endpoint_name"),
        ("/api/v0/autojobs/", {"endpoint_name": ENDPOINT, "template_hash": "no-such"}, 400, "template_hash"),
        ("/api/v0/sign_cert/", {}, 400, "instance_id"),
        ("/no/such/path", {}, 404, None),
    ],
)
async def test_a_wrong_body_is_refused_and_changes_nothing(
    engine: Running, path: str, body: Any, status: int, field: str | None
) -> None:
    before = state(engine)
    got, answer = await engine.call("POST", path, body)
    assert (got, answer.get("field")) == (status, field), answer
    assert answer["success"] is False
    assert answer["msg"]
    assert state(engine) == before


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/route/", {"endpoint": ENDPOINT, "cost": 100}),
        ("GET", "/api/v0/endptjobs/", None),
        ("POST", "/api/v0/endptjobs/", {"endpoint_name": "x"}),
        ("PUT", "/api/v0/endptjobs/1/", {"max_workers": 9}),
        ("DELETE", "/api/v0/endptjobs/1/", {}),
        ("POST", "/update_workers/", {"workergroup_id": 2}),
        ("POST", "/get_endpoint_workers/", {"id": 1}),
        ("GET", "/api/v0/status/", None),
        ("GET", "/api/v0/story/?about=1", None),
    ],
)
@pytest.mark.parametrize("key", ["", "wrong-key-000"])
async def test_a_missing_or_wrong_key_is_refused_and_changes_nothing(
    engine: Running, method: str, path: str, body: Any, key: str
) -> None:
    before = state(engine)
    status, answer = await engine.call(method, path, body, key=key)
    assert status == 401, answer
    assert state(engine) == before


async def test_another_endpoints_key_is_forbidden(engine: Running) -> None:
    await engine.call("POST", "/api/v0/endptjobs/", {"endpoint_name": "other"})
    key = engine.server.keys.endpoint_key(engine.endpoint_id("other")).reveal()
    status, _ = await engine.call("POST", "/route/", {"endpoint": ENDPOINT, "cost": 100}, key=key)
    assert status == 403


async def test_a_body_over_a_mebibyte_is_too_large(engine: Running) -> None:
    large = io.BytesIO(b'{"endpoint": "' + b"x" * (1 << 20) + b'"}')
    async with aiohttp.ClientSession() as http, http.post(f"{engine.url}/route/", data=large) as response:
        status, answer = response.status, await response.json()
    assert status == 413, answer


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_is_not_encoded_as_it_says_is_refused(engine: Running, encoding: str) -> None:
    headers = {"Content-Encoding": encoding, "Content-Length": "7"}
    async with (
        aiohttp.ClientSession(skip_auto_headers=["Content-Encoding"]) as http,
        http.post(f"{engine.url}/route/", data=io.BytesIO(b"not it!"), headers=headers, compress=False) as response,
    ):
        assert response.status == 400, await response.text()
        assert "Content-Encoding" in (await response.json())["msg"]


async def test_an_id_is_of_ascii_digits(engine: Running) -> None:
    status, _ = await engine.call("GET", "/api/v0/endptjobs/%D9%A1/")
    assert status == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer not-for-logs\r\n\r\n",
        b"POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 7\r\n\r\nnot it!",
    ],
)
async def test_what_is_not_http_fills_no_log(
    engine: Running, caplog: pytest.LogCaptureFixture, tmp_path: Path, sent: bytes
) -> None:
    """It is answered with 400, and what was sent, be it a key, is written nowhere."""
    configure(tmp_path, "info", io.StringIO())
    host, port = engine.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    assert b" 400 " in await reader.read()  # to its end: the connection is closed
    writer.close()
    close()
    assert not caplog.records


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nA : secret\r\n\r\n", "no HTTP request that can be read (Invalid header"),
        (b"G@T /healthz HTTP/1.1\r\nHost: x\r\nA: secret\r\n\r\n", "no HTTP request that can be read ("),
        (b"\x16\x03\x01\x02\x00\x01\x00", "no HTTP request that can be read (Received HTTPS traffic"),
        (b"GET http://[::secret HTTP/1.1\r\nHost: x\r\n\r\n", "URL cannot be read"),
        (b"GET /" + b"secret" * 2_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", "is too long"),
        (
            b"POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Encoding: br\r\nContent-Length: 6\r\n\r\nsecret",
            "Content-Encoding that the engine cannot read",
        ),
    ],
)
async def test_what_cannot_be_read_is_refused_in_the_same_shape(engine: Running, sent: bytes, said: str) -> None:
    """In one sentence, which repeats nothing of it."""
    host, port = engine.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(sent)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 400 " in head.splitlines()[0]
    answer = json.loads(body)
    assert (answer["success"], answer["error"]) == (False, "invalid_args")
    assert said in answer["msg"]
    assert b"secret" not in body
    assert "\n" not in answer["msg"]


async def test_who_goes_before_the_end_of_its_body_leaves_no_word_in_the_log(
    engine: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """It is no fault of the engine's."""
    before = engine.server.connections
    host, port = engine.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /route/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 100\r\n\r\n{")
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")  # the body is waited for
    writer.close()
    await until(lambda: engine.server.connections <= before, "it is gone")
    assert (await engine.call("GET", "/healthz"))[0] == 200
    assert not caplog.records


async def test_a_known_path_says_which_methods_it_takes(engine: Running) -> None:
    status, answer = await engine.call("DELETE", "/route/")
    assert status == 405
    assert "POST" in answer["msg"]


#: Of each operation, with `make test-long`.
MANY = int(os.environ.get("NULLWORKER_FUZZ", "300"))


@pytest.mark.parametrize("examples", [8, pytest.param(MANY, marks=[pytest.mark.long, pytest.mark.timeout(7_200)])])
async def test_no_schema_made_request_gets_a_500(tmp_path: Path, examples: int) -> None:
    """Schemathesis makes requests of the engine's own OpenAPI document, right ones and wrong ones.

    On an engine of its own: with the account key, what is right changes its state. `make test-long` makes many more of
    them; NULLWORKER_FUZZ is how many of each operation.
    """

    found = await fuzz_engine(tmp_path, examples=examples)
    assert found.server_errors == 0, found.failures
    assert found.requests > 100


async def test_a_partial_body_does_not_hold_the_engine_up(engine: Running) -> None:
    host, port = engine.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    async with aiohttp.ClientSession() as http, http.get(f"{engine.url}/healthz") as answer:
        assert answer.status == 200
    writer.close()
