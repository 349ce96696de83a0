"""All use of `vastai`'s worker framework: a Worker with one session, one trivial route, and a perf pinned to 100.

The Worker is made through the framework's public API. The rest has no API and uses the framework's own attributes, on
which a new version of `vastai` may have to be tried: its table of sessions is replaced (`sessions`), its handlers are
wrapped (`request_checks`), its metrics are read and changed (`reports`, `Framework.count_refusal`), and its benchmark
result is put where it looks for one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import operator
import os
import secrets
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nullworker.wire import tasks
from nullworker.wire.paths import PING
from nullworker.wire.timeouts import within
from nullworker.worker import logs
from nullworker.worker.connection_limit import ConnectionLimit, connections_max
from nullworker.worker.failures import StartError
from nullworker.worker.sessions import SessionTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from nullworker.worker.settings import Settings

log = logging.getLogger(__name__)

PERF = 100.0
_BENCHMARK_FILE = ".has_benchmark"  # with a figure in it, the framework takes that for its measured perf
_LISTENING_TIMEOUT_S = 15.0  # the framework listens within milliseconds, or not at all


#: What of the framework's inside is replaced or wrapped; where one is missing, that would have no effect, in silence.
_INSIDE = (
    "routes",
    "backend.sessions",
    "backend.generate_session_id",
    "backend.backend_errored",
    "backend.session_create_handler",
    "backend.pyworker_update_handler",
    "backend.report_addr",
    "backend.metrics.url",
    "backend.metrics.update_pending",
    "backend.metrics.model_metrics.requests_deleting",
    "backend.metrics.system_metrics.model_is_loaded",
)


def check_inside(worker: object) -> None:
    """Checks that the framework's worker has inside what the Null PyWorker works with.

    Raises:
        StartError: it lacks something.
    """
    missing = []
    for path in _INSIDE:
        try:
            operator.attrgetter(path)(worker)
        except AttributeError:
            missing.append(path)
    if missing:
        raise StartError(
            f"vastai {metadata.version('vastai')} lacks {', '.join(missing)} inside, which the Null PyWorker needs;"
            " install the version that nullworker was tested with: pip install -r requirements.txt"
        )


class _Lifecycle:
    """What the framework enters once its server listens, and before it calls the worker ready."""

    def __init__(self) -> None:
        self.listening = asyncio.Event()

    async def __aenter__(self) -> None:
        self.listening.set()

    async def __aexit__(self, *_error: object) -> None:
        """Nothing was acquired."""


class Framework:
    """A `vastai.Worker` that is about to run."""

    def __init__(self, settings: Settings) -> None:
        import vastai  # noqa: PLC0415 - 0.4 s; what is wrong with the settings is said before that

        if vastai.Worker is None:
            raise StartError(
                "vastai was installed without what its worker needs (on Python 3.12 and later that is setuptools);"
                " run: pip install -r requirements.txt"
            )
        # Read by the framework; its reader takes fewer spellings than ours.
        os.environ["UNSECURED"] = "true" if settings.unsecured else "false"
        self._settings = settings
        self._lifecycle = _Lifecycle()
        self._worker = vastai.Worker(self._config(vastai))
        logs.settle(settings.log_level)
        check_inside(self._worker)
        self.token = settings.token
        self.unsecured = settings.unsecured
        self.backend: Any = self._worker.backend
        self.metrics: Any = self.backend.metrics
        self.url: str = self.metrics.url
        self.sessions = SessionTable(settings.max_lifetime_s, settings.max_age_s)
        self.backend.sessions = self.sessions
        self.backend.generate_session_id = lambda: secrets.token_urlsafe(16)
        self.on_news: list[Callable[[], None]] = []
        self._report_error: Callable[[str], None] = self.backend.backend_errored
        self.backend.backend_errored = self.fail  # its own health check calls it, and would have it wait for 10 s

    def _config(self, vastai: Any) -> Any:
        async def pong(**_payload: object) -> dict[str, bool]:  # whatever a client sends along
            return {"ok": True}

        ping = vastai.HandlerConfig(
            route=PING,
            allow_parallel_requests=True,
            max_queue_time=None,
            benchmark_config=vastai.BenchmarkConfig(dataset=[{}], runs=1, concurrency=1, do_warmup=False),
            remote_function=pong,
        )
        return vastai.WorkerConfig(
            # There is no model server. Only an absolute BACKEND_HEALTH_URL is ever asked through this.
            model_server_url="http://127.0.0.1",
            model_server_port=self._settings.control_port,
            # Our own /health is not polled: the worker reports its own failure itself, and sooner.
            model_healthcheck_url=self._settings.backend_health_url,
            handlers=[ping],
            max_sessions=1,
            lifecycle=self._lifecycle,
        )

    def wrap_ping(self, wrap: Callable[[Callable[[web.Request], Any]], Callable[[web.Request], Any]]) -> None:
        """Puts ``wrap`` around the handler of /ping."""
        from aiohttp import web  # noqa: PLC0415 - comes with vastai

        self._worker.routes = [web.post(route.path, wrap(route.handler)) for route in self._worker.routes]

    # ------------------------------------------------------------------------------------------------------ running

    async def run(self, report_addr: str) -> None:
        """Serves until cancelled. ``report_addr`` is the engine's URL; which gives its key now.

        Raises:
            StartError: the framework's server did not start.
        """
        kwargs = {"host": self._settings.host} if self._settings.host else {}
        # The framework would ask for the key at the whole of REPORT_ADDR as if it were one URL.
        self.backend.report_addr = report_addr
        with _pinned_perf(), _servers_closed_after():
            server = tasks.start(self._worker.run_async(**kwargs))
            opening = tasks.start(self._open())
            try:
                await asyncio.gather(server, opening)
            finally:
                for task in (server, opening):
                    task.cancel()
                await asyncio.gather(server, opening, return_exceptions=True)
                await self._close()

    async def _open(self) -> None:
        try:
            await within(self._lifecycle.listening.wait(), _LISTENING_TIMEOUT_S)
        except asyncio.TimeoutError:
            # The framework would log and report it without an end; exiting with a sentence is clearer.
            raise StartError("The framework's server did not start; its reason is in the log above.") from None
        # Set in the next step, unless a consumer's own /health takes its time; the framework has no event for it.
        while not self.metrics.system_metrics.model_is_loaded:  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.02 if self._settings.backend_health_url else 0)
        log.info("ready at %s", self.url)
        self.notify()

    async def _close(self) -> None:
        await self.metrics.aclose()
        if "session" in vars(self.backend):  # made when first used
            await self.backend.session.close()

    # ------------------------------------------------------------------------------------------------------ counting

    def notify(self) -> None:
        """Reports that something has changed."""
        for listener in self.on_news:
            listener()

    def count_refusal(self, auth_data: dict[str, Any]) -> None:
        """Counts the refused request that came with ``auth_data``, as the framework does, and has it reported."""
        from vastai.serverless.server.lib.data_types import RequestMetrics  # noqa: PLC0415 - as vastai above

        model = self.metrics.model_metrics
        model.workload_rejected += auth_data["cost"]
        model.requests_recieved.add(auth_data["reqnum"])
        model.requests_deleting.append(
            RequestMetrics(
                request_idx=auth_data["request_idx"],
                reqnum=auth_data["reqnum"],
                workload=auth_data["cost"],
                status="Rejected",
                is_session=True,
                entered_queue_at=time.time(),  # noqa: TID251 - the framework's clock
            )
        )
        self.metrics.update_pending = True
        self.notify()

    def fail(self, reason: str) -> None:
        """Has ``reason`` reported as the worker's error."""
        self._report_error(reason)
        self.metrics.update_pending = True
        self.notify()


