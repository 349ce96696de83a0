"""What `python -m workers.null.worker` runs: the worker's parts, put together, started and ended.

A worker that cannot start prints one sentence, reports it to the engine, and exits with code 1. SIGTERM or SIGHUP
ends with 0 and Ctrl-C with 130, after the consumer has ended and with nothing left running.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import importlib.util
import logging
import os
import signal
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any

from nullworker.wire import tasks
from nullworker.wire.importing import uncollected
from nullworker.wire.timeouts import within
from nullworker.wire.worker_side import engine_tls, failure_report
from nullworker.wire.worker_side.environment import SettingsError
from nullworker.worker import failures, settings
from nullworker.worker.failures import StartError

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from nullworker.worker.engine_auth import EngineAuth
    from nullworker.worker.framework import Framework
    from nullworker.worker.health import Health
    from nullworker.worker.reports import Reports
    from nullworker.worker.settings import Settings

log = logging.getLogger(__name__)

_KEY_TIMEOUT_S = 60.0  # an engine may be restarting; one that is away for longer is an error
_KEY_TIMEOUT_UNSECURED_S = 2.0
_PREPARE_S = 1.0  # what the first consumer will need is started when the start is over
_SETTLE_ROUNDS = 10
_BROUGHT_BY_EXTRA = frozenset({"vastai", "aiohttp"})
_CERTIFICATE = ("/etc/instance.crt", "/etc/instance.key")  # where the framework looks


def main() -> int:
    """Runs the worker; returns the exit code."""
    try:
        read = settings.read(os.environ)
        engine_tls.install(os.environ)  # before anything makes a context of its own
    except SettingsError as error:
        return _failed(str(error))
    from nullworker.worker import logs  # noqa: PLC0415 - it brings aiohttp, which makes its contexts at once

    logs.set_up(read.log_level, read.token)
    try:
        return asyncio.run(_main(read))
    except StartError as error:
        return _failed(str(error))
    except KeyboardInterrupt:  # before our own handler was there
        return 130


def _failed(message: str) -> int:
    failures.say(message)
    failure_report.report(os.environ, message)
    return 1


async def _main(read: Settings) -> int:
    """Runs the worker until a signal comes. Raises StartError when it cannot start."""
    signals = _Signals()
    work = tasks.start(_work(read, signals))
    waiting: set[asyncio.Future[Any]] = {work, signals.code}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        log.info("ending: a signal has come")
        work.cancel()
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await work  # returns only by raising
    finally:
        await _settle()
    return signals.code.result()


async def _settle() -> None:
    """Ends what still runs. A connection taken at the very end begins its task a step after its server was closed."""
    for _ in range(_SETTLE_ROUNDS):
        await asyncio.sleep(0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class _Signals:
    """The signals that end the worker. ``code`` is the exit code, once the first has come."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.code: asyncio.Future[int] = loop.create_future()
        self.hurry: Callable[[], None] = _nothing  # called by the second
        loop.add_signal_handler(signal.SIGTERM, self._received, 0)
        loop.add_signal_handler(signal.SIGINT, self._received, 130)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            loop.add_signal_handler(signal.SIGHUP, self._received, 0)

    def _received(self, code: int) -> None:
        if self.code.done():
            self.hurry()
        else:
            self.code.set_result(code)


def _nothing() -> None:
    """There is nothing to hurry yet."""


async def _work(read: Settings, signals: _Signals) -> None:
    """All of the worker's parts. Runs until cancelled, or raises StartError."""
    _check_ports(read)
    _check_certificate(read)
    framework = _load_framework()(read)
    import aiohttp  # noqa: PLC0415 - comes with vastai

    connector = aiohttp.TCPConnector(keepalive_timeout=70.0)  # under the 75 s of most servers
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=5.0)) as http:
        await _serve(read, framework, http, signals)


def _load_framework() -> type[Framework]:
    """Imports what takes time to import, once the settings are known to be right.

    Raises:
        StartError: it is not installed for this interpreter, which a process fleet may have been told to use.
    """
    try:
        with uncollected():
            _load_crypto()
            from nullworker.worker.framework import Framework  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name not in _BROUGHT_BY_EXTRA:
            raise
        raise StartError(
            f"{error.name} is not installed for {sys.executable}, and every worker needs it;"
            " run: pip install 'nullworker[worker]', or in a clone: pip install -r requirements.txt"
        ) from None
    return Framework


def _load_crypto() -> None:
    """Imports what checks signatures, so that it calls C by ctypes: with cffi, 0.05 s of each start parse declarations.

    Where it is missing, that is said later.
    """
    loaded = sys.modules.get("cffi")
    sys.modules["cffi"] = None  # type: ignore[assignment]  # so that it is taken for missing
    try:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module("Crypto.Util._raw_api")
    finally:
        del sys.modules["cffi"]
        if loaded is not None:
            sys.modules["cffi"] = loaded


