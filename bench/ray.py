"""A reservation through nullworker beside a Ray actor that is held as one, and a start on Ray beside Ray's own.

Everything is real: a Ray cluster on this machine, an engine with its workers as jobs of it, the unmodified client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.engine_process import engine_process
from bench.reservations import _granted, _open_and_close, endpoint_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROUNDS = 10
WARM_ROUNDS = 100
COLD_ROUNDS = 5
HANG_S = 120
FASTER_WANTED = 40
SLOWER_WANTED = 1.3
#: Reserves by an actor that takes a resource of which there is one, and hands it over to an actor that waits for it.
ACTORS = """
import json, sys, time
import ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=0, resources={"place": 1})
class Holder:
    def here(self):
        return True
reserve, hand_over = [], []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    holder = Holder.remote()
    ray.get(holder.here.remote())
    reserve.append(time.perf_counter() - began)
    waiter = Holder.remote()
    answer = waiter.here.remote()
    time.sleep(0.3)
    began = time.perf_counter()
    ray.kill(holder)
    ray.get(answer)
    hand_over.append(time.perf_counter() - began)
    ray.kill(waiter)
    time.sleep(0.3)
print(json.dumps([reserve, hand_over]))
"""
IMPORTS = "import vastai, time; print('imported at', time.time())"


def rays_program(name: str) -> str | None:
    """A program of Ray's environment (`make test-long` makes one), or else of the PATH."""
    return shutil.which(name, path=f"{sys.prefix}-ray/bin") or (shutil.which(name) if name == "ray" else None)


@contextlib.asynccontextmanager
async def cluster(ray: str) -> AsyncIterator[tuple[str, str]]:
    """A head with eight CPUs, alone; gives the addresses of its dashboard and of the cluster."""
    folder = Path(tempfile.mkdtemp(prefix="nwbench-"))  # the names of Ray's sockets must be short
    ports = [_free_port() for _ in range(4)]
    words = ["--head", "--block", "--node-ip-address", "127.0.0.1", "--port", ports[0], "--dashboard-port", ports[1]]
    words += ["--ray-client-server-port", ports[2], "--dashboard-agent-listen-port", ports[3], "--num-cpus", 8]
    words += ["--min-worker-port", 0, "--max-worker-port", 0, "--object-store-memory", 80_000_000]
    words += ["--temp-dir", folder, "--disable-usage-stats", "--resources", '{"place": 1}']
    environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    command = [ray, "start", *(str(word) for word in words)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
            command, stdout=log, stderr=log, env=environ, start_new_session=True
        )
    address = f"http://127.0.0.1:{ports[1]}"
    try:
        await asyncio.wait_for(_serves(address), HANG_S)
        yield address, f"127.0.0.1:{ports[0]}"
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _free_port() -> int:

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _serves(address: str) -> None:
    async with aiohttp.ClientSession() as http:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with http.get(f"{address}/api/jobs/") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.2)


def _settings(address: str) -> tuple[str, ...]:
    return (
        "endpoint.null-local.workergroup.0.fleet=ray",
        f"fleet.ray.address={address}",
        "fleet.ray.install=false",
        f"fleet.ray.python={sys.executable}",
    )


async def _held(address: str) -> tuple[list[float], list[float]]:
    """Reservations and hand-overs through an engine whose one worker is on Ray."""
    reserve: list[float] = []
    handed: list[float] = []
    with engine_process(settings=_settings(address), max_workers=1) as engine:
        async with endpoint_of(engine) as endpoint:
            holder, _ = await asyncio.wait_for(_granted(endpoint), HANG_S)
            for _ in range(ROUNDS * 3):
                waiting = asyncio.ensure_future(_granted(endpoint))
                await asyncio.sleep(0.05)  # the waiter is in the engine's queue by then
                began = time.perf_counter()
                closing = asyncio.ensure_future(holder.close())
                holder, at = await waiting
                await closing
                handed.append(at - began)
            await holder.close()
            reserve += [await _open_and_close(endpoint) for _ in range(WARM_ROUNDS)]
    return reserve, handed


async def _import_by_ray(http: aiohttp.ClientSession, address: str, number: int) -> float:
    """How long Ray takes from a job's submission until its process has imported the worker's framework."""
    body = {
        "submission_id": f"import-{number}",
        "entrypoint": f'exec {sys.executable} -c "{IMPORTS}"',
        "entrypoint_num_cpus": 1,
    }
    began = time.time()  # noqa: TID251 - compared with another process's
    async with http.post(f"{address}/api/jobs/", json=body) as answer:
        assert answer.status == 200, await answer.text()
    while True:
        async with http.get(f"{address}/api/jobs/import-{number}") as answer:
            status = (await answer.json())["status"]
        if status in ("SUCCEEDED", "FAILED"):
            break
        await asyncio.sleep(0.1)
    async with http.get(f"{address}/api/jobs/import-{number}/logs") as answer:
        said = (await answer.json())["logs"]
    assert status == "SUCCEEDED", said
    return float(said.rpartition("imported at ")[2]) - began


async def _starts(address: str) -> tuple[list[float], list[float]]:
    """From nothing to the first grant, and Ray's own start with the import, in turns; the first of each is for free."""
    ours: list[float] = []
    rays: list[float] = []
    async with aiohttp.ClientSession() as http:
        for number in range(COLD_ROUNDS + 1):
            rays.append(await _import_by_ray(http, address, number))
            with engine_process(settings=_settings(address)) as engine:
                async with endpoint_of(engine) as endpoint:
                    ours.append(await asyncio.wait_for(_open_and_close(endpoint), HANG_S))
    return ours[1:], rays[1:]


async def ray() -> dict[str, Any]:
    """Reserving, handing over and starting, each beside what Ray takes by itself."""
    program, python = rays_program("ray"), rays_program("python")
    if program is None:
        return {"name": "Ray", "wanted": "not measured: there is no Ray; make test-long installs it"}
    async with cluster(program) as (address, gcs):
        done = await asyncio.to_thread(
            subprocess.run,
            [python or sys.executable, "-c", ACTORS, gcs, str(ROUNDS)],
            capture_output=True, text=True, check=True, timeout=10 * HANG_S,
        )  # fmt: skip
        actor_reserve, actor_hand_over = json.loads(done.stdout.splitlines()[-1])
        reserve, handed = await _held(address)
        ours, rays = await _starts(address)
    p50 = statistics.median
    times_reserve, times_hand_over = p50(actor_reserve) / p50(reserve), p50(actor_hand_over) / p50(handed)
    start = p50(ours) / p50(rays)
    return {
        "name": "Ray",
        "reserve_p50_ms": 1000 * p50(reserve),
        "actor_reserve_p50_ms": 1000 * p50(actor_reserve),
        "reserve_times_faster": times_reserve,
        "hand_over_p50_ms": 1000 * p50(handed),
        "actor_hand_over_p50_ms": 1000 * p50(actor_hand_over),
        "hand_over_times_faster": times_hand_over,
        "from_nothing_p50_s": p50(ours),
        "ray_starts_the_import_p50_s": p50(rays),
        "start_ratio": start,
        "wanted": f"{FASTER_WANTED} times faster; a start at most {SLOWER_WANTED} times Ray's own",
        "met": min(times_reserve, times_hand_over) >= FASTER_WANTED and start <= SLOWER_WANTED,
        "rounds": [ROUNDS, WARM_ROUNDS, COLD_ROUNDS],
    }


BENCHMARKS: dict[str, Any] = {}
BY_NAME_ALONE = {"ray": ray}
