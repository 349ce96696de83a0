"""A broker whose numbers are late: nothing is opened twice for jobs it still shows, and no worker at work ends."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nullworker.dispatch.binding import BindingSettings
from nullworker.dispatch.dispatcher import Dispatcher
from nullworker.queues import registry, sqlite_jobs
from nullworker.testing.queues import check_queue
from tests.integration.dispatch.kit import ENDPOINT, check_peak, check_runs, farm, python
from tests.integration.queues.test_sqlite import SqliteDriver
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

    from nullworker.queues.base import Depth, Queue, QueueInfo


class LateQueue:
    """Shows what a queue was ``lag_s`` ago, as SQS does; it tells of no changes, and dates its numbers now."""

    lag_s = 0.1

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._past: deque[tuple[float, Depth]] = deque()
        self._looking: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        late = cls(await registry.open_queue(url))
        late._past.append((float("-inf"), await late._queue.depth()))
        late._looking = asyncio.ensure_future(late._look())
        return late

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self._past.append((time.monotonic(), await self._queue.depth()))

    async def depth(self) -> Depth:
        await self._queue.depth()  # which fails where this should
        while len(self._past) > 1 and self._past[0][0] < time.monotonic() - self.lag_s:  # never later than it says
            self._past.popleft()
        return replace(self._past[0][1], sampled_at_s=time.time(), exact=False)  # noqa: TID251 - as all adapters

    async def info(self) -> QueueInfo:
        return replace(await self._queue.info(), lag_s=self.lag_s, pushes=False)

    async def changed(self, timeout_s: float) -> bool:
        await asyncio.sleep(timeout_s)
        return False

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._queue.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()


class LateDriver(SqliteDriver):
    settle_s = 0.2
    tells_delayed = names_consumers = False


async def test_the_late_queue_is_a_queue(tmp_path: Path) -> None:
    result = await check_queue(LateDriver(tmp_path / "work.db"), open_queue=LateQueue.open)
    assert result.info.lag_s == 0.1


@pytest.mark.long
async def test_late_numbers_open_nothing_twice_and_end_no_reservation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two waves of jobs, some shorter and some longer than the numbers are late."""
    lag_s = 1.5
    file = tmp_path / "jobs.db"
    monkeypatch.setattr("nullworker.dispatch.dispatcher.open_queue", LateQueue.open)
    monkeypatch.setattr(LateQueue, "lag_s", lag_s)
    lengths = [0.1, 3, 0.5, 2.5]
    jobs = [f"job-{number}" for number in range(2 * len(lengths))]
    async with farm(tmp_path, python("sqlite_consumer.py", str(file), "1"), most=8) as running:
        binding = BindingSettings(ENDPOINT, sqlite_jobs.url(file), most=8, poll_s=0.2, end_idle_s=2.0)
        dispatcher = Dispatcher(
            [binding], instance=running.url, api_key=running.key, store_file=tmp_path / "state" / "dispatch.db"
        )
        async with dispatcher:
            dispatching = asyncio.ensure_future(dispatcher.run())
            for wave in (jobs[: len(lengths)], jobs[len(lengths) :]):
                sqlite_jobs.enqueue(file, [f"{job} {length}" for job, length in zip(wave, lengths, strict=True)])
                await asyncio.sleep(3)
            await until(lambda: sqlite_jobs.counts(file)["done"] == len(jobs), "all jobs are done")
            await until(lambda: not dispatcher.bindings[0].live, "no reservation is left")
            await asyncio.sleep(2 * lag_s)
            assert dispatcher.bindings[0].live == 0
            dispatching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await dispatching
        check_runs(running.runs(), jobs)
        check_peak(running, 8)
        assert len(running.sessions()) <= len(jobs) + 2
