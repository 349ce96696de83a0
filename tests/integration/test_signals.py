"""Each command ends within its grace at whatever moment a signal comes: Ctrl-C, SIGTERM or SIGHUP.

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
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from nullworker.queues import sqlite_jobs
from tests.integration.dispatch.kit import ENDPOINT, farm
from tests.kit.waiting import HANG_S, until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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
CLI = (*(command for command in COMMANDS if command != "worker"), "logs", "demo")
#: How each that goes on until it is told to end ends by SIGTERM, once it has set itself up.
BY_SIGTERM = {
    "engine": 0,
    "dispatch": 0,
    "worker": 0,
    "consume": 143,
    "reserve": 130,
    "simulate": -signal.SIGTERM,  # at once: there is nothing to tidy up
    "logs": -signal.SIGTERM,
    "demo": 130,
    "classic": 0,
}


#: What a test has started. One that fails must leave nothing: some of the commands would use a core for minutes.
STARTED: list[asyncio.subprocess.Process] = []


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Farm]:
    async with farm(tmp_path, most=2, consumer=f"{sys.executable} -c 'import time; time.sleep(600)'") as running:
        yield running
        while STARTED:
            process = STARTED.pop()
            if process.returncode is None:
                process.kill()
                await process.wait()


def arguments(command: str, running: Farm, folder: Path) -> list[str]:
    queue = folder / "jobs.db"
    sqlite_jobs.enqueue(queue, ["a", "b", "c", "d"])
    return {
        "engine": ["engine", "--port", "0", "--state", str(folder / "own"), "--set", f"{LOCAL}.min_load=100"],
        "dispatch": ["dispatch", "--endpoint", ENDPOINT, "--queue", sqlite_jobs.url(queue), "--instance", running.url,
                     "--state", str(folder / "dispatcher"), "--lifetime", "5"],
        "consume": ["consume", "--control-port", str(free_port()), "--", "sleep", "60"],
        "reserve": ["reserve", "--endpoint", ENDPOINT, "--instance", running.url, "--count", "2", "--interval", "0"],
        "status": ["status", "--instance", running.url],
        "explain": ["explain", ENDPOINT, "--instance", running.url],
        "simulate": ["simulate", "--seeds", "2000"],
        "logs": ["logs", ENDPOINT, "--follow", "--instance", running.url],
        "demo": ["demo", "--jobs", "4", "--json", "--", "sleep", "60"],
    }[command]  # fmt: skip


async def listening(process: asyncio.subprocess.Process) -> list[int]:
    with contextlib.suppress(psutil.Error):
        connections = psutil.Process(process.pid).net_connections("tcp")
        return [c.laddr.port for c in connections if c.status == psutil.CONN_LISTEN]
    return []


async def begun(command: str, running: Farm, folder: Path, *before: str) -> asyncio.subprocess.Process:
    """Starts a command. ``before``: the program that starts it."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("NULLWORKER_", "VAST_"))}
    environ |= {"VAST_API_KEY": running.key, "PYTHONUNBUFFERED": "1"}
    program = ["-m", "nullworker.cli.main", *arguments(command, running, folder)] if command in CLI else []
    if command == "worker":
        program = ["-m", "workers.null.worker"]
        port = str(free_port())
        environ |= {
            "UNSECURED": "true", "WORKER_PORT": port, f"VAST_TCP_PORT_{port}": port,
            "WORKER_HTTP_PORT": str(free_port()), "NULL_CONTROL_PORT": str(free_port()), "WORKER_HOST": "127.0.0.1",
            "REPORT_ADDR": running.url, "CONTAINER_ID": "1", "PUBLIC_IPADDR": "127.0.0.1", "NULL_CONSUMER": "sleep 600",
        }  # fmt: skip
    if command == "classic":
        program = ["-m", "nullworker.classic", "helloworld", "--port", str(free_port())]
    process = await asyncio.create_subprocess_exec(
        *before, sys.executable, *program, env=environ, cwd=folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    STARTED.append(process)
    return process


async def ends_within_its_grace(command: str, running: Farm, folder: Path, rng: random.Random) -> float:
    """Starts a command, sends it a signal at a random moment, and says how long it took to end."""
    process = await begun(command, running, folder)
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
            process.send_signal(rng.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)))
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


def handles(process: asyncio.subprocess.Process, which: str, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (``SigCgt``), or ignores it (``SigIgn``)."""
    status = (Path("/proc") / str(process.pid) / "status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith(f"{which}:"))
    return bool(int(mask, 16) & 1 << (number - 1))


@pytest.mark.timeout(120)
async def test_a_terminal_that_is_closed_ends_each_command_as_sigterm_does(running: Farm, tmp_path: Path) -> None:
    async def end_of(command: str) -> int | None:
        folder = tmp_path / f"of-{command}"
        folder.mkdir()
        process = await begun(command, running, folder)
        expected = [signal.SIGHUP, *([signal.SIGTERM] if BY_SIGTERM[command] >= 0 else [])]
        await until(lambda: all(handles(process, "SigCgt", number) for number in expected))
        process.send_signal(signal.SIGHUP)
        _, err = await asyncio.wait_for(process.communicate(), HANG_S)
        assert b"Traceback" not in err, err.decode()
        return process.returncode

    ends = await asyncio.gather(*(end_of(command) for command in BY_SIGTERM))
    assert dict(zip(BY_SIGTERM, ends, strict=True)) == BY_SIGTERM


@pytest.mark.timeout(120)
async def test_under_nohup_a_terminal_that_is_closed_ends_nothing(running: Farm, tmp_path: Path) -> None:
    async def end_of(command: str) -> int | None:
        folder = tmp_path / f"of-{command}"
        folder.mkdir()
        process = await begun(command, running, folder, "nohup")
        await until(lambda: handles(process, "SigCgt", signal.SIGTERM))
        process.send_signal(signal.SIGHUP)
        assert handles(process, "SigIgn", signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), HANG_S)
        return process.returncode

    commands = ("consume", "worker", "classic")
    assert await asyncio.gather(*(end_of(command) for command in commands)) == [143, 0, 0]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("command", COMMANDS)
async def test_two_hundred_signals(command: str, running: Farm, tmp_path: Path) -> None:
    rng = random.Random()
    for number in range(200 // len(COMMANDS)):
        folder = tmp_path / str(number)
        folder.mkdir()
        await ends_within_its_grace(command, running, folder, rng)
