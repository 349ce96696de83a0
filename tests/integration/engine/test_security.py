"""What keys and tokens are good for, and what the HTTP surface stands: one test for each line of the security list."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from nullworker.core import driver as driving
from nullworker.engine.api import client as client_api
from nullworker.engine.api import http, listening
from nullworker.engine.auth.request_numbers import MARK_BITS
from nullworker.engine.config import EndpointConfig, WorkergroupConfig, load_config
from tests.integration.engine.kit import ENDPOINT, Running, config, quick, running
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("P15")]

OTHER = "other"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """An engine with workers 1 and 2 on one endpoint, and another endpoint with none."""
    endpoints = (
        EndpointConfig(ENDPOINT, quick(min_load=200.0), (WorkergroupConfig(),)),
        EndpointConfig(OTHER, quick(max_workers=0), (WorkergroupConfig(),)),
    )
    settings = replace(config(tmp_path_factory.mktemp("engine")), endpoints=endpoints)
    async with running(settings) as engine:
        await until(lambda: list(engine.workers.values()) == ["ready", "ready"], "both workers are ready")
        yield engine


def report(worker_id: int, token: str, **fields: Any) -> dict[str, Any]:
    body = {"id": worker_id, "mtoken": token, "loadtime": 1.0, "max_perf": 100.0, "cur_load": 0.0}
    return {**body, "num_requests_recieved": 0, "working_request_idxs": [], **fields}


def token_of(engine: Running, worker_id: int) -> str:
    return engine.server.keys.worker_token(worker_id).reveal()


def known(engine: Running) -> dict[int, tuple[str, str, list[int]]]:
    """What the engine knows of each worker."""
    workers = engine.server.driver.engine.state.workers.values()
    return {w.worker_id: (w.state.value, w.url, sorted(w.held)) for w in workers}


@contextlib.asynccontextmanager
async def connection(engine: Running) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, port = engine.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()


async def raw(engine: Running, text: str) -> str:
    """The first line of the answer to what is sent as it stands."""
    async with connection(engine) as (reader, writer):
        writer.write(text.encode())
        return (await reader.readline()).decode()


# ------------------------------------------------------------------------------------------------------ keys and tokens


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/v0/autojobs/", None),
        ("POST", "/api/v0/endptjobs/", {"endpoint_name": "x"}),
        ("PUT", "/api/v0/endptjobs/1/", {"max_workers": 9}),
        ("DELETE", "/api/v0/endptjobs/1/", {}),
        ("POST", "/api/v0/autojobs/", {"endpoint_name": ENDPOINT}),
        ("POST", "/update_workers/", {"workergroup_id": 2}),
        ("POST", "/get_endpoint_logs/", {"id": 1}),
        ("POST", "/get_endpoint_workers/", {"id": 3}),
        ("GET", "/api/v0/status/", None),
        ("GET", f"/api/v0/story/?about={ENDPOINT}", None),
        ("GET", f"/api/v0/invite/?endpoint={ENDPOINT}", None),
    ],
)
async def test_an_endpoints_key_routes_to_it_and_does_nothing_else(
    engine: Running, method: str, path: str, body: Any
) -> None:
    key = engine.server.keys.endpoint_key(engine.endpoint_id()).reveal()
    assert (await engine.call(method, path, body, key=key))[0] == 401
    own = {"id": engine.endpoint_id(), "api_key": key}
    assert (await engine.call("POST", "/get_endpoint_workers/", own, key=""))[0] == 200


@pytest.mark.parametrize("of", ["worker", "join"])
async def test_a_workers_token_is_no_key(engine: Running, of: str) -> None:
    keys = engine.server.keys
    token = (keys.worker_token(1) if of == "worker" else keys.join_token(engine.endpoint_id(), 1)).reveal()
    assert (await engine.call("GET", "/api/v0/endptjobs/", key=token))[0] == 401
    assert (await engine.call("POST", "/route/", {"endpoint": ENDPOINT, "api_key": token}, key=""))[0] == 401


async def test_a_worker_reports_about_itself_alone(engine: Running) -> None:
    before = known(engine)
    for token in ("", "x", token_of(engine, 2), engine.key):
        body = report(1, token, error_msg="it broke", url="http://127.0.0.1:9")
        assert (await engine.call("POST", "/worker_status/", body, key=token))[0] == 401
        done = {"worker_id": 1, "mtoken": token, "requests": [{"request_idx": 1, "status": "Success"}]}
        assert (await engine.call("POST", "/delete_requests/", done, key=token))[0] == 401
    assert known(engine) == before


async def test_a_worker_ends_no_request_of_another(engine: Running) -> None:
    ask = {"endpoint": ENDPOINT, "cost": 100, "request_idx": 0}
    _, granted = await engine.call("POST", "/route/", ask)
    reservation = engine.server.driver.engine.state.reservations[granted["request_idx"]]
    holder = reservation.worker_id
    thief = 3 - holder
    for status in ("Success", "Rejected", "Error"):
        over = {"request_idx": granted["request_idx"], "status": status, "success": True}
        done = {"worker_id": thief, "mtoken": token_of(engine, thief), "requests": [over]}
        assert (await engine.call("POST", "/delete_requests/", done))[0] == 200
        assert known(engine)[holder][2] == [granted["request_idx"]]
    over = {"request_idx": granted["request_idx"], "status": "Success", "success": True}
    done = {"worker_id": holder, "mtoken": token_of(engine, holder), "requests": [over]}
    await engine.call("POST", "/delete_requests/", done)
    assert known(engine)[holder][2] == []


async def test_a_worker_is_where_its_fleet_has_it(engine: Running) -> None:
    await engine.server.driver.list_once("processes")
    before = known(engine)
    for url in ("http://127.0.0.1:9", "http://evil.example:80", before[2][1]):
        status, answer = await engine.call("POST", "/worker_status/", report(1, token_of(engine, 1), url=url))
        assert (status, answer["field"]) == (400, "url")
    for url in ("file:///etc/passwd", "http://a@127.0.0.1:9", "http://127.0.0.1:9/path", "http://127.0.0.1", "x"):
        status, answer = await engine.call("POST", "/worker_status/", report(2, token_of(engine, 2), url=url))
        assert (status, answer["field"]) == (400, "url")
    assert known(engine) == before
    right = report(1, token_of(engine, 1), url=before[1][1])
    assert (await engine.call("POST", "/worker_status/", right))[0] == 200


async def test_refusals_have_one_shape_whatever_was_wrong(engine: Running) -> None:
    """So callers cannot learn from them which endpoints and workers there are."""
    shapes = set()
    for path, body in (
        ("/route/", {"endpoint": ENDPOINT, "api_key": "wrong-key-0"}),
        ("/route/", {"endpoint": "no-such", "api_key": "wrong-key-0"}),
        ("/route/", {"endpoint": "no-such"}),
        ("/get_endpoint_workers/", {"id": 1, "api_key": "wrong-key-0"}),
        ("/get_endpoint_workers/", {"id": 99, "api_key": "wrong-key-0"}),
        ("/worker_status/", report(1, "wrong")),
        ("/worker_status/", report(99, "wrong")),
        ("/worker_status/", report(99, "")),
    ):
        status, answer = await engine.call("POST", path, body, key="")
        shapes.add((status, answer["error"], tuple(sorted(answer))))
    assert shapes == {(401, "auth_error", ("error", "msg", "success"))}


def modes(directory: Path) -> dict[str, int]:
    """The permissions of a directory (".") and of the files in it."""
    files = {path.name: path for path in directory.iterdir() if path.is_file()}
    return {name: stat.S_IMODE(path.stat().st_mode) for name, path in {".": directory, **files}.items()}


async def test_files_that_hold_secrets_are_their_owners_alone(engine: Running) -> None:
    found = modes(engine.server.state_dir)
    assert {"api_key", "secret", "engine.db"} <= set(found)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


async def test_a_key_in_the_query_is_taken_and_never_logged(engine: Running, caplog: pytest.LogCaptureFixture) -> None:
    """The unmodified client sends it there."""
    caplog.set_level(logging.DEBUG)
    assert (await engine.call("GET", f"/api/v0/endptjobs/?client_id=me&api_key={engine.key}", key=""))[0] == 200
    assert engine.key not in caplog.text


# ---------------------------------------------------------------------------------------------------- the HTTP surface


async def test_a_body_that_does_not_arrive_is_given_up(engine: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_TIMEOUT_S", 0.2)
    answer = await raw(engine, "POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    assert " 400 " in answer


async def test_a_client_that_asks_first_is_told_to_send_its_body(engine: Running) -> None:
    """As curl does, with a long one."""
    body = b'{"endpoint": "no-such", "api_key": "wrong-key-0"}'
    head = f"POST /route/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    async with connection(engine) as (reader, writer):
        writer.write(head.encode())
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert b" 401 " in await reader.readline()


@pytest.mark.parametrize(
    "head",
    [
        "POST /route/ HTTP/1.1\r\nHost: x\r\nX-Long: " + "x" * 10_000,
        "POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6",
        "POST /route/ HTTP/1.1\r\nHost: x\r\nContent-Length: -1",
        "POST /route/" + "x" * 10_000 + " HTTP/1.1\r\nHost: x",
        "NONSENSE",
    ],
    ids=["long header", "two lengths", "twice a length", "no length", "long path", "no HTTP"],
)
async def test_heads_that_are_too_long_or_ambiguous_are_refused(engine: Running, head: str) -> None:
    assert " 400 " in await raw(engine, f"{head}\r\n\r\n")


async def test_more_connections_than_the_system_has_files_for_are_sent_away_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "connections_max", lambda: 3)
    async with running(config(tmp_path, quick(max_workers=0))) as engine:
        half = b"POST /route/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                reader, writer = await stack.enter_async_context(connection(engine))
                writer.write(half)
                assert b" 100 " in await reader.readline()  # it is being answered
            async with connection(engine) as (reader, writer):
                assert b" 503 " in await reader.readline()
                assert b"too many connections" in await reader.read()
        async with aiohttp.ClientSession() as session:
            await until(lambda: not engine.server.connections, "they are closed")
            assert (await session.get(f"{engine.url}/healthz")).status == 200


async def test_held_calls_and_waiters_are_bounded(engine: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the first bound one is told to ask again at once, and waits all the same; beyond the second, to go."""
    monkeypatch.setattr(driving, "HELD_MAX", 1)
    monkeypatch.setattr(client_api, "WAITERS_MAX", 2)
    ask = {"endpoint": OTHER, "cost": 100, "request_idx": 0}
    held = asyncio.ensure_future(engine.call("POST", "/route/", ask))
    waiting = engine.server.driver.engine.state.endpoints[engine.endpoint_id(OTHER)].line.waiting
    await until(lambda: len(waiting) == 1, "the first is held")
    status, answer = await engine.call("POST", "/route/", ask)
    assert (status, answer["status"]) == (200, "WAITING")
    assert answer["request_idx"] in waiting
    assert not held.done()
    assert (await engine.call("POST", "/route/", ask))[0] == 429
    held.cancel()
    await asyncio.wait([held])


