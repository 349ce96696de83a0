"""What the dispatcher's tests share: an engine with real null workers, the dispatcher as a process, and the truth.

The truth is what the workers write into their own logs when a session opens and closes, and what the consumers write
into a file when a job begins and ends, with what their worker's control port said at that moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.core.reservation import Stage
from nullworker.engine.config import EndpointConfig, EngineConfig, WorkergroupConfig
from nullworker.engine.server import Server
from tests.kit.signing_key import give_signing_key
from tests.kit.waiting import until
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent
ENDPOINT = "gpu"
#: A hang limit in seconds, far over what anything here takes on an idle machine.
HANG_S = 90.0
IDLE_S = 2.0
PRICE_PER_HOUR = 3.6
PYTHON = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


def mixed(count: int) -> list[tuple[str, float]]:
    """Jobs and how long they take: most of them milliseconds, some half a second."""
    rng = random.Random(7)
    lengths = [lambda: rng.uniform(0, 0.02), lambda: rng.uniform(0.02, 0.06), lambda: rng.uniform(0.3, 0.8)]
    return [(f"job-{number}", rng.choices(lengths, (70, 26, 4))[0]()) for number in range(count)]


# ------------------------------------------------------------------------------------------------------------- engine


class Farm:
    """An engine in this process, on one port however often it is restarted, with workers as processes."""

    def __init__(self, folder: Path, most: int, consumer: str, env: dict[str, str]) -> None:
        self.state = folder / "engine"
        self.notes = folder / "notes"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        parameters = replace(TESTED_PARAMETERS, max_workers=most, inactivity_timeout=IDLE_S)
        group = WorkergroupConfig(
            consumer=consumer, price_per_hour=PRICE_PER_HOUR, env={**PYTHON, "NOTES": str(self.notes), **env}
        )
        self._config = EngineConfig(
            "127.0.0.1",
            self.port,
            self.state,
            (EndpointConfig(ENDPOINT, parameters, (group,)),),
            {"processes": {"grace_s": 2.0}},
        )
        self.server: Server | None = None

    async def start(self) -> None:
        give_signing_key(self.state)
        self.server = await Server.open(self._config, {})

    async def stop(self, *, destroy: bool = False) -> None:
        """Ends the engine; its workers live on, unless they are to go as well."""
        server, self.server = self.server, None
        if server is not None:
            await server.close(destroy=destroy)

    @property
    def key(self) -> str:
        return (self.state / "api_key").read_text().strip()

    @property
    def workers(self) -> dict[int, str]:
        """The state of each worker, as the engine knows it."""
        assert self.server is not None
        return {w.worker_id: w.state.value for w in self.server.driver.engine.state.workers.values()}

    @property
    def held(self) -> int:
        """How many workers are held, as the engine knows it."""
        assert self.server is not None
        state = self.server.driver.engine.state
        return sum(r.stage is Stage.SESSION for r in state.reservations.values())

    @property
    def waiting(self) -> int:
        """How many reservations wait for a worker, as the engine knows it."""
        assert self.server is not None
        state = self.server.driver.engine.state
        return sum(r.stage is Stage.WAITING for r in state.reservations.values())

    def worker_pids(self) -> list[int]:
        """Process ids of the workers that are there."""
        found = []
        for file in self.state.glob("fleets/processes/*/*/instance.json"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                found.append(int(json.loads(file.read_text())["pid"]))
        return found

    def sessions(self) -> list[Session]:
        """Every session of every worker, from the workers' own logs."""
        return [session for log in self._logs() for session in read_sessions(log)]

    def logs(self) -> str:
        """All that workers and their consumers have said."""
        return "".join(self._logs())

    def _logs(self) -> list[str]:
        files = [*self.state.glob("fleets/processes/*/*/worker.log*"), *self.state.glob("logs/*/*.log")]
        return [file.read_text(errors="replace") for file in files]

    def begun(self) -> set[str]:
        """The jobs that have begun."""
        return {run.job for run in self.runs()}

    def runs(self) -> list[Run]:
        return read_runs(self.notes)


@contextlib.asynccontextmanager
async def farm(folder: Path, consumer: str | list[str], most: int = 4, **env: str) -> AsyncIterator[Farm]:
    """An engine whose workers run ``consumer`` while they are held; with it go its workers."""
    command = consumer if isinstance(consumer, str) else shlex.join(consumer)
    running = Farm(folder, most, command, env)
    await running.start()
    try:
        yield running
    finally:
        if running.server is None:
            await running.start()
        await running.stop(destroy=True)


def python(script: str, *arguments: str) -> list[str]:
    """A consumer of this folder."""
    return [sys.executable, str(HERE / script), *arguments]


# -------------------------------------------------------------------------------------------------------------- truth


@dataclass(frozen=True)
class Session:
    """A session, as its worker wrote it down; ``closed_at`` is infinite for one that has not closed."""

    opened_at: float
    closed_at: float


@dataclass(frozen=True)
class Run:
    """One job, as its consumer wrote it down; ``ended_at`` is None if it never ended."""

    job: str
    session: str
    held: bool
    began_at: float
    ended_at: float | None


_LINE = re.compile(
    r"^(\S+ \S+?),(\d{3}) INFO session (?:opened for request (\d+)|of request (\d+) closed)", re.MULTILINE
)


