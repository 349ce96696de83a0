"""Real worker processes for the tests of the Null PyWorker, beside a stub of an engine (`tests.kit.stub_engine`).

All but the engine is real: the worker's process, the `vastai` package on both sides, RSA, JWT and TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.kit.engine_key import EngineKey
from tests.kit.stub_engine import ENDPOINT, TOKEN, WORKER_ID, StubEngine, now_s
from tests.kit.waiting import HANG_S, until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = [
    "ENDPOINT",
    "HANG_S",
    "ROOT",
    "TOKEN",
    "WORKER_ID",
    "Answer",
    "EngineKey",
    "StubEngine",
    "WorkerProcess",
    "call",
    "create",
    "end",
    "free",
    "is_alive",
    "now_s",
    "post",
    "ready_worker",
    "session_pids",
    "until",
    "worker",
    "worker_env",
]

ROOT = Path(__file__).parents[2]


@dataclass
class WorkerProcess:
    """`python -m workers.null.worker`, running."""

    process: asyncio.subprocess.Process
    env: Mapping[str, str]
    directory: Path
    spawned_at_s: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.env['WORKER_PORT']}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.env['WORKER_HTTP_PORT']}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.env['NULL_CONTROL_PORT']}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), HANG_S)


def worker_env(engine_url: str, **own: str) -> dict[str, str]:
    """All that a worker needs to be told, on free ports; ``own`` variables win."""
    port, http_port, control_port = free_port(), free_port(), free_port()
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(ROOT),
        "CONTAINER_ID": str(WORKER_ID),
        "REPORT_ADDR": engine_url,
        "MASTER_TOKEN": TOKEN,
        "WORKER_HOST": "127.0.0.1",
        "WORKER_PORT": str(port),
        "WORKER_HTTP_PORT": str(http_port),
        f"VAST_TCP_PORT_{port}": str(port),
        "PUBLIC_IPADDR": "127.0.0.1",
        "NULL_CONTROL_PORT": str(control_port),
        # As a fleet has both, where the second is set.
        **({"SETUPTOOLS_USE_DISTUTILS": "stdlib"} if sys.version_info < (3, 12) else {}),
        "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"],
        **own,
    }


@contextlib.asynccontextmanager
async def worker(env: Mapping[str, str], directory: Path, *command: str) -> AsyncIterator[WorkerProcess]:
    """Runs a worker (or ``command``) in ``directory``, and whatever happens ends it and all of its session."""
    with (directory / "log").open("wb") as log:
        spawned_at_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(command or (sys.executable, "-m", "workers.null.worker")),
            env=env,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield WorkerProcess(process, env, directory, spawned_at_s)
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 15)
        for pid in session_pids(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


def session_pids(session: int) -> list[int]:
    """The living processes of a session, by number."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == session and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def command_line(pid: int) -> bytes:
    """That of a process; empty where it is gone."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def write_at_once(path: Path, text: str) -> None:
    """Writes a file for which another process waits: that never reads it empty."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text)
    partial.replace(path)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read."""

    status: int
    body: Any


async def post(url: str, body: Any = None, **kwargs: Any) -> Answer:
    """One POST, with ``body`` as JSON where it is given."""
    return await call("POST", url, **({"json": body} if body is not None else {}), **kwargs)


async def call(method: str, url: str, **kwargs: Any) -> Answer:
    """One request of a client that keeps nothing."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HANG_S)) as http,
        http.request(method, url, **kwargs) as answer,
    ):
        is_json = answer.content_type == "application/json"
        return Answer(answer.status, await answer.json() if is_json else await answer.text())


async def create(worker: WorkerProcess, auth_data: dict[str, Any], **payload: Any) -> Answer:
    """POSTs /session/create as the SDK does."""
    body = {"auth_data": auth_data, "session_id": None, "payload": {"lifetime": 60, **payload}}
    return await post(worker.url + "/session/create", body)


async def end(worker: WorkerProcess, session_id: str, auth_data: dict[str, Any]) -> Answer:
    """POSTs /session/end as the SDK does."""
    return await post(worker.url + "/session/end", {"session_id": session_id, "session_auth": auth_data})


@contextlib.asynccontextmanager
async def ready_worker(directory: Path, **own: str) -> AsyncIterator[tuple[StubEngine, WorkerProcess]]:
    """A worker that has reported itself ready, and its engine; ``own`` variables are the worker's."""
    async with StubEngine().running() as engine, worker(worker_env(engine.url, **own), directory) as process:
        await engine.ready()
        yield engine, process


async def free(engine: StubEngine, worker: WorkerProcess) -> None:
    """Frees a worker that tests share; of what happened before, all has been told, and is forgotten."""
    await post(worker.control_url + "/release")
    last = engine.auth_data(worker.url)
    created = await create(worker, last)
    assert created.status == 201, created
    await post(worker.control_url + "/release")
    await engine.wait_for(lambda _: bool(engine.finished(last["request_idx"])))  # changes are told in order
    engine.reports.clear()
