"""Keeps the history of a running engine: fed with each change, looked at each second, written to a file by a thread.

It costs the engine what a change costs it, and nothing that waits for a disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from nullworker.core import explain
from nullworker.core import views as core_views
from nullworker.engine.history_file import EndpointMoment, HistoryFile
from nullworker.views.feed import feed, feed_all
from nullworker.views.history import KEPT_S, History
from nullworker.views.moments import answer_at
from nullworker.views.types import ChartPoint
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nullworker.core.engine import Engine
    from nullworker.core.views import Changes
    from nullworker.views.types import DecisionRow, Moment

#: An endpoint is looked at so often while something changes, and at least so often else.
SAMPLE_S = 1.0
STILL_S = 60.0
FORGET_S = 60.0

log = logging.getLogger(__name__)


class HistoryKeeper:
    """The history of the last hour in memory, and of a week in a file."""

    def __init__(
        self, wall_s: Callable[[], float], core_now: Callable[[], float], file: HistoryFile | None = None
    ) -> None:
        """Begins with nothing; `begin` follows once the core knows its workers.

        Args:
            wall_s: gives Unix time.
            core_now: gives the time of the core.
            file: where it is written, and what is open of it is closed by `close`; None: nowhere.
        """
        self._wall_s = wall_s
        self._core_now = core_now
        self._file = file
        self._pool = ThreadPoolExecutor(1, "history")
        self._sampling: asyncio.Task[None] | None = None
        self._forgotten_at_s = 0.0
        self.history = History()
        #: By endpoint: its counts over the last hour.
        self.charts: dict[int, deque[ChartPoint]] = {}
        #: Workers that were forgotten, each with the `serial` of that time; the latest last.
        self.gone: deque[tuple[int, int]] = deque(maxlen=20_000)

    def changed(self, engine: Engine, changes: Changes) -> None:
        """Takes in what an event changed in the core; a fault here is logged, and stops nothing."""
        try:
            feed(self.history, engine, changes, self._wall_s())
        except Exception:
            log.exception("a change is missing in the history")

    def begin(self, engine: Engine) -> None:
        """Takes over what engines before this one wrote, and all that the core knows."""
        now_s = self._wall_s()
        if self._file is not None:
            self.history.load(self._file.changes_since(now_s - KEPT_S))
            for moment in self._file.moments_since(now_s - KEPT_S):
                self._chart(moment.endpoint_id).append(_point(moment))
            self.history.unwritten = []
        feed_all(self.history, engine, now_s)
        self._sampling = tasks.watch(
            tasks.repeat(lambda: self.sample(engine), SAMPLE_S, "Keeping the history"), "The history"
        )

    async def sample(self, engine: Engine) -> None:
        """Looks at the endpoints that something changed of, and writes what is new."""
        now_s = self._wall_s()
        moments = self._look(engine, now_s)
        if now_s - self._forgotten_at_s >= FORGET_S:
            self._forgotten_at_s = now_s
            for worker_id in self.history.forget_old(now_s):
                self.history.serial += 1
                self.gone.append((self.history.serial, worker_id))
        await self._write(moments)

    def _look(self, engine: Engine, now_s: float) -> list[EndpointMoment]:
        moments = []
        for endpoint_id in engine.state.endpoints:
            chart = self._chart(endpoint_id)
            if endpoint_id not in self.history.touched and chart and now_s - chart[-1].at_s < STILL_S:
                continue
            view = core_views.endpoint(engine, endpoint_id)
            if view is None:
                continue
            up = view.observed.ready + view.observed.held
            booting = len(self.history.booting.get(endpoint_id, ()))
            answer = explain.about_endpoint(engine, endpoint_id, self._core_now())
            moment = EndpointMoment(now_s, endpoint_id, view.waiting, view.observed.held, up, booting, view.why, answer)
            chart.append(_point(moment))
            moments.append(moment)
        self.history.touched.clear()
        for endpoint_id in [known for known in self.charts if known not in engine.state.endpoints]:
            del self.charts[endpoint_id]
        return moments

    def _chart(self, endpoint_id: int) -> deque[ChartPoint]:
        chart = self.charts.get(endpoint_id)
        if chart is None:
            chart = self.charts[endpoint_id] = deque(maxlen=int(KEPT_S / SAMPLE_S))
        return chart

    async def _write(self, moments: list[EndpointMoment]) -> None:
        changes, self.history.unwritten = self.history.unwritten, None if self._file is None else []
        if self._file is not None and (changes or moments):
            await asyncio.get_running_loop().run_in_executor(self._pool, self._file.write, changes or (), moments)

    @property
    def complaint(self) -> str:
        """What is wrong with the file, in a sentence; "": nothing."""
        if self._file is None or not self._file.error:
            return ""
        return f"The history cannot be written ({self._file.error}): past moments will not be explained."

    async def at(
        self, engine: Engine, about: tuple[str, int], at_s: float, decisions: Sequence[DecisionRow]
    ) -> Moment | None:
        """Why something was as it was at a past time; None: nothing is known of it then.

        Args:
            engine: the core.
            about: "endpoint", "worker" or "request", and its number.
            at_s: the time, Unix.
            decisions: all that are known about it, oldest first.
        """
        if self._file is None:
            return None
        await self._write(self._look(engine, self._wall_s()))
        file = self._file
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: answer_at(file, *about, at_s, decisions)
        )

    async def close(self) -> None:
        """Writes what is left, and closes the file."""
        if self._sampling is not None:
            self._sampling.cancel()
            await asyncio.gather(self._sampling, return_exceptions=True)
        await self._write([])
        self._pool.shutdown()
        if self._file is not None:
            self._file.close()


def _point(moment: EndpointMoment) -> ChartPoint:
    return ChartPoint(moment.at_s, moment.waiting, moment.held, moment.up, moment.booting)
