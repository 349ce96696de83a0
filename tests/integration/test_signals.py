"""Each command ends within its grace at whatever moment a signal comes, whatever its peers are at.

The servers among them have connections that do nothing, sent half a request, or are kept alive. ``make test-long``
sends two hundred signals over all, the ordinary run one to each command.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from nullworker.queues import sqlite_jobs
from tests.integration.dispatch.kit import ENDPOINT, farm
from tests.kit.waiting import HANG_S
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.dispatch.kit import Farm

#: How long a command may take to end, on a machine that does other things as well.
GRACE_S = 8.0
#: A signal comes at a random moment of so many seconds: while Python starts, while all is set up, or later.
LONGEST_S = 3.0
#: What a server's peers have sent it when the signal comes.
HALVES = (
    b"",
    b"POST / HT",
    b"POST /nullworker/closed/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nab",
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
)
LOCAL = "endpoint.null-local"
COMMANDS = ("engine", "dispatch", "worker", "consume", "reserve", "status", "explain", "simulate")


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Farm]:
    async with farm(tmp_path, most=2, consumer=f"{sys.executable} -c 'import time; time.sleep(600)'") as running:
        yield running


def arguments(command: str, running: Farm, folder: Path) -> list[str]:
    queue = folder / "jobs.db"
    sqlite_jobs.enqueue(queue, ["a", "b", "c", "d"])
    return {
        "engine": ["engine", "--port", "0", "--state", str(folder / "own"), "--set", f"{LOCAL}.min_load=100"],
        "dispatch": ["dispatch", "--endpoint", ENDPOINT, "--queue", sqlite_jobs.url(queue), "--instance", running.url,
                     "--state", str(folder / "dispatcher"), "--lifetime", "5"],
        "worker": ["worker"],
        "consume": ["consume", "--control-port", str(free_port()), "--", "sleep", "60"],
        "reserve": ["reserve", "--endpoint", ENDPOINT, "--instance", running.url, "--count", "2", "--interval", "0"],
        "status": ["status", "--instance", running.url],
        "explain": ["explain", ENDPOINT, "--instance", running.url],
        "simulate": ["simulate", "--seeds", "2000"],
    }[command]  # fmt: skip


async def listening(process: asyncio.subprocess.Process) -> list[int]:
    with contextlib.suppress(psutil.Error):
        connections = psutil.Process(process.pid).net_connections("tcp")
        return [c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN]
    return []


async def ends_within_its_grace(command: str, running: Farm, folder: Path, rng: random.Random) -> float:
    """Starts a command, sends it a signal at a random moment, and says how long it took to end."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("NULLWORKER_", "VAST_"))}
    environ |= {"VAST_API_KEY": running.key, "PYTHONUNBUFFERED": "1"}
    program = ["-m", "nullworker.cli.main", *arguments(command, running, folder)]
    if command == "worker":
        program = ["-m", "nullworker.worker.main"]
        environ |= {
            "UNSECURED": "true", "WORKER_PORT": str(free_port()), "NULL_CONTROL_PORT": str(free_port()),
            "REPORT_ADDR": running.url, "CONTAINER_ID": "1", "PUBLIC_IPADDR": "127.0.0.1", "NULL_CONSUMER": "sleep 600",
        }  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        sys.executable, *program, env=environ, cwd=folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    reading = asyncio.ensure_future(process.stderr.read() if process.stderr else asyncio.sleep(0))
    with contextlib.ExitStack() as peers:
        await asyncio.wait({asyncio.ensure_future(process.wait())}, timeout=rng.uniform(0.0, LONGEST_S))
        for port in await listening(process):
            for half in HALVES:
                with contextlib.suppress(OSError):
                    peer = peers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1.0))
                    peer.sendall(half)
        await asyncio.sleep(0.05)
        began = asyncio.get_running_loop().time()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(rng.choice((signal.SIGINT, signal.SIGTERM)))
        try:
            await asyncio.wait_for(process.wait(), GRACE_S)
        except asyncio.TimeoutError:
            process.kill()
            err = (await reading or b"").decode()
            pytest.fail(f"{command} went on for {GRACE_S:g} s after a signal; it said:\n{err[-3000:]}")
        took_s = asyncio.get_running_loop().time() - began
    err = (await asyncio.wait_for(reading, HANG_S) or b"").decode()
    assert "was left" not in err, err  # the last resort, not an end
    return took_s


@pytest.mark.timeout(120)
@pytest.mark.parametrize("command", COMMANDS)
async def test_a_command_ends_within_its_grace(command: str, running: Farm, tmp_path: Path) -> None:
    await ends_within_its_grace(command, running, tmp_path, random.Random())


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", COMMANDS)
async def test_two_hundred_signals(command: str, running: Farm, tmp_path: Path) -> None:
    rng = random.Random()
    for number in range(200 // len(COMMANDS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        await ends_within_its_grace(command, running, folder, rng)