async def test_a_holder_of_the_same_key_cannot_guess_anothers_request(engine: Running) -> None:
    """Who asks under a request's number is given its session, so that numbers must not be found by counting."""
    ask = {"endpoint": OTHER, "cost": 100, "request_idx": 0}
    waiting = engine.server.driver.engine.state.endpoints[engine.endpoint_id(OTHER)].line.waiting
    others = set(waiting)
    held = asyncio.ensure_future(engine.call("POST", "/route/", ask))
    await until(lambda: bool(waiting.keys() - others), "one more waits")
    (number,) = waiting.keys() - others
    before = number - (1 << MARK_BITS)
    for guess in (number - 1, number + 1, number ^ (1 << MARK_BITS - 1), before, number + (1 << MARK_BITS)):
        status, answer = await engine.call("POST", "/route/", {**ask, "request_idx": guess})
        assert (status, answer["field"]) == (400, "request_idx")
    assert waiting.keys() - others == {number}
    assert not held.done()
    held.cancel()
    await asyncio.wait([held])
    await until(lambda: number not in waiting, "it has hung up")


async def test_a_fault_of_the_engines_own_shows_nothing_of_its_inside(
    engine: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_endpoint_id: int) -> None:
        raise RuntimeError("the inside")

    monkeypatch.setattr(engine.server.catalog, "endpoint", fail)
    status, answer = await engine.call("GET", f"/api/v0/endptjobs/{engine.endpoint_id()}/")
    assert (status, answer["error"]) == (500, "internal")
    assert "inside" not in str(answer)
    assert "the inside" in caplog.text, "it is in the log"


async def test_without_a_word_it_listens_to_this_machine_alone() -> None:
    assert load_config(None, {}, []).host == "127.0.0.1"
