"""Runs on a host as long as an engine is connected to it: the verbs of the process fleet, as lines of JSON.

    engine -> agent    {"id": 7, "verb": "stop", "worker_id": 3}
    agent -> engine    nullworker answer {"id": 7, "result": …}    or {"id": 7, "error": "…", "definite": true, …}
                       nullworker exited {"worker_id": 3, "detail": "exit code 1"}

It holds nothing that is not on disk or in the kernel: when the connection breaks it ends, workers go on, and the next
one finds them. One agent at a time has the instances of a mark: a new one ends an old one whose connection is dead.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fcntl
import os
import signal
import socket
import struct
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from nullworker.fleets.base import FleetError, InstanceSpec, Resources, ShortageError
from nullworker.fleets.processes.fleet import ProcessFleet
from nullworker.fleets.processes.records import safe_name
from nullworker.wire import tasks
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO

LINE_BYTES_MAX = 64 << 20
#: How long an old agent may take to end, and an engine to take a connection.
TAKE_OVER_S = 20.0
REACH_S = 5.0
_POLL_S = 0.02


class AgentSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine says of this host."""

    mark: str
    root: str  # the directory of everything here
    code: str  # the directory that this code is in
    has_own_code: bool = False
    consumer_dir: str = ""
    address: str = ""
    gpus: int | list[int | str] | None = None
    gpus_per_worker: int = 0
    grace_s: float = 10.0
    log_bytes_max: int = 10 * 1024 * 1024
    logs_kept: int = 100

    @property
    def state_dir(self) -> Path:
        """Where instances of this mark are kept."""
        return Path(self.root) / "state" / safe_name(self.mark)

    def for_processes(self, environ: Mapping[str, str]) -> dict[str, object]:
        """The settings of the process fleet.

        Args:
            environ: of this process, for the address that SSH reached.
        """
        own = Path(self.code) / "own"
        return {
            "state_dir": str(self.state_dir),
            "host": self.address or reached_at(environ),
            "consumer_dir": str(own) if self.has_own_code else self.consumer_dir,
            "gpus": self.gpus,
            "gpus_per_worker": self.gpus_per_worker,
            "grace_s": self.grace_s,
            "log_bytes_max": self.log_bytes_max,
            "logs_kept": self.logs_kept,
        }


def reached_at(environ: Mapping[str, str]) -> str:
    """The address at which SSH reached this host, as sshd says it."""
    parts = environ.get("SSH_CONNECTION", "").split()
    return parts[2] if len(parts) == 4 else "127.0.0.1"


