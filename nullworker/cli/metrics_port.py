"""A dispatcher's metrics on a port of its own, for engines that take no reports of queues."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from nullworker.cli.errors import UserError
from nullworker.dispatch.queue_reporter import report
from nullworker.engine.metrics.queues import queue_families
from nullworker.views.types import QueueRow
from nullworker.wire.paths import METRICS
from nullworker.wire.worker_side.local_requests import host_of, is_from_web_page, is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from prometheus_client import Metric

    from nullworker.dispatch.binding import Binding

#: A scrape that is not answered when the dispatcher ends has so long left.
SHUTDOWN_S = 0.5


class QueueCollector(Collector):
    """The families of some queues."""

    def __init__(self, rows: Callable[[], Iterable[QueueRow]]) -> None:
        self._rows = rows

    def collect(self) -> Iterator[Metric]:
        """All families, as they are now."""
        yield from queue_families(self._rows())


class MetricsPort:
    """Serves ``/metrics`` on 127.0.0.1, to programs of this machine and to no web page."""

    def __init__(self) -> None:
        #: The queues; set once there is a dispatcher.
        self.bindings: Iterable[Binding] = ()
        self._registry = CollectorRegistry()
        self._registry.register(QueueCollector(self._rows))
        ProcessCollector(registry=self._registry)

    def _rows(self) -> list[QueueRow]:
        rows = [{"dispatcher": "", "heard_s_ago": 0.0, **report(binding)} for binding in self.bindings]
        return msgspec.convert(rows, list[QueueRow])

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answers one request."""
        headers = request.headers
        is_local = is_loopback(host_of(headers.get("Host", "")))
        if not is_local or is_from_web_page(headers.get("Origin"), headers.get("Sec-Fetch-Site")):
            return web.Response(status=403, text="Metrics are for programs of this machine.\n")
        if request.path != METRICS:
            return web.Response(status=404, text=f"There is nothing but {METRICS} here.\n")
        encode, content_type = choose_encoder(headers.get("Accept", ""))
        return web.Response(body=encode(self._registry), headers={"Content-Type": content_type})


@contextlib.asynccontextmanager
async def serving(port: int) -> AsyncIterator[MetricsPort]:
    """Serves on ``port`` of 127.0.0.1.

    Raises:
        UserError: the port is taken.
    """
    metrics = MetricsPort()
    runner = web.ServerRunner(web.Server(metrics.answer, access_log=None), shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise UserError(
                f"Metrics cannot be served on port {port} ({reason}); give another with --metrics-port."
            ) from None
        yield metrics
    finally:
        await runner.cleanup()
