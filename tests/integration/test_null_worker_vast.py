"""The Null PyWorker before an engine that knows nothing of it, as Vast's own: the framework's wire, and no more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import vastai

from tests.integration import null_worker_kit as kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine(says=None).running() as stub:
        yield stub


async def test_a_session_goes_its_way_on_the_frameworks_own_reports(
    engine: kit.StubEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vastai.Serverless, "SSL_CERT_URL", engine.url + "/static/jvastai_root.cer")
    async with kit.worker(kit.worker_env(engine.url), tmp_path) as worker:
        ready = await engine.ready()
        assert ready.body["max_perf"] == 100
        async with vastai.Serverless("account-key", autoscaler_url=engine.url, webserver_url=engine.url) as client:
            endpoint = await client.get_endpoint(kit.ENDPOINT)
            async with await endpoint.session(cost=100, lifetime=60) as session:
                held = await engine.wait_for(lambda report: bool(report.body.get("working_request_idxs")))
                [request_idx] = held.body["working_request_idxs"]
                assert (await session.request("/ping", {}))["ok"]
                assert (await kit.create(worker, engine.auth_data(worker.url))).status == 429
            await engine.wait_for(lambda _: bool(engine.finished(request_idx)))
        assert engine.finished(request_idx) == [("Success", False)]
        auth_data = engine.auth_data(worker.url)
        assert "grant" not in auth_data
        await kit.create(worker, auth_data)
        assert (await kit.post(worker.control_url + "/release")).body["released"] is True
        await engine.wait_for(lambda _: bool(engine.finished(auth_data["request_idx"])))
    assert not any(report.prompt for report in engine.reports)


async def test_the_signature_is_checked_all_the_same(engine: kit.StubEngine, tmp_path: Path) -> None:
    async with kit.worker(kit.worker_env(engine.url), tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        assert (await kit.create(worker, {**auth_data, "signature": "AAAA"})).status == 401
        assert (await kit.create(worker, engine.auth_data("http://127.0.0.1:1"))).status == 401
        first = await kit.create(worker, auth_data)
        again = await kit.create(worker, {**auth_data, "reqnum": 5})
        assert (first.status, again.status) == (201, 201)
        assert first.body["session_id"] == again.body["session_id"]


async def test_unsecured_means_that_neither_url_nor_signature_is_checked(
    engine: kit.StubEngine, tmp_path: Path
) -> None:
    async with kit.worker(kit.worker_env(engine.url, UNSECURED="true"), tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data("http://elsewhere", signature="none")
        assert (await kit.create(worker, auth_data)).status == 201


async def test_a_consumers_own_health_is_what_the_framework_asks(engine: kit.StubEngine, tmp_path: Path) -> None:
    asked = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health"
        async with kit.worker(kit.worker_env(engine.url, BACKEND_HEALTH_URL=url), tmp_path) as worker:
            await engine.ready()
            assert asked.is_set()
            assert (await kit.call("GET", worker.control_url + "/health")).status == 404


async def test_perf_is_100_in_a_directory_that_cannot_be_written_to(engine: kit.StubEngine, tmp_path: Path) -> None:
    (tmp_path / ".has_benchmark").mkdir()  # not writable as a file, even for root
    async with kit.worker(kit.worker_env(engine.url), tmp_path):
        assert (await engine.ready()).body["max_perf"] == 100
