"""What the engine's HTTP path takes: reports of ten thousand workers, and reservations, beside a bare echo.

The server has one core, the load another. What is compared is the requests that each server answers in a second of its
core's time, in turns of half a second: what else runs on the machine then slows both alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import psutil

from bench.engine_process import EngineProcess, engine_process
from bench.load import FIRST_PORT
from nullworker.core.events import RestoredWorker
from nullworker.engine.auth.keys import Keys
from nullworker.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parents[1]
WORKERS = 10_000
CONNECTIONS = 64
ROUNDS = 21
TURN_S = 0.5
WANTED_OF_ECHO = 0.7
GROUP_ID = 2  # of a new engine's own endpoint
SERVER_CORE, LOAD_CORE = 0, 1


def report(worker_id: int, token: str) -> tuple[str, str]:
    """A worker's report as the framework sends it: path and body."""
    body = {
        "id": worker_id, "mtoken": token, "version": "0", "loadtime": 1.5, "cur_load": 0.0, "rej_load": 0.0,
        "new_load": 0.0, "error_msg": "", "max_perf": 100.0, "cur_perf": 0.0, "cur_capacity": 0.0, "max_capacity": 0.0,
        "num_requests_working": 0, "num_requests_recieved": 0, "additional_disk_usage": 0.0,
        "working_request_idxs": [], "url": f"http://127.0.0.1:{FIRST_PORT + worker_id}",
    }  # fmt: skip
    return "/worker_status/", json.dumps(body)


@contextlib.contextmanager
def engine_with_workers(count: int) -> Iterator[tuple[EngineProcess, list[str]]]:
    """An engine that knows so many workers, as after a restart; and their tokens."""
    with TemporaryDirectory(prefix="nullworker-bench-") as scratch:
        state = Path(scratch) / "state"
        min_load = 100.0 * count
        with engine_process(state, min_load=min_load, max_workers=0, cold_workers=0):
            """It makes its endpoint and its keys."""
        keys = Keys.open(state)
        with contextlib.closing(Store.open(state / "engine.db")) as store:
            for worker_id in range(1, count + 1):
                url = f"http://127.0.0.1:{FIRST_PORT + worker_id}"
                store.put_worker(RestoredWorker(worker_id, GROUP_ID, "ready", url, 100.0))
        tokens = [keys.worker_token(worker_id).reveal() for worker_id in range(1, count + 1)]
        # None is made in the place of one whose report is late: that would be a real process.
        no_more = ["endpoint.null-local.workergroup.0.max_workers=0"]
        with engine_process(state, no_more, min_load=min_load, max_workers=count, cold_workers=0) as engine:
            pin(engine.pid, SERVER_CORE)
            yield engine, tokens


@contextlib.contextmanager
def echo() -> Iterator[tuple[str, int]]:
    """The baseline: its URL and process id."""
    command = [sys.executable, "-m", "bench.echo"]
    # In a session of its own: Ctrl-C is for us, and we end it.
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT, start_new_session=True)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        pin(process.pid, SERVER_CORE)
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def pin(pid: int, core: int) -> None:
    """Gives a process one core, where there are two."""
    if (os.cpu_count() or 1) > 1:
        psutil.Process(pid).cpu_affinity([core])


@dataclass(frozen=True)
class Turn:
    """What a server did in one turn."""

    per_core_second: float  # requests answered in a second of its own processor time
    per_second: float
    p50_ms: float
    p99_ms: float
    count: int = 0  # requests answered


class Load:
    """A process that puts one kind of load on one server, turn by turn."""

    def __init__(self, url: str, pid: int, **talk: Any) -> None:
        self._server = psutil.Process(pid)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.load"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT,
        )  # fmt: skip
        pin(self._process.pid, LOAD_CORE)
        self._tell({"url": url, **talk})

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def turn(self, seconds: float = TURN_S, connections: int = CONNECTIONS) -> Turn:
        """Runs for so long."""
        assert self._process.stdout is not None
        before = sum(self._server.cpu_times()[:2])
        self._tell({"connections": connections, "seconds": seconds})
        answered = json.loads(self._process.stdout.readline())
        cpu_s = sum(self._server.cpu_times()[:2]) - before
        assert set(answered["answers"]) <= {"200"}, answered
        count = answered["answers"].get("200", 0)
        return Turn(
            count / max(cpu_s, 0.01), count / answered["seconds"], answered["p50_ms"], answered["p99_ms"], count
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate()


@contextlib.contextmanager
def loads() -> Iterator[tuple[Load, Load, Load]]:
    """Ten thousand workers' reports to an engine, reservations of it, and reports to the echo."""
    with engine_with_workers(WORKERS) as (engine, tokens), echo() as (echo_url, echo_pid):
        requests = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
        reserve = {"endpoint": engine.endpoint, "api_key": engine.api_key, "tokens": tokens}
        with (
            contextlib.closing(Load(engine.url, engine.pid, reports=requests)) as reports_,
            contextlib.closing(Load(engine.url, engine.pid, reserve=reserve)) as reservations,
            contextlib.closing(Load(echo_url, echo_pid, reports=requests)) as bare,
        ):
            reports_.turn(3.0)  # all are heard of
            for each in (reservations, bare):
                each.turn()
            yield reports_, reservations, bare


def compared(ours: list[Turn], bare: list[Turn]) -> dict[str, Any]:
    """Figures of the turns of both servers, which took turns."""
    return {
        "per_core_second": statistics.median(turn.per_core_second for turn in ours),
        "echo_per_core_second": statistics.median(turn.per_core_second for turn in bare),
        "per_second": statistics.median(turn.per_second for turn in ours),
        "echo_per_second": statistics.median(turn.per_second for turn in bare),
        "ratio": statistics.median(o.per_core_second / b.per_core_second for o, b in zip(ours, bare, strict=True)),
    }


def reports() -> dict[str, Any]:
    """Reports of ten thousand workers, beside the echo, in turns."""
    with loads() as (reports_, _, bare):
        turns = [(reports_.turn(), bare.turn()) for _ in range(ROUNDS)]
    figures = compared(*map(list, zip(*turns, strict=True)))
    return {
        "name": f"reports of {WORKERS} workers",
        **figures,
        "wanted": f"at least {WANTED_OF_ECHO} of the echo",
        "met": figures["ratio"] >= WANTED_OF_ECHO,
        "rounds": ROUNDS,
    }


def grants() -> dict[str, Any]:
    """A worker asked for and its session ended, over and over, while ten thousand report; beside the echo, in turns."""
    with loads() as (reports_, reservations, bare):
        turns, alone = [], []
        for _ in range(ROUNDS):
            reports_.turn()  # no worker is taken for silent
            turns.append((reservations.turn(), bare.turn()))
            alone.append(reservations.turn(connections=1))
    figures = compared(*map(list, zip(*turns, strict=True)))
    return {
        "name": f"routes and ends with {WORKERS} workers",
        **figures,
        "one_at_a_time_p50_ms": statistics.median(turn.p50_ms for turn in alone),
        "one_at_a_time_p99_ms": statistics.median(turn.p99_ms for turn in alone),
        "rounds": ROUNDS,
    }


BENCHMARKS = {"reports": reports, "grants": grants}
