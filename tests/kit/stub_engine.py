"""A stub of an engine, for workers: it routes every client to the worker that last reported itself ready.

It has one endpoint and one worker, and keeps what it is told. What real engines do is tested with the real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from nullworker.wire import grant
from nullworker.wire.headers import FEATURES
from nullworker.wire.worker_clock import WorkerTime
from tests.kit.authority import Authority
from tests.kit.engine_key import EngineKey, engine_key
from tests.kit.servers import end_server
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

OURS = "prompt-reports, grants"  # the features of an engine of ours; Vast's own names none
# Another in each process of the tests: a worker whose engine went away may ask a port that another test now has.
TOKEN = secrets.token_hex(24)
WORKER_ID = 41
ENDPOINT = "null-test"
ENDPOINT_KEY = "endpoint-key-0123456789"


def now_s() -> float:
    """Unix time, which grants and sessions carry."""
    return time.time()  # noqa: TID251 - as said


@dataclass(frozen=True)
class Report:
    """One message of a worker: ``prompt`` if it has the ``seq`` that only the Null PyWorker adds."""

    path: str
    body: dict[str, Any]
    at_s: float  # time.monotonic()
    remote_port: int

    @property
    def prompt(self) -> bool:
        return "seq" in self.body

    @property
    def ready(self) -> bool:
        return self.path == "/worker_status/" and self.body.get("max_perf", 0) > 0 and not self.body["error_msg"]


@dataclass
class StubEngine:
    """The engine's side of the wire."""

    says: str | None = OURS  # its features; None, as Vast's own
    worker_id: int = WORKER_ID
    token: str = TOKEN
    endpoint: str = ENDPOINT
    url: str = ""
    reports: list[Report] = field(default_factory=list)
    signed_requests: list[tuple[str, str]] = field(default_factory=list)  # (instance_id, Authorization)
    signs: bool = True  # certificates
    asked_for_key: int = 0
    ready_url: str | None = None  # of the worker that last reported itself ready
    key_is_there: bool = True
    unix_ahead_s: float = 0.0  # by how much its wall clock is ahead of its worker's
    takes_reports: bool = True
    refused: list[Report] = field(default_factory=list)  # from others than its worker
    key: EngineKey = field(default_factory=engine_key)
    authority: Authority = field(default_factory=functools.cache(Authority))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _request_idx: int = 100

    # ------------------------------------------------------------------------------------------------ what it gives

    def auth_data(self, url: str, request_idx: int = 0, **other: Any) -> dict[str, Any]:
        """A route answer that sends a client to the worker at ``url``."""
        request_idx = request_idx or self._next_idx()
        auth_data = {
            "url": url,
            "signature": self.key.sign(url),
            "cost": 100,
            "endpoint": self.endpoint,
            "reqnum": request_idx,
            "request_idx": request_idx,
        }
        if self.says and "grants" in self.says:
            auth_data["grant"] = grant.issue(
                self.token, self.worker_id, url, request_idx, 60.0, now_s() + self.unix_ahead_s, self._worker_now()
            )
        return {**auth_data, **other}

    def _worker_now(self) -> WorkerTime | None:
        """What the worker's clock shows, by its last report that says so."""
        told = next((report for report in reversed(self.reports) if "clock" in report.body), None)
        if told is None:
            return None
        return WorkerTime(told.body["clock"], told.body["clock_s"] + time.monotonic() - told.at_s)

    def _next_idx(self) -> int:
        self._request_idx += 1
        return self._request_idx

    # -------------------------------------------------------------------------------------------- what it is told

    async def wait_for(self, wanted: Callable[[Report], object], *, after: int = 0) -> Report:
        """The first report, from number ``after`` on, that fits."""

        async def waiting() -> Report:
            async with self._changed:
                while True:
                    found = next((report for report in self.reports[after:] if wanted(report)), None)
                    if found is not None:
                        return found
                    await self._changed.wait()

        return await asyncio.wait_for(waiting(), HANG_S)

    async def ready(self) -> Report:
        return await self.wait_for(lambda report: report.ready)

    def finished(self, request_idx: int) -> list[tuple[str, bool]]:
        """How the request ended, as told: (status, whether that came as a prompt report), in order."""
        return [
            (request["status"], report.prompt)
            for report in self.reports
            if report.path == "/delete_requests/"
            for request in report.body["requests"]
            if request["request_idx"] == request_idx
        ]

    def ends_told(self, request_idx: int) -> set[str]:
        """How the request ended, as told; twice, where the framework's own report went out beside the prompt one."""
        return {status for status, _ in self.finished(request_idx)}

    async def _take_report(self, request: web.Request) -> web.Response:
        if not self.takes_reports:
            raise web.HTTPServiceUnavailable
        body = await request.json()
        peer = request.transport.get_extra_info("peername") if request.transport else None
        report = Report(request.path, body, time.monotonic(), peer[1] if peer else 0)
        if (body.get("id", body.get("worker_id")), body["mtoken"]) != (self.worker_id, self.token):
            self.refused.append(report)
            return web.json_response({"success": False, "error": "auth_error"}, status=401)
        async with self._changed:
            self.reports.append(report)
            if report.ready:
                self.ready_url = body["url"]
            self._changed.notify_all()
        return web.json_response({"success": True})

    # ---------------------------------------------------------------------------------------------------- the server

    async def _pubkey(self, _request: web.Request) -> web.Response:
        self.asked_for_key += 1
        if not self.key_is_there:
            raise web.HTTPServiceUnavailable
        return web.Response(body=self.key.pem, headers={FEATURES: self.says} if self.says else {})

    async def _route(self, request: web.Request) -> web.Response:
        body = await request.json()
        request_idx = body["request_idx"] or self._next_idx()
        url = self.ready_url
        if url is None:
            waiting = {"request_idx": request_idx, "endpoint": self.endpoint, "status": "WAITING"}
            return web.json_response(waiting)
        return web.json_response(self.auth_data(url, request_idx, cost=body["cost"]))

    async def _endpoints(self, _request: web.Request) -> web.Response:
        row = {
            "id": 1,
            "endpoint_name": self.endpoint,
            "api_key": ENDPOINT_KEY,
            "user_id": 1,
            "created_at": 0,
        }
        return web.json_response({"success": True, "results": [row]})

    async def _sign_cert(self, request: web.Request) -> web.Response:
        if not self.signs:
            raise web.HTTPNotFound
        self.signed_requests.append((request.query["instance_id"], request.headers.get("Authorization", "")))
        return web.Response(body=self.authority.sign(await request.read()))

    @property
    def certificate_url(self) -> str:
        """Where clients get the root certificate."""
        return self.url + "/static/jvastai_root.cer"

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.authority.pem)

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[StubEngine]:
        app = web.Application()
        app.router.add_get("/pubkey/", self._pubkey)
        app.router.add_post("/worker_status/", self._take_report)
        app.router.add_post("/delete_requests/", self._take_report)
        app.router.add_post("/route/", self._route)
        app.router.add_get("/api/v0/endptjobs/", self._endpoints)
        app.router.add_post("/api/v0/sign_cert/", self._sign_cert)
        app.router.add_get("/static/jvastai_root.cer", self._root)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await end_server(runner)
