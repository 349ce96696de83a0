"""How long a reservation takes: warm, handed over, from nothing, and eight at once.

Everything is real: an engine process, null workers, the unmodified vastai client. Each figure has its baseline
measured in the same run, and what counts is the ratio.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import aiohttp
import vastai

from bench.engine_process import EngineProcess, engine_process

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

_ROOT = Path(__file__).resolve().parents[1]
WARM_ROUNDS = 200
HANDOVER_ROUNDS = 60
COLD_ROUNDS = 5
BURST = 8
BURST_ROUNDS = 3


def client(url: str, key: str) -> Any:
    """The unmodified client, told where its engine and its root certificate are."""
    kind = type("Client", (vastai.Serverless,), {"SSL_CERT_URL": f"{url}/static/jvastai_root.cer"})
    return kind(api_key=key, autoscaler_url=url, webserver_url=url)


@contextlib.asynccontextmanager
async def endpoint_of(engine: EngineProcess) -> AsyncIterator[Any]:
    async with client(engine.url, engine.api_key) as sdk:
        yield await sdk.get_endpoint(engine.endpoint)


@contextlib.contextmanager
def stub(ca: bytes) -> Iterator[str]:
    with NamedTemporaryFile(suffix=".pem") as file:
        Path(file.name).write_bytes(ca)
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.stub", file.name],
            stdout=subprocess.PIPE, text=True, cwd=_ROOT,
            start_new_session=True,  # Ctrl-C is for us; we end it
        )  # fmt: skip
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["url"]
        finally:
            process.terminate()
            process.wait()


async def warm() -> dict[str, Any]:
    """A reservation of a worker that is free, beside the same calls against the bare stub, in turns."""
    with engine_process() as engine:
        async with aiohttp.ClientSession() as http:
            ca = await (await http.get(f"{engine.url}/static/jvastai_root.cer")).read()
        with stub(ca) as stub_url:
            async with endpoint_of(engine) as ours, client(stub_url, "k") as other:
                bare = await other.get_endpoint("null-local")
                await (await ours.session(cost=100, lifetime=60)).close()
                ours_s, bare_s, http_s = [], [], []
                async with aiohttp.ClientSession() as http:
                    for _ in range(WARM_ROUNDS):
                        ours_s.append(await _open_and_close(ours))
                        bare_s.append(await _open_and_close(bare))
                        http_s.append(await _two_round_trips(http, stub_url))
    ours_p50, bare_p50 = statistics.median(ours_s), statistics.median(bare_s)
    return {
        "name": "warm reservation",
        "p50_ms": ours_p50 * 1000,
        "bare_stub_p50_ms": bare_p50 * 1000,
        "two_http_round_trips_p50_ms": statistics.median(http_s) * 1000,
        "ratio": ours_p50 / bare_p50,
        "wanted": "ratio at most 2",
        "met": ours_p50 / bare_p50 <= 2,
        "rounds": WARM_ROUNDS,
    }


async def _open_and_close(endpoint: Any) -> float:
    began = time.perf_counter()
    session = await endpoint.session(cost=100, lifetime=60)
    took = time.perf_counter() - began
    await session.close()
    return took


async def _two_round_trips(http: aiohttp.ClientSession, url: str) -> float:
    began = time.perf_counter()
    for path in ("/route/", "/session/create"):
        async with http.post(url + path, json={"cost": 100, "auth_data": {}, "payload": {}}) as answer:
            await answer.json()
    return time.perf_counter() - began


async def hand_over() -> dict[str, Any]:
    """From one holder's close to the next waiter's grant, on an endpoint with one worker."""
    gaps: list[float] = []
    with engine_process(max_workers=1) as engine:
        async with endpoint_of(engine) as endpoint:
            holder = await endpoint.session(cost=100, lifetime=60)
            for _ in range(HANDOVER_ROUNDS):
                waiting = asyncio.ensure_future(_granted(endpoint))
                await asyncio.sleep(0.05)  # the waiter is in the engine's queue by then
                began = time.perf_counter()
                closing = asyncio.ensure_future(holder.close())
                holder, at = await waiting
                await closing
                gaps.append(at - began)
            await holder.close()
    p50 = statistics.median(gaps)
    return {
        "name": "hand-over",
        "p50_ms": p50 * 1000,
        "p95_ms": statistics.quantiles(gaps, n=20)[18] * 1000,
        "stock_p50_ms": 1005,
        "wanted": "p50 at most 10 ms",
        "met": p50 <= 0.010,
        "rounds": HANDOVER_ROUNDS,
    }


async def _granted(endpoint: Any) -> tuple[Any, float]:
    session = await endpoint.session(cost=100, lifetime=60)
    return session, time.perf_counter()


async def cold_start() -> dict[str, Any]:
    """From nothing running to the first grant, beside ``python -c "import vastai"``, in turns."""
    colds, imports = [], []
    for _ in range(COLD_ROUNDS):
        began = time.perf_counter()
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", "import vastai"], check=True)
        imports.append(time.perf_counter() - began)
        with engine_process() as engine:
            async with endpoint_of(engine) as endpoint:
                began = time.perf_counter()
                session = await endpoint.session(cost=100, lifetime=60)
                colds.append(time.perf_counter() - began)
                await session.close()
    cold, imported = statistics.median(colds), statistics.median(imports)
    return {
        "name": "cold start",
        "p50_s": cold,
        "import_vastai_p50_s": imported,
        "over_import_s": cold - imported,
        "ratio": cold / imported,
        "wanted": "at most the import + 0.3 s",
        "met": cold <= imported + 0.3,
        "rounds": COLD_ROUNDS,
    }


#: A worker that has something to do before its first start.
PREPARING = (
    "endpoint.null-local.workergroup.0.backend=preparing",
    f'fleet.processes.workers_path=["{_ROOT}/bench/backends"]',
)
#: A start that takes so long has failed.
HANG_S = 120


async def inactive() -> dict[str, Any]:
    """A reservation that an inactive worker is started for, beside one that a new worker is made for, in turns.

    Of null workers, and of such as make themselves a virtual environment before their first start.
    """
    taken: dict[tuple[tuple[str, ...], int], list[float]] = {}
    for _ in range(COLD_ROUNDS):
        for settings in ((), PREPARING):
            for cold_workers in (0, 1):
                with engine_process(settings=settings, cold_workers=cold_workers) as engine:
                    async with endpoint_of(engine) as endpoint:
                        await asyncio.wait_for(_inactive_workers(endpoint, cold_workers), HANG_S)
                        taken.setdefault((settings, cold_workers), []).append(await _open_and_close(endpoint))
    p50 = {key: statistics.median(times) for key, times in taken.items()}
    return {
        "name": "an inactive worker back",
        "null_p50_s": p50[(), 1],
        "new_null_p50_s": p50[(), 0],
        "prepared_p50_s": p50[PREPARING, 1],
        "new_prepared_p50_s": p50[PREPARING, 0],
        "times_faster": p50[PREPARING, 0] / p50[PREPARING, 1],
        "wanted": "a prepared one comes back faster than a new one",
        "met": p50[PREPARING, 1] < p50[PREPARING, 0],
        "rounds": COLD_ROUNDS,
    }


async def _inactive_workers(endpoint: Any, count: int) -> None:
    """Waits until there are so many workers, all inactive."""
    while [worker.status for worker in await endpoint.get_workers()] != ["inactive"] * count:  # noqa: ASYNC110 - the engine is another process
        await asyncio.sleep(0.1)


async def burst() -> dict[str, Any]:
    """Eight reservations asked for at once, from zero workers."""
    lasts, firsts, workers, refused = [], [], [], 0
    for _ in range(BURST_ROUNDS):
        with engine_process() as engine:
            async with endpoint_of(engine) as endpoint:
                began = time.perf_counter()
                granted = await asyncio.gather(*(_granted(endpoint) for _ in range(BURST)))
                times = sorted(at - began for _, at in granted)
                firsts.append(times[0])
                lasts.append(times[-1])
                async with aiohttp.ClientSession() as http:
                    workers.append(len(await endpoint.get_workers()))
                    refused += await _refusals(http, engine)
                await asyncio.gather(*(session.close() for session, _ in granted))
    ratio = statistics.median(last / first for last, first in zip(lasts, firsts, strict=True))
    return {
        "name": f"1 to {BURST} at once from zero",
        "first_s": statistics.median(firsts),
        "last_s": statistics.median(lasts),
        "ratio": ratio,
        "workers": sorted(set(workers)),
        "refusals_429": refused,
        "wanted": f"exactly {BURST} workers, no 429, last at most 4 times the first",
        "met": set(workers) == {BURST} and refused == 0 and ratio <= 4,
        "rounds": BURST_ROUNDS,
    }


async def _refusals(http: aiohttp.ClientSession, engine: EngineProcess) -> int:
    headers = {"Authorization": f"Bearer {engine.api_key}"}
    url = f"{engine.url}/api/v0/story/?about={engine.endpoint}"
    async with http.get(url, headers=headers) as answer:
        story = await answer.json()
    return sum(decision["kind"] == "grant_refused" for decision in story["decisions"])


BENCHMARKS = {"warm": warm, "hand-over": hand_over, "cold-start": cold_start, "inactive": inactive, "burst": burst}
