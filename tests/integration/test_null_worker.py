"""The Null PyWorker as a process, with the real vastai on both sides, before an engine that takes what it offers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from tests.integration import null_worker_kit as kit
from tests.kit.servers import end_server
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
            assert engine.ends_told(auth_data["request_idx"]) == {"Success"}


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
    """A server that is called when a session ends, and that answers with a redirection."""

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
    await end_server(runner)


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


async def test_connections_that_are_opened_while_it_ends_do_not_disturb_its_end(
    engine: kit.StubEngine, worker: kit.WorkerProcess
) -> None:
    address = worker.url.removeprefix("http://").split(":")

    async def connect() -> None:
        while worker.process.returncode is None:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address[0], int(address[1]))
                writer.write(b"GET /nothing HTTP/1.1\r\nHost: worker\r\n\r\n")
                writer.close()
            await asyncio.sleep(0.002)

    connecting = [asyncio.ensure_future(connect()) for _ in range(8)]
    await kit.create(worker, engine.auth_data(worker.url))
    worker.process.terminate()
    assert await worker.exit_code() == 0
    await asyncio.gather(*connecting)
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
