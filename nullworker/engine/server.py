"""An engine from its configuration to its end: opens what it needs, serves, and leaves nothing behind.

The order matters. The port is bound before anything is started, so that a port that is taken changes nothing; what the
store has is given to the core before the first call is answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import functools
import logging
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from nullworker.core import views
from nullworker.core.causes import Cause
from nullworker.core.commands import Destroy, Note
from nullworker.core.events import Restored
from nullworker.engine.api import listening
from nullworker.engine.api.refusals import Refusals
from nullworker.engine.api.surface import Insides, Surface
from nullworker.engine.api.turning_away import TurningAway
from nullworker.engine.auth.certificates import CertificateAuthority
from nullworker.engine.auth.keys import SECRET_FILE, Keys
from nullworker.engine.auth.request_numbers import RequestNumbers
from nullworker.engine.auth.signing import Signer
from nullworker.engine.catalog import Catalog
from nullworker.engine.cost_file import CostFile
from nullworker.engine.cost_keeper import CostKeeper
from nullworker.engine.crash_dump import CrashDump
from nullworker.engine.decisions import Decisions
from nullworker.engine.driver import AsyncDriver, EngineFailedError
from nullworker.engine.dry_run import COMPLAINT as DRY_RUN
from nullworker.engine.dry_run import DryFleet
from nullworker.engine.fleet_orders import FleetOrders
from nullworker.engine.history_file import HistoryFile
from nullworker.engine.history_keeper import HistoryKeeper
from nullworker.engine.journal_file import JournalFile
from nullworker.engine.metrics.measurements import Measurements
from nullworker.engine.recorder import Recorder
from nullworker.engine.shortages import Shortages
from nullworker.engine.state_dir import StateError, StateLock, open_state_dir, url_kept
from nullworker.engine.store import Store
from nullworker.engine.takeover import workers_beyond_store
from nullworker.engine.tls import ROOT_FILE, EngineTls
from nullworker.engine.usage import Usage
from nullworker.fleets.base import FleetError, InstanceSpec
from nullworker.fleets.registry import fleet_names, open_fleet
from nullworker.views.billing import Price
from nullworker.wire import tasks
from nullworker.wire.errors import WireError
from nullworker.wire.worker_side.engine_tls import (
    CA_VARIABLE,
    CERTIFICATE_VARIABLE,
    GRANTS_VARIABLE,
    encoded,
    encoded_chain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from nullworker.core.commands import Create
    from nullworker.engine.api.app import App
    from nullworker.engine.config import EngineConfig
    from nullworker.engine.decisions import Decision
    from nullworker.engine.store import Loaded
    from nullworker.fleets.base import EndsSoon, Fleet, Notice

#: Places of requests are reserved in the store in blocks of this size, so that none is given twice over a restart.
REQUEST_PLACES_BLOCK = 10_000
#: What workers and requests went through, for the page.
HISTORY_FILE = "history.db"
#: What workers cost.
COSTS_FILE = "costs.db"
log = logging.getLogger(__name__)

#: A second Ctrl-C gives workers this long.
HURRY_S = 0.5


#: The exit code of an engine whose core failed (EX_SOFTWARE): a supervisor may start it again.
CORE_FAILED_EXIT_CODE = 70


class AtEnd(enum.Enum):
    """Which workers end with the engine."""

    FREE = "free"  # those that hold nothing
    ALL = "all"
    NONE = "none"


class ServerError(Exception):
    """The engine cannot run; the message is one sentence that says why and what to do."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Server:
    """One engine, between `open` and `close`."""

    def __init__(self, config: EngineConfig, state_dir: Path, lock: StateLock, listener: socket.socket) -> None:
        self.config = config
        self._is_dry_run = False
        self.state_dir = state_dir
        self._lock = lock
        self._listener = listener
        host, port = listener.getsockname()[:2]
        scheme = "https" if config.tls else "http"
        self.url = f"{scheme}://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared only
        self._report_addr = config.public_url or self.url
        self._serving = contextlib.AsyncExitStack()
        self._files = contextlib.ExitStack()
        self._orders: FleetOrders | None = None
        self._early_notices: list[tuple[str, Notice]] | None = []  # of fleets, before they can be acted on
        self._record: Recorder | None = None
        self._journal: JournalFile | None = None
        self._http: listening.HttpServer | None = None
        #: Why the engine must end, in a sentence, once its core has failed.
        self.failure: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @classmethod
    async def open(cls, config: EngineConfig, environ: Mapping[str, str], *, dry_run: bool = False) -> Server:
        """Opens everything and begins to serve.

        Args:
            config: as `load_config` gives it.
            environ: the environment, for VAST_API_KEY at the first start.
            dry_run: orders are given to no fleet; ``config`` is one of `dry_run.scratch`.

        Raises:
            ServerError: the port is taken, a fleet cannot be opened, or the state cannot be read.
        """
        try:
            state_dir = open_state_dir(config.state)
            lock = StateLock(state_dir)
        except StateError as error:
            raise ServerError(str(error)) from None
        try:
            server = cls(config, state_dir, lock, _bind(config.host, config.port))
        except BaseException:
            lock.release()
            raise
        server._is_dry_run = dry_run
        try:
            await server._start(environ)
        except EngineFailedError:
            await server.close(destroy=False)
            raise ServerError(
                f"{server.failure.result()} It failed while it started, and is likely to fail at the next start.",
                CORE_FAILED_EXIT_CODE,
            ) from None
        except (StateError, FleetError, WireError) as error:
            await server.close(destroy=False)
            raise ServerError(str(error)) from None
        except BaseException:
            await server.close(destroy=False)
            raise
        return server

    async def _start(self, environ: Mapping[str, str]) -> None:
        config, state_dir = self.config, self.state_dir
        self.store = Store.open(state_dir / "engine.db", is_first=not (state_dir / SECRET_FILE).exists())
        self._files.callback(self.store.close)
        loaded = self.store.load()
        self.keys = Keys.open(state_dir, environ.get("VAST_API_KEY", ""))
        signer = Signer.open(state_dir)
        authority = self._authority = CertificateAuthority.open(state_dir)
        self._tls = EngineTls.open(config, state_dir, authority) if config.tls else None
        if self._tls is None or self._tls.ca_pem is None:
            (state_dir / ROOT_FILE).unlink(missing_ok=True)  # clients of this machine would take it for the engine's
        orders = self._orders = FleetOrders(await self._open_fleets(), self._spec, self._fleet_of)
        self.decisions = Decisions(self._endpoint_of)
        self.decisions.keep(loaded.decisions)
        if config.journal is not None:
            self._journal = JournalFile.open(config.journal)
            self._files.callback(self._journal.close)
        self.usage = Usage(self.store, loaded.usage)
        dump = CrashDump(state_dir, self.store.load)
        record = self._record = Recorder(self.decisions, _wall_s, self.store, self._journal, self.usage, dump)
        self.driver = AsyncDriver(orders, record, self._core_failed)
        self._serving.push_async_callback(self.driver.close)
        self.keeper = HistoryKeeper(_wall_s, self.driver.now, HistoryFile.open(state_dir / HISTORY_FILE))
        record.on_changes = self.keeper.changed
        costs_file = CostFile.open(state_dir / COSTS_FILE)
        self.costs = CostKeeper(_wall_s, self.driver.now, self._price, costs_file)
        self.catalog = Catalog(
            self.driver.handle,
            _wall_s,
            self.store,
            orders.fleets.__contains__,
            functools.partial(self._knows_backend, orders.fleets),
        )
        record.endpoint_gone = self.catalog.endpoint_gone
        record.name_of = self._endpoint_name
        record.workergroup_gone = lambda: self.catalog.workergroups_gone(views.workergroup_ids(self.driver.engine))
        await self._restore(loaded, orders)
        self.keeper.begin(self.driver.engine)
        measurements = Measurements(self.keeper.history)
        orders.on_call, self.driver.on_decided = measurements.fleet_called, measurements.decisions.observe
        self._serving.push_async_callback(self.keeper.close)
        self.costs.begin(self.driver.engine)
        state = self.driver.engine.state
        self.keeper.history.on_change = lambda change: self.costs.changed(state.now, change)
        for label in self.costs.labels.values():
            self.keeper.history.job(label.request_idx, label.job)
        self._serving.push_async_callback(self.costs.close)
        most = listening.connections_max()
        refusals = self.refusals = Refusals(asyncio.get_running_loop().time)
        insides = Insides(
            self.driver, self.catalog, self.decisions, self.keeper, self.costs, self.usage, self.keys, signer,
            authority, RequestNumbers(self.keys, loaded.next_request_place, self._reserve_request_places), state_dir,
            self._report_addr, _wall_s, self._complaints, orders.read_log, measurements, lambda: self.connections,
            refusals, most, self.config.worker_certificates, self._known_of_engine().get(CA_VARIABLE, ""),
        )  # fmt: skip
        self.surface = Surface(insides)
        self._take_notices(orders)
        await self._serve(self.surface.app, most)
        self._serving.callback(self.surface.close)
        self._files.enter_context(url_kept(state_dir, self.url))
        self.driver.start_listing()

    async def _restore(self, loaded: Loaded, orders: FleetOrders) -> None:
        """Gives the core what an engine before this one knew, and what fleets have beyond that."""
        catalog, workers = self.catalog, loaded.workers
        if loaded.lost:
            log.error("%s", loaded.lost, extra={"action": "store_lost"})
        catalog.restore(loaded.endpoints, loaded.workergroups, loaded.next_id)
        if not loaded.endpoints:  # else its changes come after the workers that they are about
            catalog.apply_file(self.config.endpoints)
        if loaded.lost or not loaded.was_closed:
            beyond = await workers_beyond_store(
                orders,
                catalog,
                {worker.worker_id for worker in workers if catalog.has_workergroup(worker.workergroup_id)},
            )
            self.store.write_now(beyond, ())
            workers = [*workers, *beyond]
        if loaded.next_worker_id > 1 or workers or loaded.reservations:
            self.driver.handle(Restored(loaded.next_worker_id, tuple(workers), tuple(loaded.reservations)))
        catalog.resume_deletions()
        catalog.apply_file(self.config.endpoints)

    async def _serve(self, app: App, most: int) -> None:
        turning_away = TurningAway(self.driver, self.refusals, self._is_connected)
        tls = None if self._tls is None else self._tls.context
        http = self._http = listening.HttpServer(app.answer, most, turning_away, tls, self.refusals)
        runner = web.ServerRunner(http, shutdown_timeout=1.0)
        await runner.setup()
        self._serving.push_async_callback(runner.cleanup)
        server = await asyncio.get_running_loop().create_server(http.accept, sock=self._listener, backlog=1024)
        self._serving.callback(server.close)

    async def _open_fleets(self) -> dict[str, Fleet]:
        used = {group.fleet for endpoint in self.config.endpoints for group in endpoint.workergroups}
        fleets: dict[str, Fleet] = {}
        for name in sorted(used | {"processes"}):
            if name not in fleet_names():
                raise FleetError(f"There is no fleet {name!r}; installed are {', '.join(fleet_names())}.")
            if self._is_dry_run:
                fleets[name] = DryFleet()
                continue
            noticed = functools.partial(self._noticed, name)
            fleets[name] = await open_fleet(name, self._fleet_settings(name), self.keys.mark, self._exited, noticed)
        return fleets

    def _fleet_settings(self, name: str) -> dict[str, object]:
        return {"state_dir": str(self.state_dir), **self.config.fleets.get(name, {})}

    def _exited(self, worker_id: int, detail: str) -> None:
        if self._orders is not None:
            self._orders.exited(worker_id, detail)

    def _noticed(self, fleet: str, notice: Notice) -> None:
        if self._orders is None or self._early_notices is not None:
            self._early_notices = [*(self._early_notices or ()), (fleet, notice)]
        else:
            self._orders.noticed(fleet, notice)

    def _take_notices(self, orders: FleetOrders) -> None:
        """From now on what fleets say of their places is acted on, and so is what they said before."""
        orders.shortages = Shortages(_wall_s, self.catalog.try_again)
        orders.on_ends_soon = self._ends_soon
        early, self._early_notices = self._early_notices or [], None
        for fleet, notice in early:
            orders.noticed(fleet, notice)

    def _ends_soon(self, notice: EndsSoon) -> None:
        """A place will end an instance: it gets nothing new, and what it holds has until then."""
        if views.worker_ref(self.driver.engine, notice.worker_id) is None:
            return
        reason = f"its place ends it in {notice.in_s:.0f} s: {notice.reason}"
        log.warning("worker %d gets nothing new: %s", notice.worker_id, reason, extra={"action": "ends_soon"})
        self.surface.drains.begin(notice.worker_id, reason)
        self.surface.orders.place_ends(notice.worker_id, notice.in_s, notice.reason)

    def _core_failed(self, sentence: str) -> None:
        self.store.closes_cleanly = False
        if not self.failure.done():
            self.failure.set_result(sentence)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return 0 if self._http is None else len(self._http.connections)

    def _is_connected(self, owner: str) -> bool:
        return self._http is not None and self._http.is_connected(owner)

    # --------------------------------------------------------------------------------------------------------- lookups

    def _spec(self, order: Create) -> InstanceSpec:
        group = self.catalog.workergroups[order.workergroup_id]
        return InstanceSpec(
            worker_id=order.worker_id,
            endpoint=self.catalog.endpoints[group.endpoint_id].name,
            workergroup_id=order.workergroup_id,
            backend=group.config.backend,
            report_addr=self._report_addr,
            worker_token=self.keys.worker_token(order.worker_id).reveal(),
            consumer=group.config.consumer,
            env={**group.config.env, **self._known_of_engine(), **self._certificate_of(order.worker_id)},
            use_ssl=group.config.use_ssl,
            resources=group.config.resources,
        )

    def _price(self, worker_id: int, workergroup_id: int) -> Price | None:
        """What a worker costs: as its fleet tells, or its workergroup's configuration; None: that is gone."""
        group = self.catalog.workergroups.get(workergroup_id)
        if group is None:
            return None
        config = group.config
        running, storage = self.driver.prices.get(worker_id, (None, None))
        return Price(
            config.price_per_hour if running is None else running,
            config.storage_price_per_hour if storage is None else storage,
            config.billing,
        )

    def _known_of_engine(self) -> dict[str, str]:
        """What a worker is told by its fleet, so that no answer on the way can change it."""
        pinned = {} if self._tls is None or self._tls.ca_pem is None else {CA_VARIABLE: encoded(self._tls.ca_pem)}
        return {GRANTS_VARIABLE: "required", **pinned}

    def _certificate_of(self, worker_id: int) -> dict[str, str]:
        """By which a worker shows which one it is, where that is asked for."""
        if not self.config.worker_certificates:
            return {}
        return {CERTIFICATE_VARIABLE: encoded_chain(self._authority.for_worker(worker_id))}

    def _knows_backend(self, fleets: Mapping[str, Fleet], fleet: str, backend: str) -> bool:
        try:
            fleets[fleet].check_backend(self._fleet_settings(fleet), backend)
        except FleetError:
            return False
        return True

    def _fleet_of(self, worker_id: int) -> str | None:
        worker = views.worker_ref(self.driver.engine, worker_id)
        return None if worker is None else worker.fleet

    def _endpoint_of(self, worker_id: int) -> int:
        worker = views.worker_ref(self.driver.engine, worker_id)
        return 0 if worker is None else worker.endpoint_id

    def _endpoint_name(self, endpoint_id: int) -> str:
        entry = self.catalog.endpoints.get(endpoint_id)
        return "" if entry is None else entry.name

    def on_decision(self, callback: Callable[[Decision], None]) -> None:
        """Has ``callback`` called with each decision."""
        if self._record is not None:
            self._record.on_decision = callback

    def _complaints(self) -> list[str]:
        """What is wrong with the engine itself, in sentences; it serves all the same."""
        found = [DRY_RUN] if self._is_dry_run else []
        found += [self.store.lost] if self.store.lost else []
        if self.store.error:
            found.append(f"The store cannot be written ({self.store.error}): a restart would forget what is new.")
        if self._journal is not None and self._journal.error:
            found.append(f"{self._journal.error[:1].upper()}{self._journal.error[1:]}; it ended there.")
        found += filter(None, [self.keeper.complaint, self.costs.complaint])
        return found

    def _reserve_request_places(self, start: int) -> int:
        end = start + REQUEST_PLACES_BLOCK
        self.store.reserve_request_places(end)
        return end

    # ------------------------------------------------------------------------------------------------------------- end

    async def close(
        self, *, destroy: bool = True, spare_held: bool = False, hurry: asyncio.Event | None = None
    ) -> None:
        """Ends the engine.

        Args:
            destroy: its workers end first; if not, they run on for the next start.
            spare_held: but for those that hold something, or may: they run on.
            hurry: once it is set, workers have little grace left.
        """
        try:
            await self._serving.aclose()
            if self._orders is not None:
                if destroy and spare_held and self._record is not None:
                    free = self._end_of_free_workers(self._record)
                    await self._close_fleets(self._orders, destroy=False, only=free, hurry=hurry)
                    self._record.forget_owned(self.driver.engine, {worker_id for _, worker_id in free})
                else:
                    await self._close_fleets(self._orders, destroy=destroy, hurry=hurry)
        finally:
            self._files.close()
            self._listener.close()
            self._lock.release()

    def _end_of_free_workers(self, record: Recorder) -> list[tuple[str, int]]:
        """Records what becomes of each worker; returns fleets and ids of those that are to be destroyed."""
        engine = self.driver.engine
        free = views.endable_workers(engine)
        ends = [Destroy(w.worker_id, w.fleet, Cause.ENGINE_ENDED, "the engine ends, and it is free", 0) for w in free]
        record.ended(ends)
        gone = {worker.worker_id for worker in free}
        held = [worker for worker in views.worker_refs(engine) if worker.owned and worker.worker_id not in gone]
        why = "the engine ends, and it is held, or may be: it runs on, and the next start takes it over"
        record.ended([Note("left_running", w.endpoint_id, w.worker_id, 0, Cause.ENGINE_ENDED, why, 0) for w in held])
        if held:
            log.warning(
                "%s (%s): the next start takes over; --end-workers would end them",
                "1 worker that is held runs on" if len(held) == 1 else f"{len(held)} workers that are held run on",
                _numbers([worker.worker_id for worker in held]),
            )
        return [(w.fleet, w.worker_id) for w in free]

    async def _close_fleets(
        self,
        orders: FleetOrders,
        *,
        destroy: bool,
        hurry: asyncio.Event | None,
        only: Sequence[tuple[str, int]] = (),
    ) -> None:
        closing = tasks.start(orders.close(destroy=destroy, only=only))
        if hurry is not None:
            waiting = tasks.start(hurry.wait())
            await asyncio.wait([closing, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not closing.done():
                await orders.close(destroy=destroy, grace_s=HURRY_S)
        await closing
        if destroy and self._record is not None:
            self._record.forget_owned(self.driver.engine)
            self.usage.settle(asyncio.get_running_loop().time())


def _numbers(worker_ids: Sequence[int]) -> str:
    shown = ", ".join(str(worker_id) for worker_id in worker_ids[:20])
    return f"{shown}, …" if len(worker_ids) > 20 else shown


def _wall_s() -> float:
    return time.time()  # noqa: TID251 - the edge: decisions and rows are dated for people


_ADVICE = {
    errno.EADDRNOTAVAIL: "give an address of this machine with --host",
    errno.EACCES: "a port under 1024 needs privileges: give another with --port",
}


def _bind(host: str, port: int) -> socket.socket:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ServerError(
            f"The host {host} is no address of this machine ({error.strerror}); give another with --host."
        ) from None
    family, kind, proto, _, address = infos[0]
    listener = socket.socket(family, kind, proto)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        why = (error.strerror or str(error)).lower()
        advice = _ADVICE.get(error.errno or 0, "stop what does, or give another with --port")
        raise ServerError(f"The engine cannot listen on {host}:{port} ({why}); {advice}.") from None
    listener.setblocking(False)
    return listener


async def serve(
    config: EngineConfig,
    environ: Mapping[str, str],
    on_ready: Callable[[Server], None] = lambda _: None,
    *,
    at_end: AtEnd = AtEnd.FREE,
    dry_run: bool = False,
) -> int:
    """Runs an engine until SIGINT or SIGTERM, or until its core fails.

    Args:
        config: as `load_config` gives it.
        environ: the environment.
        on_ready: called once it serves.
        at_end: which workers end with the engine; the others run on, and the next start adopts them.
        dry_run: as for `Server.open`.

    Returns:
        The exit code: 0; 130 for SIGINT; `CORE_FAILED_EXIT_CODE`, where workers are left running in any case.

    Raises:
        ServerError: it could not begin.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    hurry = asyncio.Event()

    def stop(signum: int) -> None:
        if ended.done():
            hurry.set()
        else:
            ended.set_result(signum)

    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop, signum)
    server = await Server.open(config, environ, dry_run=dry_run)
    try:
        on_ready(server)
        either: set[asyncio.Future[Any]] = {ended, server.failure}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        has_failed = server.failure.done()
        if has_failed:
            log.critical("%s", server.failure.result(), extra={"action": "core_failed"})
    finally:
        ends = at_end is not AtEnd.NONE and not server.failure.done()
        await server.close(destroy=ends, spare_held=at_end is AtEnd.FREE, hurry=hurry)
    if has_failed:
        return CORE_FAILED_EXIT_CODE
    return 130 if ended.result() == signal.SIGINT else 0


def run(
    config: EngineConfig,
    environ: Mapping[str, str],
    on_ready: Callable[[Server], None] = lambda _: None,
    *,
    at_end: AtEnd = AtEnd.FREE,
    dry_run: bool = False,
) -> int:
    """As `serve`, with an event loop of its own (uvloop's).

    Args:
        config: as `serve` takes it; so are the others.
        environ: the environment.
        on_ready: called once it serves.
        at_end: likewise.
        dry_run: likewise.
    """
    import uvloop  # noqa: PLC0415 - an engine alone needs it

    listening.raise_limit()
    try:
        return uvloop.run(serve(config, environ, on_ready, at_end=at_end, dry_run=dry_run))
    finally:
        # The loop is closed and its handlers with it: a Ctrl-C that comes now finds nothing left to hurry.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
