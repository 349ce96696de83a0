"""What the engine's page costs: the engine, with fifty of them open; the browser, with ten thousand workers in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.http import LOAD_CORE, WORKERS, Load, engine_with_workers, pin, report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.async_api import Page

_ROOT = Path(__file__).resolve().parents[1]
PAGES = 50
ROUNDS = 5
TURN_S = 2.0
SCROLLED_S = 5.0
#: A tab is watched for so long; its growth is told for an hour. An hour of its own: NULLWORKER_BENCH_TAB_S=3600.
TAB_S = float(os.environ.get("NULLWORKER_BENCH_TAB_S", "60"))
#: What happens while a tab is watched: in each round a report of every worker, some reservations, and then a rest.
#: That is some hundreds of reservations in ten seconds, and leaves most of the machine to other work.
WATCH_ROUND_S, WATCH_RESERVATIONS_S = 10.0, 1.0

_SCROLL = """async (seconds) => {
  const box = document.querySelector('.lanes');
  const frames = [];
  let last = performance.now();
  const end = last + seconds * 1000;
  await new Promise((done) => {
    const step = (now) => {
      frames.push(now - last);
      last = now;
      box.scrollTop = (box.scrollTop + 37) % (box.scrollHeight - box.clientHeight);
      now < end ? requestAnimationFrame(step) : done();
    };
    requestAnimationFrame(step);
  });
  return frames.slice(1);
}"""


@contextlib.contextmanager
def streams(url: str, key: str, count: int) -> Iterator[None]:
    """So many pages are open."""
    command = [sys.executable, "-m", "bench.streams", url, key, str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
    pin(process.pid, LOAD_CORE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        yield
    finally:
        process.communicate()


def dashboards() -> dict[str, Any]:
    """Routes that the engine answers in a second of its core, with fifty pages open and with none, in turns."""
    with engine_with_workers(WORKERS) as (engine, tokens):
        requests = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
        reserve = {"endpoint": engine.endpoint, "api_key": engine.api_key, "tokens": tokens}
        with (
            contextlib.closing(Load(engine.url, engine.pid, reports=requests)) as reports_,
            contextlib.closing(Load(engine.url, engine.pid, reserve=reserve)) as reservations,
        ):
            reports_.turn(3.0)
            reservations.turn()
            without, with_pages = [], []
            for _ in range(ROUNDS):
                reports_.turn(0.5)  # no worker is taken for silent
                without.append(reservations.turn(TURN_S))
                with streams(engine.url, engine.api_key, PAGES):
                    time.sleep(2.0)  # the whole lanes were sent
                    with_pages.append(reservations.turn(TURN_S))
    lost = statistics.median(
        1 - w.per_core_second / o.per_core_second for o, w in zip(without, with_pages, strict=True)
    )
    return {
        "name": f"routes with {PAGES} pages open, {WORKERS} workers",
        "per_core_second": statistics.median(turn.per_core_second for turn in with_pages),
        "per_core_second_without": statistics.median(turn.per_core_second for turn in without),
        "lost": lost,
        "wanted": "under a tenth lost",
        "met": lost < 0.1,
        "rounds": ROUNDS,
    }


async def lanes() -> dict[str, Any]:
    """Frames a second while ten thousand lanes are scrolled and change, and what a tab grows by."""
    from tests.integration.page.browser import chromium, tab  # noqa: PLC0415 - a browser is needed for this one alone

    with engine_with_workers(WORKERS) as (engine, tokens):
        requests = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
        reserve = {"endpoint": engine.endpoint, "api_key": engine.api_key, "tokens": tokens}
        with (
            contextlib.closing(Load(engine.url, engine.pid, reports=requests)) as reports_,
            contextlib.closing(Load(engine.url, engine.pid, reserve=reserve)) as reservations,
        ):
            reports_.turn(3.0)
            reservations.turn(5.0, connections=1)
            async with chromium() as browser, tab(browser, engine.url) as opened:
                await opened.sign_in(engine.api_key, "/lanes")
                await opened.page.get_by_text(f"{WORKERS} workers.").wait_for()
                turning = asyncio.get_running_loop().run_in_executor(None, reservations.turn, SCROLLED_S + 1, 1)
                frames = await opened.page.evaluate(_SCROLL, SCROLLED_S)
                await turning
                grown_bytes = await _growth(opened.page, reservations, reports_)
                complaints = opened.complaints
    per_second = 1000 * len(frames) / sum(frames)
    per_hour = grown_bytes * 3600 / TAB_S
    return {
        "name": f"lanes of {WORKERS} workers in a browser",
        "frames_per_second": per_second,
        "slowest_frame_ms": max(frames),
        "p99_frame_ms": sorted(frames)[int(len(frames) * 0.99)],
        "watched_s": TAB_S,
        "grown_mb": grown_bytes / 1e6,
        "complaints": len(complaints),
        "wanted": "at least 30 frames a second, and in an hour under 10 MB",
        "met": per_second >= 30 and (per_hour if TAB_S >= 3600 else grown_bytes) < 10e6 and not complaints,
    }


async def _growth(page: Page, reservations: Load, reports_: Load) -> float:
    """By how many bytes the heap of a tab grows, while lanes change all the time."""
    session = await page.context.new_cdp_session(page)

    async def used() -> float:
        await session.send("HeapProfiler.collectGarbage")
        found = await session.send("Runtime.getHeapUsage")
        return float(found["usedSize"])

    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, reservations.turn, 5.0, 1)
    before, ends = await used(), loop.time() + TAB_S
    while loop.time() < ends:
        round_ends = loop.time() + WATCH_ROUND_S
        reported = 0
        while reported < WORKERS:  # none is taken for silent, however busy the machine is
            reported += (await loop.run_in_executor(None, reports_.turn)).count
        await loop.run_in_executor(None, reservations.turn, WATCH_RESERVATIONS_S, 1)
        await asyncio.sleep(max(0.0, round_ends - loop.time()))
    return await used() - before


BENCHMARKS = {"dashboards": dashboards}
#: It needs a browser, which a machine that is measured may not have.
BY_NAME_ALONE = {"lanes": lanes}