class Agent:
    """Carries out what the engine asks for."""

    def __init__(self, fleet: ProcessFleet, output: IO[bytes]) -> None:
        self._fleet = fleet
        self._output = output
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Returns when the connection has ended."""
        while line := await reader.readline():
            task = tasks.start(self._answer(msgspec.json.decode(line)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            answer["result"] = await self.carry_out(request)
        except FleetError as error:
            answer |= {"error": str(error), "definite": error.definite, "shortage": isinstance(error, ShortageError)}
        except Exception as error:
            answer |= {"error": tasks.failed(f"The verb {request['verb']}", error), "definite": False}
        self.say("answer", answer)

    async def carry_out(self, request: dict[str, Any]) -> object:
        """Carries out one verb. Raises FleetError."""
        verb, fleet = request["verb"], self._fleet
        if verb == "list":
            return [{**asdict(each), "state": each.state.value} for each in await fleet.list()]
        if verb == "create":
            spec = spec_of(request["spec"])
            await check_reach(spec.report_addr)
            await fleet.create(spec)
            return None
        if verb == "read_log":
            return base64.b64encode(await fleet.read_log(request["worker_id"], request["bytes_max"])).decode()
        if verb in ("start", "stop", "destroy"):
            await getattr(fleet, verb)(request["worker_id"])
            return None
        if verb == "end":
            await fleet.close(destroy=True, grace_s=request["grace_s"])
            return None
        raise FleetError(f"The agent knows no verb {verb!r}.")

    def say(self, word: str, content: object) -> None:
        """Tells the engine something. Nothing is said where the connection is gone."""
        with contextlib.suppress(OSError, ValueError):
            self._output.write(b"nullworker %s %s\n" % (word.encode(), msgspec.json.encode(content)))
            self._output.flush()


def spec_of(fields: dict[str, Any]) -> InstanceSpec:
    """The spec that the engine sent; of its resources, the host has to place by GPUs alone."""
    return InstanceSpec(**{**fields, "resources": Resources(gpus=fields["resources"]["gpus"])})


async def check_reach(report_addr: str) -> None:
    """Returns if the engine takes a connection from this host.

    Raises:
        FleetError: it does not: a worker would never be heard of.
    """
    url = urlsplit(report_addr.partition(",")[0].strip())
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        opening = asyncio.open_connection(url.hostname, port)
        _, writer = await within(opening, REACH_S)
    except (OSError, asyncio.TimeoutError) as error:
        why = (getattr(error, "strerror", "") or str(error) or "no answer").lower()
        raise FleetError(
            f"{socket.gethostname()} cannot reach the engine at {report_addr} ({why}): set public_url of [engine] to "
            "an address at which it can, and let the engine listen there (host)."
        ) from error
    writer.close()


async def take_lock(folder: Path) -> IO[str]:
    """Returns when this is the only agent of its mark; one that is there already is ended.

    Raises:
        OSError: it does not end.
    """
    lock = _opened(folder)
    ends_at = asyncio.get_running_loop().time() + TAKE_OVER_S
    asked: set[int] = set()
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except (BlockingIOError, PermissionError):
            holder = _holder(lock)
            if holder and holder not in asked:
                asked.add(holder)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(holder, signal.SIGTERM)
        if asyncio.get_running_loop().time() > ends_at:
            raise OSError(f"another agent, process {_holder(lock)}, has its instances and does not end")
        await asyncio.sleep(_POLL_S)


def _opened(folder: Path) -> IO[str]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return (folder / "agent.lock").open("a")


def _holder(lock: IO[str]) -> int:
    """The process that has the lock, as the kernel knows it; 0: none, or none that is seen from here."""
    form = "hhqqi"  # type, whence, start, length, process: struct flock of 64-bit Linux
    found = fcntl.fcntl(lock, fcntl.F_GETLK, struct.pack(form, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0) + bytes(4))
    kind, _, _, _, pid = struct.unpack_from(form, found)
    return pid if kind != fcntl.F_UNLCK else 0


async def run(settings: AgentSettings, output: IO[bytes]) -> None:
    """Serves the engine on standard input until the connection ends.

    Args:
        settings: what the engine says of this host.
        output: where it reads answers.
    """
    loop = asyncio.get_running_loop()
    lock = await take_lock(settings.state_dir)
    told: list[tuple[int, str]] = []
    agent: Agent | None = None

    def exited(worker_id: int, detail: str) -> None:
        if agent is None:
            told.append((worker_id, detail))
        else:
            agent.say("exited", {"worker_id": worker_id, "detail": detail})

    processes = settings.for_processes(os.environ)
    fleet = await ProcessFleet.open(processes, settings.mark, exited)
    try:
        agent = Agent(fleet, output)
        listed = await agent.carry_out({"verb": "list"})
        agent.say("hello", {"address": processes["host"], "gpus": fleet.gpu_count, "instances": listed})
        for worker_id, detail in told:
            exited(worker_id, detail)
        reader = asyncio.StreamReader(LINE_BYTES_MAX)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        serving = tasks.start(agent.serve(reader))
        loop.add_signal_handler(signal.SIGTERM, serving.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    finally:
        await fleet.close()
        lock.close()


def main(settings: str) -> None:
    """Runs an agent; ``settings`` are an `AgentSettings` as JSON."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what anything else prints is no answer
    try:
        asyncio.run(run(msgspec.json.decode(settings, type=AgentSettings), output))
    except (FleetError, OSError) as error:
        output.write(b"nullworker failed %s\n" % str(error).encode())
        output.flush()
        sys.exit(1)
