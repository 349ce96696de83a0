"""Attacks on a worker's public port by connections alone: S1 of the faults found."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from nullworker.worker import connection_limit
from nullworker.worker.connection_limit import ConnectionLimit
from tests.integration import null_worker_kit as kit

if TYPE_CHECKING:
    from pathlib import Path

FILES = 512  # of the worker that is attacked
HALF_A_BODY = b"POST /session/create HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{"
_WITH_FEW_FILES = (
    f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}));"
    " runpy.run_module('workers.null.worker', run_name='__main__')"
)


@pytest.mark.promise("P2")
@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"POST /ping HT", id="half a head", marks=pytest.mark.long),
        pytest.param(HALF_A_BODY, id="half a body", marks=pytest.mark.long),
    ],
)
async def test_its_holder_reaches_it_and_the_log_stays_short(tmp_path: Path, sent: bytes) -> None:
    async with contextlib.AsyncExitStack() as stack:
        engine = await stack.enter_async_context(kit.StubEngine().running())
        command = (sys.executable, "-c", _WITH_FEW_FILES)
        worker = await stack.enter_async_context(kit.worker(kit.worker_env(engine.url), tmp_path, *command))
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        session_id = (await kit.create(worker, auth_data)).body["session_id"]
        writers: list[asyncio.StreamWriter] = []
        for port in ("WORKER_PORT", "WORKER_HTTP_PORT"):
            for _ in range(2 * FILES):
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", int(worker.env[port]))
                    writers.append(writer)
                    writer.write(sent)
        ping: dict[str, Any] = {"auth_data": auth_data, "session_id": session_id, "payload": {}}
        await asyncio.wait_for(_until_answered(worker.url + "/ping", ping), kit.HANG_S)
        reports = len(engine.reports)
        await kit.post(worker.control_url + "/release")
        await engine.wait_for(lambda report: report.path == "/delete_requests/", after=reports)
        for writer in writers:
            writer.close()
        assert len(worker.log) < 20_000, worker.log[:2_000]
        assert "Too many open files" not in worker.log


async def _until_answered(url: str, body: dict[str, Any]) -> None:
    while True:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            if (await kit.post(url, body)).status == 200:
                return
        await asyncio.sleep(0.05)


class _Transport:
    def __init__(self, address: str) -> None:
        self.address = address
        self.is_aborted = False

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return self.address, 1

    def abort(self) -> None:
        self.is_aborted = True


async def test_the_address_that_has_most_makes_room() -> None:
    server = web.Server(lambda _request: None)  # type: ignore[arg-type,return-value]
    made: list[Any] = []
    limit = ConnectionLimit(server, 3)
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.2"):
        protocol: Any = limit()
        protocol.transport = _Transport(address)
        made.append(protocol)
    limit()
    assert [each.transport.is_aborted for each in made] == [False, True, False]


@pytest.mark.parametrize(("soft", "most"), [(64, 16), (1_024, 128), (1 << 20, 512), (resource.RLIM_INFINITY, 512)])
def test_it_leaves_files_for_the_rest(monkeypatch: pytest.MonkeyPatch, soft: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (soft, soft))
    assert connection_limit.connections_max() == most