def read_sessions(log: str) -> Iterator[Session]:
    open_at: dict[str, float] = {}
    for moment, milliseconds, opened, closed in _LINE.findall(log):
        at = dt.datetime.fromisoformat(moment).timestamp() + int(milliseconds) / 1000
        if opened:
            open_at[opened] = at
        elif closed in open_at:
            yield Session(open_at.pop(closed), at)
    for at in open_at.values():
        yield Session(at, float("inf"))


def read_runs(notes: Path) -> list[Run]:
    """From the file into which consumers write ``begin|end job session held time``."""
    begun: dict[tuple[str, str], tuple[bool, float]] = {}
    runs = []
    for line in notes.read_text().splitlines() if notes.exists() else ():
        what, job, session, held, at = line.split()
        if what == "begin":
            begun[job, session] = held == "1", float(at)
        elif (job, session) in begun:
            was_held, began_at = begun.pop((job, session))
            runs.append(Run(job, session, was_held and held == "1", began_at, float(at)))
    return runs + [Run(job, session, held, at, None) for (job, session), (held, at) in begun.items()]


def peak(spans: list[tuple[float, float]]) -> int:
    """How many of these spans of time there were at the same time, at most."""
    changes = sorted([(at, 1) for at, _ in spans] + [(at, -1) for _, at in spans])
    count = most = 0
    for _, change in changes:
        count += change
        most = max(most, count)
    return most


def check_runs(runs: list[Run], jobs: list[str]) -> None:
    """Every job done, each once, and each while the worker was held."""
    done = Counter(run.job for run in runs if run.ended_at is not None)
    assert sorted(done) == sorted(jobs), (sorted(set(jobs) - set(done)), sorted(set(done) - set(jobs)))
    assert [job for job, count in done.items() if count != 1] == []
    assert [run for run in runs if not run.held] == []


def check_the_last(runs: list[Run], job: str) -> None:
    """The job's consumer was killed in the middle of it, and another did it."""
    of_it = [run for run in runs if run.job == job]
    assert [run.ended_at is None for run in sorted(of_it, key=lambda run: run.began_at)] == [True, False]
    assert len({run.session for run in of_it}) == 2


def check_peak(farm: Farm, most: int) -> None:
    sessions = farm.sessions()
    assert sessions, "no worker wrote down a session"
    assert peak([(s.opened_at, s.closed_at) for s in sessions]) <= most


# --------------------------------------------------------------------------------------------------------- dispatcher


@dataclass
class DispatchProcess:
    """``nullworker dispatch``, which may be started again after its end."""

    folder: Path
    arguments: list[str]
    key: str
    starts: int = 0
    process: subprocess.Popen[bytes] | None = None
    codes: list[int] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "dispatch.log"

    @property
    def out(self) -> Path:
        return self.folder / "dispatch.out"

    def start(self) -> None:
        """Starts it; what is left of one before it is adopted."""
        assert self.process is None
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("NULLWORKER_", "VAST_"))
        }
        command = [sys.executable, "-m", "nullworker.cli.main", "dispatch", "--json", *self.arguments]
        with self.log.open("ab") as log, self.out.open("ab") as out:
            self.process = subprocess.Popen(
                [*command, "--state", str(self.folder / "dispatch-state")],
                env={**environment, **PYTHON, "VAST_API_KEY": self.key},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                start_new_session=True,
            )
        self.starts += 1

    def kill(self) -> None:
        """As the out-of-memory killer does."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """As Ctrl-C does; returns the exit code."""
        self._end(signal.SIGINT)
        return self.codes[-1]

    def _end(self, sign: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(sign)
            try:
                self.codes.append(process.wait(HANG_S))
            finally:
                process.kill()
                process.wait()

    async def wait(self, hang_s: float = HANG_S) -> int:
        """Waits for its own end; returns the exit code."""
        process = self.process
        assert process is not None
        await until(lambda: process.poll() is not None, lambda: f"the dispatcher ends: {self.tail()}", hang_s=hang_s)
        self.process = None
        return process.wait()

    @property
    def said(self) -> list[dict[str, Any]]:
        """What it has printed, line by line."""
        lines = self.out.read_text().splitlines() if self.out.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    @property
    def last(self) -> dict[str, Any]:
        lines = self.out.read_text().splitlines() if self.out.exists() else []
        return next((json.loads(line) for line in reversed(lines) if line.endswith("}")), {})

    def tail(self) -> str:
        log = self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
        return f"{self.said[-5:]}\n{log}"

    async def kill_at(self, counted: Callable[[], int], *moments: int) -> None:
        """Kills it and starts it again, each time that so many are counted."""
        for moment in moments:
            await until(lambda n=moment: counted() >= n, self.tail)  # type: ignore[misc]  # mypy knows no default here
            self.kill()
            await asyncio.sleep(0.2)
            self.start()


@contextlib.contextmanager
def dispatching(
    running: Farm, folder: Path, queue: str, *flags: str, most: int = 4, started: bool = True
) -> Iterator[DispatchProcess]:
    """A dispatcher of ``queue`` to the farm's endpoint; it is killed in the end, if it still runs."""
    arguments = ["--endpoint", ENDPOINT, "--queue", queue, "--instance", running.url, "--max", str(most), *flags]
    dispatcher = DispatchProcess(folder, arguments, running.key)
    if started:
        dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.kill()
