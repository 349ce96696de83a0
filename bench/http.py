"""What the engine's HTTP path takes: reports of ten thousand workers, and grants, beside a bare echo on the same core.

The server has one core, the load another. What is compared is the requests that each server answers in a second of its
core's time, which other programs on the machine cannot change; they run in turns all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
import psutil

from bench.engine_process import EngineProcess, engine_process
from nullworker.engine.keys import Keys
from nullworker.engine.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).resolve().parents[1]
WORKERS = 10_000
CONNECTIONS = 64
ROUNDS = 5
ROUND_S = 2.0
GRANTS = 2_000
GROUP_ID = 2  # of a new engine's own endpoint
SERVER_CORE, LOAD_CORE = 0, 1


def report(worker_id: int, token: str) -> tuple[str, str]:
    """A worker's report as the framework sends it: path and body."""
    body = {
        "id": worker_id, "mtoken": token, "version": "0", "loadtime": 1.5, "cur_load": 0.0, "rej_load": 0.0,
        "new_load": 0.0, "error_msg": "", "max_perf": 100.0, "cur_perf": 0.0, "cur_capacity": 0.0, "max_capacity": 0.0,
        "num_requests_working": 0, "num_requests_recieved": 0, "additional_disk_usage": 0.0,
        "working_request_idxs": [], "url": f"http://127.0.0.1:{20_000 + worker_id}",
    }  # fmt: skip
    return "/worker_status/", json.dumps(body)


@contextlib.contextmanager
def engine_with_workers(count: int) -> Iterator[tuple[EngineProcess, list[str]]]:
    """An engine that knows so many workers, as after a restart; and their tokens."""
    with TemporaryDirectory(prefix="nullworker-bench-") as scratch:
        state = Path(scratch) / "state"
        parameters = {"min_load": 100.0 * count, "max_workers": count, "cold_workers": 0}
        with engine_process(state, **{**parameters, "max_workers": 0}):
            """It makes its endpoint and its keys."""
        keys = Keys.open(state)
        with contextlib.closing(Store.open(state / "engine.db")) as store:
            for worker_id in range(1, count + 1):
                url = f"http://127.0.0.1:{20_000 + worker_id}"
                store.put_worker((worker_id, GROUP_ID, "ready", url, 100.0, True))
        tokens = [keys.worker_token(worker_id).reveal() for worker_id in range(1, count + 1)]
        with engine_process(state, **parameters) as engine:
            pin(engine.pid, SERVER_CORE)
            yield engine, tokens


@contextlib.contextmanager
def echo() -> Iterator[tuple[str, int]]:
    """The yardstick: its URL and process id."""
    process = subprocess.Popen([sys.executable, "-m", "bench.echo"], stdout=subprocess.PIPE, text=True, cwd=_ROOT)
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


def load(url: str, pid: int, requests: list[tuple[str, str]], seconds: float) -> tuple[float, float]:
    """Puts a load on a server; requests that it answers in a second, and in a second of its core's time."""
    parts = urlsplit(url)
    order = {"host": parts.hostname, "port": parts.port, "connections": CONNECTIONS, "seconds": seconds}
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    )
    pin(process.pid, LOAD_CORE)
    before = sum(psutil.Process(pid).cpu_times()[:2])
    out, _ = process.communicate(json.dumps({**order, "requests": requests}))
    cpu_s = sum(psutil.Process(pid).cpu_times()[:2]) - before
    answered = json.loads(out)
    assert set(answered["answers"]) == {"200"}, answered
    count = answered["answers"]["200"]
    return count / answered["seconds"], count / cpu_s


async def reports() -> dict[str, Any]:
    """Reports of ten thousand workers, beside the echo, in turns."""
    ours: list[tuple[float, float]] = []
    bare: list[tuple[float, float]] = []
    with engine_with_workers(WORKERS) as (engine, tokens), echo() as (echo_url, echo_pid):
        requests = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
        await asyncio.to_thread(load, engine.url, engine.pid, requests, ROUND_S)  # all are heard of
        for _ in range(ROUNDS):
            ours.append(await asyncio.to_thread(load, engine.url, engine.pid, requests, ROUND_S))
            bare.append(await asyncio.to_thread(load, echo_url, echo_pid, requests[:1000], ROUND_S))
    ratio = statistics.median(core for _, core in ours) / statistics.median(core for _, core in bare)
    return {
        "name": f"reports of {WORKERS} workers",
        "per_core_second": statistics.median(core for _, core in ours),
        "echo_per_core_second": statistics.median(core for _, core in bare),
        "per_second": statistics.median(wall for wall, _ in ours),
        "echo_per_second": statistics.median(wall for wall, _ in bare),
        "ratio": ratio,
        "wanted": "at least 0.7 of the echo",
        "met": ratio >= 0.7,
        "rounds": ROUNDS,
    }


async def grants() -> dict[str, Any]:
    """A grant and the end of its session, one after another, with ten thousand workers."""
    taken: list[float] = []
    with engine_with_workers(WORKERS) as (engine, tokens):
        requests = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
        await asyncio.to_thread(load, engine.url, engine.pid, requests, 3 * ROUND_S)
        before = sum(psutil.Process(engine.pid).cpu_times()[:2])
        async with aiohttp.ClientSession() as http:
            for _ in range(GRANTS):
                began = time.perf_counter()
                ask = {"endpoint": engine.endpoint, "api_key": engine.api_key, "cost": 100, "request_idx": 0}
                async with http.post(f"{engine.url}/route/", json=ask) as answer:
                    granted = await answer.json()
                taken.append(time.perf_counter() - began)
                worker_id = int(granted["url"].rpartition(":")[2]) - 20_000
                over = {"request_idx": granted["request_idx"], "success": True, "status": "Success"}
                body = {"worker_id": worker_id, "mtoken": tokens[worker_id - 1], "requests": [over]}
                async with http.post(f"{engine.url}/delete_requests/", json=body) as answer:
                    assert answer.status == 200, await answer.text()
        cpu_s = sum(psutil.Process(engine.pid).cpu_times()[:2]) - before
    return {
        "name": f"grants with {WORKERS} workers",
        "grants_and_ends_per_core_second": GRANTS / cpu_s,
        "route_p50_ms": statistics.median(taken) * 1000,
        "route_p99_ms": statistics.quantiles(taken, n=100)[98] * 1000,
        "rounds": GRANTS,
    }


BENCHMARKS = {"reports": reports, "grants": grants}
