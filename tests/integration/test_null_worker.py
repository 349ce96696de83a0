"""The Null PyWorker as a process, with the real vastai on both sides, before an engine that takes what it offers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import vastai
from aiohttp import web

from tests.integration import null_worker_kit as kit
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


@pytest.fixture
async def worker(engine: kit.StubEngine, tmp_path: Path) -> AsyncIterator[kit.WorkerProcess]:
    async with kit.worker(kit.worker_env(engine.url), tmp_path) as process:
        await engine.ready()
        yield process


async def held_by(worker: kit.WorkerProcess) -> int | None:
    """The request that holds the worker, as the worker itself says."""
    answer = await kit.call("GET", worker.control_url + "/reservation")
    return answer.body["request_idx"] if answer.body["held"] else None


async def _answered(url: str, body: dict[str, Any]) -> None:
    while (await kit.post(url, body)).status != 200:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.05)


async def test_a_worker_reports_that_it_is_ready_with_perf_100(
    engine: kit.StubEngine, worker: kit.WorkerProcess
) -> None:
    first = engine.reports[0]
    assert first.ready
    assert first.prompt
    assert (first.body["id"], first.body["mtoken"]) == (kit.WORKER_ID, kit.TOKEN)
    assert (first.body["max_perf"], first.body["url"]) == (100.0, worker.url)
    assert first.body["loadtime"] > 0


async def test_the_sdk_opens_keeps_and_closes_a_session(
    engine: kit.StubEngine, worker: kit.WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vastai.Serverless, "SSL_CERT_URL", engine.url + "/static/jvastai_root.cer")
    async with vastai.Serverless("account-key", autoscaler_url=engine.url, webserver_url=engine.url) as client:
        endpoint = await client.get_endpoint(kit.ENDPOINT)
        async with await endpoint.session(cost=100, lifetime=60, on_close_payload={"job": 7}) as session:
            reservation = (await kit.call("GET", worker.control_url + "/reservation")).body
            assert (reservation["held"], reservation["payload"]) == (True, {"job": 7})
            answer = await session.request("/ping", {})
            assert answer["response"]["result"]["ok"] is True
            assert await session.is_open()
            request_idx = reservation["request_idx"]
            await engine.wait_for(lambda report: report.body.get("working_request_idxs") == [request_idx])
        await engine.wait_for(lambda report: report.path == "/delete_requests/")
        assert engine.finished(request_idx) == [("Success", True)]
        assert await held_by(worker) is None


async def test_changes_are_told_in_order_and_numbered(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    for _ in range(5):
        auth_data = engine.auth_data(worker.url)
        opened = await kit.create(worker, auth_data)
        assert (await kit.end(worker, opened.body["session_id"], auth_data)).status == 200
        await engine.wait_for(lambda report, idx=auth_data["request_idx"]: bool(engine.finished(idx)))  # type: ignore[misc]
    numbers = [report.body["seq"] for report in engine.reports if report.prompt]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    age_ms = time.time_ns() // 1_000_000 - numbers[0]
    assert 0 <= age_ms < 3_600_000, "they begin at the time, and so beyond those of a process before it"
    assert len({report.remote_port for report in engine.reports if report.prompt}) == 1


@pytest.mark.promise("P1")
async def test_the_same_request_gets_the_same_session(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    first = await kit.create(worker, engine.auth_data(worker.url, 55))
    later = engine.auth_data(worker.url, 55, reqnum=900)  # routed again: a new grant for the old request
    again = await kit.create(worker, later)
    assert (first.status, again.status) == (201, 201)
    assert again.body["session_id"] == first.body["session_id"]
    assert again.body["expiration"] == pytest.approx(first.body["expiration"], abs=0.5)
    assert (await kit.end(worker, first.body["session_id"], later)).status == 200


@pytest.mark.promise("P1")
async def test_of_many_who_come_at_once_one_gets_in(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    answers = await asyncio.gather(*(kit.create(worker, engine.auth_data(worker.url)) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [201] + [429] * 19
    assert all("held" in answer.body["error"] for answer in answers if answer.status == 429)
    holder = await held_by(worker)
    refused = [idx for idx in range(101, 121) if idx != holder]
    await engine.wait_for(lambda _: all(engine.finished(idx) == [("Rejected", True)] for idx in refused))


async def test_a_refusal_is_told_at_once(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    holder, other = engine.auth_data(worker.url), engine.auth_data(worker.url)
    await kit.create(worker, holder)
    await engine.wait_for(lambda report: report.body.get("working_request_idxs") == [holder["request_idx"]])
    assert (await kit.create(worker, other)).status == 429
    await engine.wait_for(lambda _: engine.finished(other["request_idx"]) == [("Rejected", True)])


async def test_a_repeated_create_that_arrives_twice_at_once_opens_one_session(
    engine: kit.StubEngine, worker: kit.WorkerProcess
) -> None:
    auth_data = engine.auth_data(worker.url)
    answers = await asyncio.gather(*(kit.create(worker, auth_data) for _ in range(10)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body["session_id"] for answer in answers}) == 1


@pytest.mark.promise("P15")
async def test_nothing_that_is_refused_changes_anything(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    good = engine.auth_data(worker.url)
    other_key = kit.StubEngine(key=kit.new_rsa_key())

    def but(**other: Any) -> dict[str, Any]:
        return {k: v for k, v in {**good, **other}.items() if v is not None}

    elsewhere = "http://127.0.0.1:1"
    for auth_data, status, word in [
        (but(signature=None), 400, "signature"),
        (but(url=5), 400, "url"),
        (but(cost="x"), 400, "cost"),
        (but(request_idx="1"), 400, "request_idx"),
        (but(signature="AAAA"), 401, "signature"),
        (but(signature=other_key.sign(worker.url)), 401, "signature"),
        (engine.auth_data(elsewhere), 401, "url"),
        (but(grant=None), 401, "grant"),
        (but(grant="a.b.c"), 401, "grant"),
        (but(grant=engine.auth_data(worker.url)["grant"]), 401, "grant"),
        (but(grant=kit.StubEngine(token="x" * 40).auth_data(worker.url, good["request_idx"])["grant"]), 401, "grant"),
    ]:
        answer = await kit.create(worker, auth_data)
        assert (answer.status, word in answer.body["error"]) == (status, True), (auth_data, answer)
    payloads: list[tuple[dict[str, Any], str]] = [
        ({"lifetime": "60"}, "lifetime"),
        ({"lifetime": -5}, "lifetime"),
        ({"on_close_route": "/relative"}, "on_close_route"),
        ({"on_close_route": "http://169.254.169.254/latest"}, "on_close_route"),
        ({"on_close_route": f"{engine.url}/x"}, "NULL_CALLBACK_PRIVATE"),
    ]
    for payload, word in payloads:
        answer = await kit.create(worker, good, **payload)
        assert (answer.status, word in answer.body["error"]) == (400, True), (payload, answer)
    for body in (b"", b"[]", b"{", b'{"auth_data": 5}', b"\xff", b'{"payload": {}}'):
        for path in ("/session/create", "/session/end", "/session/get", "/session/health", "/ping"):
            answer = await kit.post(worker.url + path, data=body)
            assert (answer.status, answer.body["error"].endswith(".")) == (400, True), (path, body, answer)
    for token in (b"", b"Bearer wrong", b"Bearer \xff\xfe", "Bearer \N{SNOWMAN}".encode()):
        assert b" 401 " in await told_to_update(worker.url, token)
    assert await held_by(worker) is None
    opened = await kit.create(worker, good)  # what was refused did not use up the good one
    assert opened.status == 201
    assert {report.path for report in engine.reports} == {"/worker_status/"}


async def told_to_update(url: str, authorization: bytes) -> bytes:
    """The first line of the answer; clients send no header of any bytes."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = b"POST /pyworker/update HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: %b\r\n\r\n"
    writer.write(head % authorization)
    line = await reader.readline()
    writer.close()
    return line


