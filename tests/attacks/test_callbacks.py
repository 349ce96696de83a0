"""Attacks by ``on_close_route``: a client has its worker call what it cannot reach itself. S3 of the faults found."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING

import pytest

from nullworker.wire.headers import CALLBACK
from nullworker.worker.callbacks import CallbackError, Callbacks
from tests.integration import null_worker_kit as kit
from tests.integration.engine.kit import config, quick, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_LISTEN = """
import socket, time
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
time.sleep(600)
"""
_START_LISTENER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_LISTEN!r}], env={{}})"


@pytest.fixture
async def engine() -> AsyncIterator[kit.StubEngine]:
    async with kit.StubEngine().running() as stub:
        yield stub


async def test_one_workers_client_reaches_no_port_of_another_worker(engine: kit.StubEngine, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    env = kit.worker_env(engine.url, NULL_CALLBACK_PRIVATE="true")
    async with kit.ready_worker(tmp_path) as (others, other), kit.worker(env, tmp_path / "own") as own:
        await engine.ready()
        job = others.auth_data(other.url)
        assert (await kit.create(other, job)).status == 201
        host_names = ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "127.0.0.2"]
        ports = [other.env["NULL_CONTROL_PORT"], other.env["WORKER_PORT"], other.env["WORKER_HTTP_PORT"]]
        places = [f"http://{name}:{ports[0]}" for name in host_names] + [f"http://127.0.0.1:{port}" for port in ports]
        places += [own.control_url, engine.url, engine.url.replace("127.0.0.1", "127.0.0.3")]
        for place in places:
            answer = await kit.create(own, engine.auth_data(own.url), on_close_route=place + "/release")
            assert answer.status == 400, (place, answer)
            assert "never called" in answer.body["error"]
        held = (await kit.call("GET", other.control_url + "/reservation")).body
        assert (held["held"], held["request_idx"]) == (True, job["request_idx"])


async def test_a_control_port_and_an_engine_refuse_what_is_a_callback(tmp_path: Path, engine: kit.StubEngine) -> None:
    """Wherever a worker sees no owner of a port: other users' processes, another engine."""
    async with kit.worker(kit.worker_env(engine.url), tmp_path) as worker:
        await engine.ready()
        auth_data = engine.auth_data(worker.url)
        await kit.create(worker, auth_data)
        for path in ("/release", "/fail", "/heartbeat"):
            answer = await kit.post(worker.control_url + path, {}, headers={CALLBACK: "1"})
            assert answer.status == 403, path
        assert (await kit.call("GET", worker.control_url + "/reservation")).body["held"]
    async with running(config(tmp_path / "engine", quick())) as real:
        answer = await kit.post(real.url + "/api/v0/endptjobs/", {}, headers={CALLBACK: "1"})
        assert (answer.status, answer.body["error"]) == (403, "forbidden")


@contextlib.asynccontextmanager
async def _listener(code: str, env: dict[str, str]) -> AsyncIterator[int]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=env, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    try:
        yield int(await asyncio.wait_for(process.stdout.readline(), kit.HANG_S))
    finally:
        for pid in kit.session_pids(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        await process.wait()


@pytest.mark.parametrize(
    ("code", "env"),
    [
        (_LISTEN, {"NULL_CONTROL_URL": "http://127.0.0.1:1", "HOME": "/"}),
        (_LISTEN, {"HOME": "/", "REPORT_ADDR": "http://127.0.0.1:1", "CONTAINER_ID": "7"}),
        (_START_LISTENER, {"NULL_CONTROL_URL": "http://127.0.0.1:1"}),
    ],
    ids=["consumer", "worker", "what a consumer has started without its environment"],
)
async def test_no_port_of_another_consumer_is_called(code: str, env: dict[str, str]) -> None:
    async with _listener(code, env) as port:
        with pytest.raises(CallbackError, match="never called"):
            await Callbacks(private=True).check(f"http://127.0.0.1:{port}/")


async def test_any_other_program_of_this_machine_is_called_where_the_operator_allows_it() -> None:
    async with _listener(_LISTEN, {"HOME": "/"}) as port:
        await Callbacks(private=True).check(f"http://127.0.0.1:{port}/")
        await Callbacks(private=True).check(f"http://localhost:{port}/")
