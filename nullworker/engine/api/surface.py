"""Puts the engine's HTTP surface together: every handler with what it uses."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core import views as core_views
from nullworker.engine.api.acts import ActsApi
from nullworker.engine.api.admin import AdminApi
from nullworker.engine.api.app import App
from nullworker.engine.api.auditing import auditor
from nullworker.engine.api.client import ClientApi
from nullworker.engine.api.dispatchers import DispatchersApi
from nullworker.engine.api.held_calls import HeldCalls
from nullworker.engine.api.keys import KeysApi
from nullworker.engine.api.live import LiveApi
from nullworker.engine.api.metrics import MetricsApi
from nullworker.engine.api.openapi import Route
from nullworker.engine.api.page import Page
from nullworker.engine.api.routes import ROUTES, handlers
from nullworker.engine.api.status import StatusApi
from nullworker.engine.api.views import Parts, ViewsApi
from nullworker.engine.audit import AuditLog
from nullworker.engine.auth.account import AccountAuth
from nullworker.engine.auth.clients import ClientAuth
from nullworker.engine.auth.sign_in import SignIn
from nullworker.engine.auth.workers import WorkerAuth
from nullworker.engine.dispatchers import Dispatchers
from nullworker.engine.drains import DRAINS_FILE, Drains
from nullworker.engine.metrics.sources import MetricSources
from nullworker.engine.worker_orders import OrdersToWorkers
from nullworker.wire.paths import PAGE_FILES, PAGES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from nullworker.engine.api.refusals import Refusals
    from nullworker.engine.auth.certificates import CertificateAuthority
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.auth.request_numbers import RequestNumbers
    from nullworker.engine.auth.signing import Signer
    from nullworker.engine.catalog import Catalog
    from nullworker.engine.cost_keeper import CostKeeper
    from nullworker.engine.decisions import Decisions
    from nullworker.engine.driver import AsyncDriver
    from nullworker.engine.history_keeper import HistoryKeeper
    from nullworker.engine.metrics.measurements import Measurements
    from nullworker.engine.usage import Usage


class Insides(NamedTuple):
    """What an engine has, as far as its HTTP surface uses it."""

    driver: AsyncDriver
    catalog: Catalog
    decisions: Decisions
    keeper: HistoryKeeper
    costs: CostKeeper
    usage: Usage
    keys: Keys
    signer: Signer
    authority: CertificateAuthority
    numbers: RequestNumbers
    state_dir: Path
    report_addr: str
    wall_s: Callable[[], float]
    complaints: Callable[[], list[str]]
    read_log: Callable[[int, int], Awaitable[bytes]]
    measurements: Measurements
    connections: Callable[[], int]
    refusals: Refusals
    connections_max: int
    worker_certificates: bool  # whether workers show one
    engine_ca: str  # the authority of its certificate, as workers are given it; "": it is one of the usual ones


class Surface:
    """The surface of one engine."""

    def __init__(self, engine: Insides) -> None:
        driver, catalog, keys, wall_s = engine.driver, engine.catalog, engine.keys, engine.wall_s
        sign_in = SignIn(keys, wall_s, is_secure=engine.report_addr.startswith("https:"))
        auth = AccountAuth(keys, sign_in)
        worker_auth = WorkerAuth(driver, catalog, keys, demands_certificates=engine.worker_certificates)
        client_auth = ClientAuth(keys, catalog)
        audit = AuditLog(engine.state_dir)
        #: What dispatchers told.
        self.dispatchers = dispatchers = Dispatchers()
        #: The workers that get nothing new.
        self.drains = drains = Drains(engine.state_dir / DRAINS_FILE)
        drains.load()
        drains.forget_gone(core_views.worker_ids(driver.engine))
        parts = Parts(
            driver, catalog, engine.decisions, engine.keeper, engine.costs, dispatchers, drains, engine.complaints,
            wall_s, engine.read_log,
        )  # fmt: skip
        views, page = ViewsApi(parts, auth), Page()
        self._live = LiveApi(views, parts, auth, engine.connections_max)
        refused: Counter[str] = Counter()
        metric_sources = MetricSources(
            driver.engine, engine.measurements, engine.decisions, dispatchers, engine.usage, refused,
            engine.refusals.by_kind, engine.costs.spent, driver.now, lambda: driver.holding, engine.connections,
            engine.complaints, version("nullworker"),
        )  # fmt: skip
        self.orders = orders = OrdersToWorkers()
        dispatchers_api = DispatchersApi(driver, dispatchers, client_auth, catalog, engine.costs, engine.keeper.history)
        handler_parts = (
            ClientApi(
                driver, client_auth, engine.signer, worker_auth, engine.numbers, drains, orders, dispatchers_api.jobs,
                engine.refusals, HeldCalls(engine.connections_max),
            ),
            AdminApi(
                driver, catalog, keys, auth, client_auth, engine.authority, worker_auth, engine.report_addr,
                engine.engine_ca, certifies_workers=engine.worker_certificates,
            ),
            StatusApi(
                driver, catalog, engine.decisions, auth, engine.usage, engine.complaints, dispatchers, engine.refusals
            ),
            ActsApi(driver, catalog, keys, auth, sign_in, audit, drains, orders, wall_s),
            KeysApi(keys, catalog, auth),
            dispatchers_api,
            views,
            self._live,
            MetricsApi(auth, metric_sources),
        )  # fmt: skip
        pages = [Route("GET", path, "page", "The page", "none", media="text/html") for path in PAGES]
        pages += [Route("GET", PAGE_FILES + name, "page_file", "A file of it", "none") for name in page.files]
        served = {**handlers(*handler_parts), "page": page.page, "page_file": page.page_file}
        #: Answers requests.
        is_operators = keys.is_operators
        self.app = App((*ROUTES, *pages), served, auditor(audit, wall_s), refused, engine.refusals, is_operators)

    def close(self) -> None:
        """Ends the streams of pages, which would have no end of their own."""
        self._live.close()