async def test_a_body_is_bounded_whatever_its_way(worker: kit.WorkerProcess) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b" " * 1_000

    for path in ("/session/create", "/session/end", "/session/get", "/session/health", "/ping"):
        assert (await kit.post(worker.url + path, data=b" " * 70_000)).status == 413
        assert (await kit.post(worker.url + path, data=chunks())).status == 413
    assert (await kit.post(worker.http_url + "/session/end", data=b" " * 70_000)).status == 413


async def test_release_needs_no_credentials_and_is_told_at_once(
    engine: kit.StubEngine, worker: kit.WorkerProcess
) -> None:
    auth_data = engine.auth_data(worker.url)
    opened = await kit.create(worker, auth_data)
    released = await kit.post(worker.control_url + "/release")
    assert (released.status, released.body) == (200, {"released": True, "session_ids": [opened.body["session_id"]]})
    await engine.wait_for(lambda report: report.path == "/delete_requests/")
    assert engine.finished(auth_data["request_idx"]) == [("Success", True)]
    again = await kit.post(worker.control_url + "/release")
    assert again.body == {"released": False, "reason": "no active session"}


async def test_a_session_is_ended_by_its_holder_alone(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    auth_data = engine.auth_data(worker.url)
    session_id = (await kit.create(worker, auth_data)).body["session_id"]
    assert (await kit.end(worker, session_id, engine.auth_data(worker.url))).status == 401
    assert (await kit.end(worker, "another", auth_data)).status == 400
    assert await held_by(worker) == auth_data["request_idx"]
    ended = await kit.post(worker.http_url + "/session/end", {"session_id": session_id, "session_auth": auth_data})
    assert ended.status == 200


@pytest.mark.promise("P15")
async def test_a_grant_opens_nothing_again_once_its_session_has_ended(
    engine: kit.StubEngine, worker: kit.WorkerProcess
) -> None:
    auth_data = engine.auth_data(worker.url)
    session_id = (await kit.create(worker, auth_data)).body["session_id"]
    await kit.end(worker, session_id, auth_data)
    assert (await kit.create(worker, auth_data)).status == 410  # a copy that was late
    assert await held_by(worker) is None
    assert (await kit.create(worker, engine.auth_data(worker.url, auth_data["request_idx"]))).status == 201


async def test_pings_keep_a_session_alive_and_do_not_add_up(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    auth_data = engine.auth_data(worker.url)
    opened = await kit.create(worker, auth_data)
    body = {"auth_data": auth_data, "session_id": opened.body["session_id"], "payload": {}}
    for _ in range(100):
        answer = await kit.post(worker.url + "/ping", body)
    assert answer.status == 200
    assert 0 <= answer.body["result"]["expiration"] - opened.body["expiration"] <= kit.HANG_S
    beat = await kit.post(worker.control_url + "/heartbeat")
    assert 0 <= beat.body["until"] - answer.body["result"]["expiration"] <= kit.HANG_S


async def test_a_ping_is_the_holders_or_refused(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    auth_data = engine.auth_data(worker.url)
    session_id = (await kit.create(worker, auth_data)).body["session_id"]
    other = engine.auth_data(worker.url)
    for shown, named, status in [
        (other, session_id, 401),
        ({**auth_data, "signature": "AAAA"}, session_id, 401),
        (auth_data, "another", 410),
        (other, None, 200),  # outside any session, as the framework has it
        ({**other, "grant": "x"}, None, 401),
    ]:
        answer = await kit.post(worker.url + "/ping", {"auth_data": shown, "session_id": named, "payload": {}})
        assert answer.status == status, (named, answer)


async def test_a_session_ends_when_its_lifetime_does(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    auth_data = engine.auth_data(worker.url)
    await kit.create(worker, auth_data, lifetime=0.5)  # 1 s is the least; the framework looks every 5 s
    await engine.wait_for(lambda report: report.path == "/delete_requests/")
    assert engine.finished(auth_data["request_idx"]) == [("Success", True)]


@pytest.mark.promise("P10")
async def test_what_happened_while_the_engine_was_away_is_told_when_it_is_back(tmp_path: Path) -> None:
    engine, port = kit.StubEngine(), free_port()
    async with kit.worker(kit.worker_env(f"http://127.0.0.1:{port}"), tmp_path) as worker:
        async with engine.running(port):
            await engine.ready()
            auth_data = engine.auth_data(worker.url)
            assert (await kit.create(worker, auth_data)).status == 201
        assert (await kit.post(worker.control_url + "/release")).body["released"] is True
        seen = len(engine.reports)
        async with engine.running(port):
            await engine.wait_for(lambda report: report.prompt and report.path == "/worker_status/", after=seen)
            await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))
            assert engine.finished(auth_data["request_idx"]) == [("Success", True)]


async def test_an_engine_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    port = free_port()
    async with kit.worker(kit.worker_env(f"http://127.0.0.1:1,http://127.0.0.1:{port}"), tmp_path) as worker:
        await kit.until(lambda: "no public key" in worker.log)
        async with kit.StubEngine().running(port) as engine:
            await engine.ready()
            assert (await kit.create(worker, engine.auth_data(worker.url))).status == 201
            # The framework finds the engine among the addresses, too: it checks such a call itself.
            body = {"auth_data": engine.auth_data(worker.url), "session_id": None, "payload": {}}
            await asyncio.wait_for(_answered(worker.url + "/ping", body), kit.HANG_S)


class Listener:
    """Somebody's server, which wants to be told when a session ends, and sends whoever calls elsewhere."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.came = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        self.told.append((request.path, await request.json()))
        self.came.set()
        raise web.HTTPTemporaryRedirect("/elsewhere")


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Listener, str]]:
    own, app = Listener(), web.Application()
    app.router.add_post("/{path:.*}", own.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield own, f"http://localhost:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_the_callback_is_made_once_and_follows_no_redirect(
    engine: kit.StubEngine, listener: tuple[Listener, str], tmp_path: Path
) -> None:
    own, url = listener
    async with kit.worker(kit.worker_env(engine.url, NULL_CALLBACK_PRIVATE="true"), tmp_path) as worker:
        await engine.ready()
        bodies: list[tuple[Any, dict[str, Any]]] = [({"job": 7}, {"job": 7}), (None, {}), ([1], {"payload": [1]})]
        for payload, expected in bodies:
            own.told.clear()
            own.came.clear()
            auth_data = engine.auth_data(worker.url)
            opened = await kit.create(worker, auth_data, on_close_route=url + "/done", on_close_payload=payload)
            assert opened.status == 201
            await kit.post(worker.control_url + "/release")
            await asyncio.wait_for(own.came.wait(), kit.HANG_S)
            assert own.told == [("/done", {"session_id": opened.body["session_id"], **expected})]
        await kit.until(lambda: worker.log.count("answered with status 307") == 3)
        assert [path for path, _ in own.told] == ["/done"]


async def test_a_slow_callback_does_not_hold_the_worker(engine: kit.StubEngine, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, and never answers
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        async with kit.worker(kit.worker_env(engine.url, NULL_CALLBACK_PRIVATE="true"), tmp_path) as worker:
            await engine.ready()
            auth_data = engine.auth_data(worker.url)
            await kit.create(worker, auth_data, on_close_route=url)
            await kit.post(worker.control_url + "/release")
            await engine.wait_for(lambda report: report.path == "/delete_requests/")
            assert "the callback to" not in worker.log  # it is given up after 10 s, and that is said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_a_signal_ends_the_worker_while_it_is_held(
    engine: kit.StubEngine, worker: kit.WorkerProcess, number: signal.Signals, code: int
) -> None:
    await kit.create(worker, engine.auth_data(worker.url))
    async with aiohttp.ClientSession() as http:
        waiting = asyncio.ensure_future(http.get(worker.url + "/nothing"))
        worker.process.send_signal(number)
        assert await worker.exit_code() == code
        await asyncio.gather(waiting, return_exceptions=True)
    assert "Traceback" not in worker.log
    assert kit.session_pids(worker.process.pid) == []


async def test_knocking_at_its_door_does_not_disturb_its_end(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    address = worker.url.removeprefix("http://").split(":")

    async def knock() -> None:
        while worker.process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address[0], int(address[1]))
                writer.write(b"GET /nothing HTTP/1.1\r\nHost: worker\r\n\r\n")
                writer.close()
            await asyncio.sleep(0.002)

    knocking = [asyncio.ensure_future(knock()) for _ in range(8)]
    await kit.create(worker, engine.auth_data(worker.url))
    worker.process.terminate()
    assert await worker.exit_code() == 0
    await asyncio.gather(*knocking)
    assert "ERROR" not in worker.log


async def test_no_secret_is_in_the_log_even_when_everything_is_logged(tmp_path: Path) -> None:
    # Without prompt reports, so that the framework sends its own, which it logs.
    async with (
        kit.StubEngine(says="grants").running() as engine,
        kit.worker(kit.worker_env(engine.url, LOG_LEVEL="debug"), tmp_path) as worker,
    ):
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        url = worker.url + "/session/create?api_key=endpoint-key-0123456789"
        body = {"auth_data": auth_data, "session_id": None, "payload": {"lifetime": 60}}
        headers = {"Authorization": "Bearer endpoint-key-0123456789"}
        opened = await kit.post(url, body, headers=headers)
        await kit.post(url, {**body, "auth_data": {**auth_data, "signature": "A" * 300}}, headers=headers)
        await kit.end(worker, opened.body["session_id"], auth_data)
        await engine.wait_for(lambda report: report.path == "/delete_requests/")
        log = worker.log
    assert "Worker Status" in log
    for secret in (kit.TOKEN, kit.TOKEN[:7], "endpoint-key", auth_data["signature"], auth_data["grant"]):
        assert secret not in log