async def _serve(read: Settings, framework: Framework, http: aiohttp.ClientSession, signals: _Signals) -> None:
    from nullworker.wire.worker_side.engine_trust import EngineTrust  # noqa: PLC0415 - as in _work
    from nullworker.wire.worker_side.messages import Identity  # noqa: PLC0415
    from nullworker.worker.callbacks import Callbacks  # noqa: PLC0415
    from nullworker.worker.consumer_process import Consumer  # noqa: PLC0415
    from nullworker.worker.control import Control  # noqa: PLC0415
    from nullworker.worker.engine_auth import EngineAuth  # noqa: PLC0415
    from nullworker.worker.health import Health  # noqa: PLC0415
    from nullworker.worker.orders import Orders  # noqa: PLC0415
    from nullworker.worker.release import Releaser  # noqa: PLC0415
    from nullworker.worker.reports import Reports  # noqa: PLC0415
    from nullworker.worker.request_checks import RequestChecks  # noqa: PLC0415

    sessions, health = framework.sessions, Health()
    identity = Identity(read.worker_id, read.token, framework.url)
    engine_auth = EngineAuth(http, read.report_addrs, EngineTrust(identity, demands_grants=read.demands_grants))
    # No process makes a thousand reports a second: the milliseconds at its start are beyond its predecessor's numbers.
    first = time.time_ns() // 1_000_000
    reports = Reports(http, framework.metrics, lambda: engine_auth.addr, engine_auth.trust.clock, first)
    callbacks = Callbacks(private=read.callback_private, engines=read.report_addrs)
    releaser = Releaser(http, sessions, read.own_http_url)
    consumer = Consumer(read, health, releaser.release)
    signals.hurry = consumer.hurry
    orders = Orders(sessions, releaser, framework.notify)
    checks = RequestChecks(
        framework,
        engine_auth=engine_auth,
        callbacks=callbacks,
        health=health,
        vacant=consumer.vacant,
        place=orders.place,
    )
    checks.install()
    health.on_failure.append(framework.fail)
    sessions.on_open += [consumer.session_opened, lambda _session: framework.notify()]
    sessions.on_close += [callbacks.session_closed, consumer.session_closed, lambda _session: framework.notify()]
    reports.on_answer, reports.more = orders.take, orders.told
    control = Control(
        sessions, releaser, health, read.control_port, own_health=not read.backend_health_url, token=read.control_token
    )
    control.on_job, control.place = orders.job, orders.place
    try:
        runner = await control.start()
    except OSError as error:
        raise _taken("NULL_CONTROL_PORT", read.control_port, error) from None
    reporting: asyncio.Task[None] | None = None

    try:
        await _load_key(engine_auth, read)
        if engine_auth.trust.takes_prompt_reports:
            reporting = _report_at_once(reports, framework, health)
        asyncio.get_running_loop().call_later(_PREPARE_S, consumer.prepare)
        await framework.run(engine_auth.addr)
    finally:
        checks.closed = True
        await consumer.close()
        await callbacks.finish(1.0)
        if reporting is not None:
            reporting.cancel()
        await runner.cleanup()


def _report_at_once(reports: Reports, framework: Framework, health: Health) -> asyncio.Task[None] | None:
    """Starts the reports at once; where they cannot be made, now or later, the worker says so and does without."""

    def fall_back(sentence: str) -> None:
        if reports.wake in framework.on_news:
            framework.on_news.remove(reports.wake)
        framework.metrics.update_pending = True  # the framework reports at its next tick
        health.degrade(
            f"{sentence} The framework's own reports go on, each second: hand-overs take a second longer. Install the"
            " vastai that nullworker[worker] names."
        )

    trouble = reports.trouble()
    if trouble:
        fall_back(trouble)
        return None
    framework.on_news.append(reports.wake)
    return tasks.watch(reports.run(), "Reporting at once", fall_back)


async def _load_key(engine_auth: EngineAuth, read: Settings) -> None:
    timeout_s = _KEY_TIMEOUT_UNSECURED_S if read.unsecured else _KEY_TIMEOUT_S
    try:
        await within(engine_auth.load(), timeout_s)
    except asyncio.TimeoutError:
        if read.unsecured:
            return  # nothing will be checked with it
        raise StartError(
            f"The engine at {', '.join(read.report_addrs)} gave no public key for {timeout_s:g} s;"
            " start the engine, or correct REPORT_ADDR."
        ) from None
    if engine_auth.trust.issues_grants and not read.unsecured:
        if not read.token:
            raise StartError("MASTER_TOKEN is not set, and this engine's grants are checked with it.")
        if importlib.util.find_spec("jwt") is None:
            raise StartError("This engine gives grants, and PyJWT reads them; run: pip install -r requirements.txt")
        # 25 ms that the first to come need not wait for, and the first report neither.
        asyncio.get_running_loop().call_later(0.01, importlib.import_module, "jwt")


def _check_ports(read: Settings) -> None:
    """Checks that the ports are free: the framework would report a taken one to the engine alone, without an end."""
    for name, port in (("WORKER_PORT", read.worker_port), ("WORKER_HTTP_PORT", read.http_port)):
        try:
            infos = socket.getaddrinfo(read.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except OSError:
            raise _no_address(read) from None
        for family, kind, protocol, _, address in infos:
            try:
                with socket.socket(family, kind, protocol) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind(address)
                    probe.listen(1)  # two may bind a port that neither listens on
            except OSError as error:
                if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                    raise _taken(name, port, error) from None
                if read.host:  # without one, a machine that has no IPv6 is no error
                    raise _no_address(read) from None


def _no_address(read: Settings) -> StartError:
    return StartError(f"WORKER_HOST is {read.host!r}, which is no address of this machine; correct it or leave it out.")


def _taken(name: str, port: int, error: OSError) -> StartError:
    if error.errno == errno.EADDRINUSE:
        return StartError(f"Port {port} is taken by another process; free it, or set {name} to another.")
    return StartError(f"Port {port} cannot be listened on ({error.strerror}); set {name} to another.")


def _check_certificate(read: Settings) -> None:
    if not read.use_ssl:
        return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(*_CERTIFICATE)
    except OSError as error:
        raise StartError(
            f"USE_SSL is true, but {' and '.join(_CERTIFICATE)} cannot be used ({error.strerror or error});"
            " start_server.sh makes them."
        ) from None
