"""Several queues in one process, from a file: a maximum for each, a cap for all, priorities; and how they are left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.queues import sqlite_jobs
from tests.integration.dispatch.kit import ENDPOINT, DispatchProcess, check_peak, check_runs, farm, peak, python
from tests.integration.dispatch.test_sqlite import enqueue
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[engine]
port = 1

[dispatch]
instance = "{url}"
cap = 3

[[dispatch.queue]]
endpoint = "{endpoint}"
queue = "{high}"
max = 2
priority = 1

[[dispatch.queue]]
endpoint = "{endpoint}"
queue = "{low}"
"""


async def test_a_cap_is_never_exceeded_and_goes_first_to_the_higher_priority(tmp_path: Path) -> None:
    """Consumers of both queues: those that the low one leaves over when its priority is not its turn."""
    high, low = tmp_path / "high.db", tmp_path / "low.db"
    # Three run at the same time, however slowly one consumer starts after another.
    lows = enqueue(low, 3, 6, "low-long") + enqueue(low, 5, 1, "low")
    script = "; ".join(" ".join(python("sqlite_consumer.py", str(file), "1")) for file in (high, low))
    async with farm(tmp_path, ["sh", "-c", script], most=5) as running:
        config = tmp_path / "nullworker.toml"
        urls = {"high": sqlite_jobs.url(high), "low": sqlite_jobs.url(low)}
        config.write_text(FILE.format(url=running.url, endpoint=ENDPOINT, **urls))
        dispatcher = DispatchProcess(tmp_path, ["--config", str(config)], running.key)
        dispatcher.start()
        try:
            await until(lambda: sqlite_jobs.counts(low)["running"] == 3, "the low one has all of the cap")
            highs = enqueue(high, 4, 1, "high")
            await until(lambda: sqlite_jobs.counts(high)["done"] == 4, "the high one is done")
            assert sqlite_jobs.counts(low)["done"] < 8
            await until(lambda: sqlite_jobs.counts(low)["done"] == 8, "the low one is done")
            await until(lambda: not running.held, "nothing is held")
        finally:
            dispatcher.kill()
        runs = running.runs()
        check_runs(runs, highs + lows)
        check_peak(running, 3)
        assert peak([(run.began_at, run.ended_at or 0.0) for run in runs if run.job.startswith("high")]) <= 3


@pytest.mark.long
async def test_what_is_held_for_a_queue_that_is_dispatched_no_more_is_kept_alive(tmp_path: Path) -> None:
    """Its job is as long as it is, and its reservation's lifetime is shorter."""
    one, other = tmp_path / "one.db", tmp_path / "other.db"
    jobs = enqueue(one, 1, 13.5)
    async with farm(tmp_path, python("sqlite_consumer.py", str(one), "1")) as running:

        def flags(file: Path) -> list[str]:
            queue = ["--endpoint", ENDPOINT, "--queue", sqlite_jobs.url(file)]
            return [*queue, "--instance", running.url, "--lifetime", "5"]

        dispatcher = DispatchProcess(tmp_path, flags(one), running.key)
        dispatcher.start()
        try:
            await until(lambda: running.runs() != [], "the job runs")
            dispatcher.kill()
            dispatcher.arguments = flags(other)
            dispatcher.start()
            await until(lambda: running.runs()[0].ended_at is not None, "the job is done")
        finally:
            dispatcher.kill()
        check_runs(running.runs(), jobs)
