"""Reports at once, for an engine that takes them: when the worker becomes ready, and when a session opens, closes or is
refused.

The framework looks every second whether it has something to say. This sends the same two messages the moment there is
something, one at a time and in order, over one connection that stays open. Both carry ``seq``, a number that only grows
(from a worker's process to its next, too), so that a message that was overtaken is known for what it is. What changes
while a message is under way goes out with the next one.

When nothing changes, a status goes out a little before the framework would send its own. Those have no number, so the
engine cannot tell an old one from a new one, and takes them for signs of life and no more. They go on only where ours
do not arrive.

What is reported is read from the framework's own account, which has no public names. So `Reports.trouble` tries all of
them before the first report, and a failure later ends `Reports.run`: in both cases the framework's own reports, each
second, go on in place of ours.
"""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp

from nullworker.wire import tasks
from nullworker.wire.backoff import backoff_s
from nullworker.wire.paths import DELETE_REQUESTS, WORKER_STATUS
from nullworker.wire.timeouts import within
from nullworker.wire.worker_side import messages

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.wire.worker_clock import WorkerClock

log = logging.getLogger(__name__)

#: The framework sends a status when none was sent for 10 s, which it looks at every second.
HEARTBEAT_S = 9.0
_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0


class Metrics(Protocol):
    """What is used of the framework's `worker.backend.metrics`."""

    id: int
    mtoken: str
    version: str
    url: str
    model_metrics: Any
    system_metrics: Any
    update_pending: bool
    last_metric_update: float


class Reports:
    """Sends reports when `wake` is called.

    Args:
        http: keeps the connection to the engine.
        metrics: the framework's own account of what it does.
        addr: gives the engine's URL.
        clock: the worker's own, by which its grants expire.
        numbers_from: the reports' numbers are greater than this, which is greater than those of the worker's processes
            before this one.
        heartbeat_s: seconds after a report until the next one goes out though nothing has changed.

    ``on_answer`` is given the engine's answer to each status, and ``more`` gives further fields of a status.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        metrics: Metrics,
        addr: Callable[[], str],
        clock: WorkerClock,
        numbers_from: int = 0,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._http = http
        self._metrics = metrics
        self._addr = addr
        self._clock = clock
        self._news = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._seq = numbers_from
        self._heartbeat_s = heartbeat_s
        self.on_answer: Callable[[object], None] = lambda _: None
        self.more: Callable[[], dict[str, Any]] = dict
        self._loadtime_s = 0.0  # up to 1.9.0 the framework forgets it once it has sent it
        self._disk_gb = _disk_used_gb()  # by the last report that arrived

    def trouble(self) -> str:
        """What of the framework's inside is not as it is needed, in a sentence; "": nothing.

        Makes both messages, and writes back what is there, so that all that is used is tried once.
        """
        try:
            self._finished([*self._metrics.model_metrics.requests_deleting, _a_request()])
            self._status(_disk_used_gb())
            _ = self._metrics.model_metrics.reset
            self._metrics.update_pending = bool(self._metrics.update_pending)
            self._metrics.last_metric_update = float(self._metrics.last_metric_update)
        except Exception as error:
            return tasks.failed(f"Reading the metrics of vastai {_version()}", error)
        return ""

    def wake(self) -> None:
        """Something has changed."""
        self._news.set()
        self._idle.clear()

    async def run(self) -> None:
        """Sends what there is to send, until it is cancelled."""
        failures = 0
        while True:
            await self._news_or_heartbeat()
            self._news.clear()
            try:
                await self._send_all()
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                self._news.set()
                # The first failure may be no more than a kept connection that the engine has closed by now.
                pause_s = backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
                failures += 1
                log.log(
                    logging.DEBUG if failures == 1 else logging.WARNING,
                    "a report to %s did not arrive (%s); again in %.1f s",
                    self._addr(),
                    error or type(error).__name__,
                    pause_s,
                )
                await asyncio.sleep(pause_s)
            else:
                failures = 0
                if not self._news.is_set():
                    self._idle.set()

    async def _news_or_heartbeat(self) -> None:
        heartbeat = asyncio.get_running_loop().call_later(self._heartbeat_s, self.wake)
        try:
            await self._news.wait()
        finally:
            heartbeat.cancel()

    async def sent(self, timeout_s: float) -> None:
        """Waits until everything so far has been sent, ``timeout_s`` seconds at most."""
        try:
            await within(self._idle.wait(), timeout_s)
        except asyncio.TimeoutError:
            log.warning("the last report was not sent")

    async def _send_all(self) -> None:
        # What is finished first: a status that no longer lists a session would leave open how it ended.
        model = self._metrics.model_metrics
        finished = list(model.requests_deleting)
        if finished:
            await self._post(DELETE_REQUESTS, self._finished(finished))
            # By identity: a request that was refused twice is two entries, and the second may not have been sent yet.
            sent = {id(request) for request in finished}
            model.requests_deleting[:] = [request for request in model.requests_deleting if id(request) not in sent]
        disk_gb = _disk_used_gb()
        answer = await self._post(WORKER_STATUS, self._status(disk_gb) | self.more())
        self._disk_gb = disk_gb
        self._metrics.last_metric_update = time.time()  # noqa: TID251 - the framework's clock
        if not self._news.is_set():
            # Sent already: the framework need not repeat it at its next tick, and its counts start again at 0.
            self._metrics.update_pending = False
            model.reset()
        try:
            self.on_answer(json.loads(answer))
        except ValueError:
            log.debug("the answer to a report is no JSON")

    async def _post(self, path: str, body: dict[str, Any]) -> bytes:
        async with self._http.post(self._addr() + path, json=body) as answer:
            answer.raise_for_status()
            return await answer.read()  # so that the connection can be used again

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def _identity(self) -> messages.Identity:
        return messages.Identity(self._metrics.id, self._metrics.mtoken, self._metrics.url, self._metrics.version)

    def _finished(self, requests: list[Any]) -> dict[str, Any]:
        listed = [
            messages.finished_request(
                request.request_idx,
                request.status,
                success=request.success,
                entered_at=request.entered_queue_at,
                started_at=request.work_started_at,
                completed_at=request.work_completed_at,
            )
            for request in requests
        ]
        return messages.finished(self._identity(), listed, self._next_seq())

    def _status(self, disk_gb: float) -> dict[str, Any]:
        model = self._metrics.model_metrics
        self._loadtime_s = self._metrics.system_metrics.model_loading_time or self._loadtime_s
        figures = messages.StatusFigures(
            loadtime_s=self._loadtime_s,
            perf=model.max_throughput,
            error=model.error_msg or "",
            request_idxs=model.working_request_idxs,
            working=len(model.requests_working),
            received=len(model.requests_recieved),
            load=model.cur_load,
            new_load=model.workload_processing,
            rejected_load=model.workload_rejected,
            served_load=model.workload_served,
            disk_gb=disk_gb,
            disk_growth_gb=disk_gb - self._disk_gb,
        )
        status = messages.status(self._identity(), figures, self._next_seq())
        return status | messages.clock_fields(self._clock.now())


def _disk_used_gb() -> float:
    """As the framework has it."""
    return shutil.disk_usage("/").used / 2**30


def _a_request() -> Any:
    from vastai.serverless.server.lib.data_types import RequestMetrics  # noqa: PLC0415 - 0.4 s, and loaded by now

    return RequestMetrics(request_idx=0, reqnum=0, workload=0.0, status="Success")


def _version() -> str:
    try:
        return metadata.version("vastai")
    except metadata.PackageNotFoundError:
        return "(of an unknown version)"
