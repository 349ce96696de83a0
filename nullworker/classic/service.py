"""A classic backend as a service: all parts put together, started, and ended by a signal.

The server and the reports start before the Backend object is made, which may load a model for minutes: meanwhile the
engine is told that the worker is loading, and requests are answered with 503.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.classic import app as application
from nullworker.classic import legacy_log_watch, loading, logtail, tls
from nullworker.classic.auth_middleware import AuthMiddleware
from nullworker.classic.fair_lock import FairLock
from nullworker.classic.hooks import LogWatch, Metrics
from nullworker.classic.in_flight import RequestStats
from nullworker.classic.readiness import BACKEND, KEY, MODEL, Readiness, number
from nullworker.classic.reporting import Reporter, unix_time
from nullworker.classic.settings import PERF_DEFAULT
from nullworker.classic.status import Status
from nullworker.classic.wsgi_server import WsgiServer, listen
from nullworker.wire.worker_side.engine_trust import EngineTrust

if TYPE_CHECKING:
    import socket
    from types import FrameType

    from nullworker.classic.settings import Settings

log = logging.getLogger(__name__)

LAST_REPORT_S = 3.0  # for the last report, when the process ends


class _EndedBySignal(BaseException):
    """A signal came while the backend was being made, which may take minutes and catch every Exception."""


class Service:
    """One backend, served. `run` does it all; it is for the main thread, which signals reach."""

    def __init__(self, settings: Settings, loaded: loading.LoadedBackend) -> None:
        link = settings.link
        self._settings = settings
        self._loaded = loaded
        self._ended = threading.Event()
        self._hurry = threading.Event()
        self._signal = 0
        self._is_making = False
        self._stats = RequestStats(unix_time, self._on_end)
        self._trust = EngineTrust(link.identity, demands_grants=link.demands_grants) if link is not None else None
        self._handler_lock = FairLock(
            parallel=loaded.thread_safe if settings.thread_safe is None else settings.thread_safe
        )
        self._slot = application.BackendSlot(self._handler_lock)
        needs = [BACKEND]
        if loaded.log_watch_class is not None:
            needs.append(MODEL)
        if link is not None and not settings.unsecured:
            needs.append(KEY)
        self._readiness = Readiness(needs, time.monotonic, settings.perf or PERF_DEFAULT)
        self._reporter = self._make_reporter()
        self._token = link.identity.token if link is not None else secrets.token_urlsafe(16)
        self._middleware = self._make_middleware()
        self._front: tls.TlsFront | None = None

    def run(self) -> int:
        """Serves until a signal, whose number it returns.

        Raises:
            PortError: the port cannot be listened on.
            TlsError: the certificate cannot be used.
            BackendError: the backend cannot be made; this has been reported to the engine.
        """
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._on_signal)
        web, local_port = self._make_web(listen(self._settings.host, self._settings.port))
        try:
            web.start()
            if self._front is not None:
                self._front.start()
            if self._reporter is not None:
                self._reporter.start()
            self._is_making = True
            self._make_backend(local_port)
            self._is_making = False
            self._announce()
            self._ended.wait()
            log.info("ending: requests in progress have %g s; a second signal ends them now", self._settings.grace_s)
        except loading.BackendError as error:
            self._readiness.fail(str(error))
            raise
        except _EndedBySignal:
            log.info("ending: a signal came while the backend was being made")
        finally:
            self._close(web)
        return self._signal

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._ended.is_set():
            self._hurry.set()  # a second signal: requests in progress are not waited for
        self._signal = number
        self._ended.set()
        if self._is_making:
            raise _EndedBySignal

    def _on_end(self) -> None:
        if self._reporter is not None:
            self._reporter.nudge()

    def _make_reporter(self) -> Reporter | None:
        link, trust = self._settings.link, self._trust
        if link is None or trust is None:
            return None
        status = Status(
            link.identity,
            self._stats,
            self._readiness,
            trust,
            figures=lambda: self._slot.metrics.figures() if self._slot.metrics is not None else {},
            first_seq=round(unix_time() * 1000),
        )
        return Reporter(link, status, trust, lambda: self._readiness.met(KEY), time.monotonic)

    def _make_middleware(self) -> AuthMiddleware:
        loaded, settings = self._loaded, self._settings
        app = application.build(loaded, self._slot, settings.body_bytes_max)
        open_paths: frozenset[str] = frozenset()
        if loaded.log_watch_class is not None or loaded.metrics_class is not None:
            open_paths = legacy_log_watch.add(app, loaded.handlers, self._slot, self._readiness, self._token)
        return AuthMiddleware(
            app,
            handlers=loaded.handlers,
            settings=settings,
            stats=self._stats,
            trust=self._trust,
            open_paths=open_paths,
        )

    def _make_web(self, outer: socket.socket) -> tuple[WsgiServer, int]:
        """The server, and the port on which this machine's own programs reach it without TLS."""
        threads, body_bytes_max = self._settings.threads, self._settings.body_bytes_max
        if self._settings.tls is None:
            return WsgiServer(self._middleware, [outer], threads, body_bytes_max), outer.getsockname()[1]
        context = tls.context(self._settings.tls)
        inner, local = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
        inner_port: int = inner.getsockname()[1]
        self._front = tls.TlsFront(outer, inner_port, context)
        app = tls.forget_address(self._middleware, inner_port)
        return WsgiServer(app, [inner, local], threads, body_bytes_max), local.getsockname()[1]

    def _make_backend(self, local_port: int) -> None:
        """Makes the Backend object, its metrics and its log watch, each with what the classic framework gave it."""
        loaded, link = self._loaded, self._settings.link
        os.environ["AUTH_PORT"] = str(local_port)  # where a classic log watch finds the server beside it
        os.environ["MODEL_LOG"] = str(self._settings.model_log)  # where one that starts its own model lets it write
        os.environ["BACKEND"] = loaded.name
        common = {
            "master_token": self._token,
            "control_server_url": f"http://127.0.0.1:{local_port}",
        }
        own_id = str(link.identity.worker_id if link is not None else 0)
        backend = loading.make(
            loaded.backend_class,
            f"Backend of {loaded.folder / 'backend.py'}",
            folder=loaded.folder,
            given={"container_id": own_id, "send_data": False, **common},
        )
        perf = number(getattr(backend, "max_perf", None))
        if perf and self._settings.perf is None:
            self._readiness.perf = perf
        own_metrics = getattr(backend, "metrics", None)
        made = own_metrics
        if made is None and loaded.metrics_class is not None:
            made = loading.make(
                loaded.metrics_class,
                f"Metrics of {loaded.folder / 'metrics.py'}",
                folder=loaded.folder,
                given={"backend": backend, "id": own_id, "send_server_data": False, **common},
            )
        metrics = Metrics(made, is_driven=own_metrics is None)
        self._slot.enter(backend, metrics)
        if loaded.log_watch_class is not None:
            user_object = loading.make(
                loaded.log_watch_class,
                f"LogWatch of {loaded.folder / 'logwatch.py'}",
                folder=loaded.folder,
                given={"backend": backend, "id": own_id, **common},
            )
            self._watch(LogWatch(user_object, self._readiness, metrics), getattr(user_object, "log_file", None))
        self._readiness.met(BACKEND)

    def _watch(self, watch: LogWatch, path: object) -> None:
        watched = Path(path) if isinstance(path, (str, Path)) else self._settings.model_log
        log.info("logwatch.py watches %s", watched)
        threading.Thread(
            target=logtail.follow, args=(watched, watch.line, self._ended), name="logwatch", daemon=True
        ).start()

    def _announce(self) -> None:
        settings, link = self._settings, self._settings.link
        where = f"{'https' if settings.tls else 'http'}://{settings.host}:{settings.port}"
        log.info("%s serves %s at %s", self._loaded.name, self._loaded.endpoints, where)
        if link is None:
            log.info("REPORT_ADDR is not set: this is a server without an engine")
        else:
            log.info(
                "reports to %s as worker %d at %s",
                ", ".join(link.report_addrs),
                link.identity.worker_id,
                link.identity.url,
            )
        if settings.unsecured and not settings.is_loopback:
            log.warning("UNSECURED is set: every client that reaches %s may call every endpoint", where)
        elif link is None and not settings.is_loopback:
            log.warning(
                "there is no engine to sign requests: every client that reaches %s may call every endpoint", where
            )

    def _close(self, web: WsgiServer) -> None:
        """Finishes the requests in progress, sends the last report, and ends all threads."""
        self._is_making = False
        self._ended.set()
        self._handler_lock.close()
        if self._front is not None:
            self._front.stop_listening()
        web.stop_listening()
        if not web.close(self._settings.grace_s, self._hurry):
            log.warning("requests were still being answered after %g s, and are cut off", self._settings.grace_s)
        if self._front is not None:
            self._front.close()
        if self._reporter is not None:
            self._reporter.close(LAST_REPORT_S)