@contextlib.contextmanager
def _pinned_perf() -> Iterator[None]:
    """Has the framework find a benchmark result of PERF in its working directory.

    Where that cannot be written to, the worker moves to a directory of its own for as long as it runs.
    """
    try:
        _write_benchmark(Path())
    except OSError:
        before = Path.cwd()
        with tempfile.TemporaryDirectory(prefix="nullworker-") as own:
            _write_benchmark(Path(own))
            os.chdir(own)
            try:
                yield
            finally:
                os.chdir(before)
    else:
        yield


@contextlib.contextmanager
def _servers_closed_after() -> Iterator[None]:
    """Closes what was listened on within: the framework has no end, and would take connections while the loop goes.

    Nor has it a limit on connections: there is one for each server within.
    """
    loop: Any = asyncio.get_running_loop()
    servers: list[asyncio.Server] = []

    async def create_server(factory: Any, *args: Any, **kwargs: Any) -> asyncio.Server:
        limited = ConnectionLimit(factory, connections_max())
        servers.append(await type(loop).create_server(loop, limited, *args, **kwargs))
        return servers[-1]

    loop.create_server = create_server
    try:
        yield
    finally:
        del loop.create_server
        for server in servers:
            server.close()


def _write_benchmark(directory: Path) -> None:
    # In one step: workers that share the directory never see half a file.
    fresh = directory / f"{_BENCHMARK_FILE}.{os.getpid()}"
    try:
        fresh.write_text(f"{PERF:g}\n")
        fresh.replace(directory / _BENCHMARK_FILE)
    finally:
        fresh.unlink(missing_ok=True)
