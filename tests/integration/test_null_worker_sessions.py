"""Sessions of the Null PyWorker: who may open, keep and end one, and what its engine is told; all on one worker."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import vastai

from tests.integration import null_worker_kit as kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(engine: kit.StubEngine, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[kit.WorkerProcess]:
    async with kit.worker(kit.worker_env(engine.url), tmp_path_factory.mktemp("worker")) as process:
        await engine.ready()
        yield process


@pytest_asyncio.fixture(loop_scope="module")
async def worker(engine: kit.StubEngine, shared: kit.WorkerProcess) -> kit.WorkerProcess:
    """The worker, free; of what happened before nothing is known."""
    await kit.free(engine, shared)
    return shared


async def held_by(worker: kit.WorkerProcess) -> int | None:
    """The request that holds the worker, as the worker itself says."""
    answer = await kit.call("GET", worker.control_url + "/reservation")
    return answer.body["request_idx"] if answer.body["held"] else None


async def test_the_sdk_opens_keeps_and_closes_a_session(
    engine: kit.StubEngine, worker: kit.WorkerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vastai.Serverless, "SSL_CERT_URL", engine.url + "/static/jvastai_root.cer")
    async with vastai.Serverless("account-key", autoscaler_url=engine.url, webserver_url=engine.url) as client:
        endpoint = await client.get_endpoint(kit.ENDPOINT)
        async with await endpoint.session(cost=100, lifetime=60, on_close_payload={"job": 7}) as session:
            reservation = (await kit.call("GET", worker.control_url + "/reservation")).body
            assert (reservation["held"], reservation["payload"]) == (True, {"job": 7})
            for payload in ({}, {"anything": [7]}):
                answer = await session.request("/ping", payload)
                assert answer["response"]["result"]["ok"] is True
            assert await session.is_open()
            request_idx = reservation["request_idx"]
            await engine.wait_for(lambda report: report.body.get("working_request_idxs") == [request_idx])
        await engine.wait_for(lambda report: report.path == "/delete_requests/")
        assert engine.ends_told(request_idx) == {"Success"}
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
    routed = [engine.auth_data(worker.url) for _ in range(20)]
    answers = await asyncio.gather(*(kit.create(worker, auth_data) for auth_data in routed))
    assert sorted(answer.status for answer in answers) == [201] + [429] * 19
    assert all("held" in answer.body["error"] for answer in answers if answer.status == 429)
    holder = await held_by(worker)
    refused = [auth_data["request_idx"] for auth_data in routed if auth_data["request_idx"] != holder]
    assert len(refused) == 19
    await engine.wait_for(lambda _: all(engine.ends_told(idx) == {"Rejected"} for idx in refused))


async def test_a_refusal_is_told_at_once(engine: kit.StubEngine, worker: kit.WorkerProcess) -> None:
    holder, other = engine.auth_data(worker.url), engine.auth_data(worker.url)
    await kit.create(worker, holder)
    await engine.wait_for(lambda report: report.body.get("working_request_idxs") == [holder["request_idx"]])
    assert (await kit.create(worker, other)).status == 429
    await engine.wait_for(lambda _: engine.ends_told(other["request_idx"]) == {"Rejected"})


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
    other_key = kit.StubEngine(key=kit.EngineKey())

    def but(**other: Any) -> dict[str, Any]:
        return {k: v for k, v in {**good, **other}.items() if v is not None}

    elsewhere = "http://127.0.0.1:1"
    for auth_data, status, word in [
        (but(signature=None), 400, "signature"),
        (but(url=5), 400, "url"),
        (but(cost="x"), 400, "cost"),
        (but(request_idx="1"), 400, "request_idx"),
        (but(signature="AAAA"), 401, "signature"),
        (but(signature=other_key.key.sign(worker.url)), 401, "signature"),
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
    await engine.wait_for(lambda report: report.prompt)  # that of the session, which may come after the answer
    assert [report for report in engine.reports if report.path != "/worker_status/"] == []


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
    assert engine.ends_told(auth_data["request_idx"]) == {"Success"}
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


@pytest.mark.parametrize("ahead_s", [-172_800.0, -3_600.0, 3_600.0])
async def test_the_engines_wall_clock_may_be_any_wrong(
    engine: kit.StubEngine, worker: kit.WorkerProcess, ahead_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    await engine.wait_for(lambda report: report.prompt and "clock" in report.body)
    monkeypatch.setattr(engine, "unix_ahead_s", ahead_s)
    assert (await kit.create(worker, engine.auth_data(worker.url))).status == 201


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
    assert engine.ends_told(auth_data["request_idx"]) == {"Success"}
