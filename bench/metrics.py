"""What a scrape of /metrics takes of an engine's core, with ten thousand workers that have all reported."""

from __future__ import annotations

import contextlib
import urllib.request
from typing import Any

import psutil

from bench.http import WORKERS, Load, engine_with_workers, report
from nullworker.wire.paths import METRICS

SCRAPES = 200
EVERY_S = 15.0  # what Prometheus's own examples scrape at
WANTED = 0.01


def scrape() -> dict[str, Any]:
    """Processor time of the engine for one scrape, and the share of a core that this is every 15 s and every second."""
    with engine_with_workers(WORKERS) as (engine, tokens):
        requests = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
        request = urllib.request.Request(engine.url + METRICS, headers={"Authorization": f"Bearer {engine.api_key}"})
        with contextlib.closing(Load(engine.url, engine.pid, reports=requests)) as load:
            load.turn(3.0)
            size = _scraped(request)
            process = psutil.Process(engine.pid)
            before = sum(process.cpu_times()[:2])
            for _ in range(SCRAPES):
                _scraped(request)
            scrape_s = (sum(process.cpu_times()[:2]) - before) / SCRAPES
    return {
        "name": f"a scrape of /metrics, {WORKERS} workers",
        "scrape_ms": 1000 * scrape_s,
        "percent_of_a_core_every_15_s": 100 * scrape_s / EVERY_S,
        "percent_of_a_core_every_second": 100 * scrape_s,
        "bytes": size,
        "wanted": "under a hundredth of a core every 15 s",
        "met": scrape_s / EVERY_S < WANTED,
        "scrapes": SCRAPES,
    }


def _scraped(request: urllib.request.Request) -> int:
    with urllib.request.urlopen(request) as answer:
        return len(answer.read())


BENCHMARKS = {"scrape": scrape}
