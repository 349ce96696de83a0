"""An engine and a worker as stubs for clients, over real HTTP: they fail, are slow, vanish and come back when a test
says so. They know the wire of ``vastai`` 1.9.1 and nothing else.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.kit.servers import end_server

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kit.authority import Authority

API_KEY = "the-account-key"
ENDPOINT_KEY = "the-endpoints-own-key"


class Server:
    """An aiohttp server on the loopback, on the same port each time it is started."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def routes(self) -> list[web.RouteDef]:
        raise NotImplementedError

    async def start(self) -> None:
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await end_server(runner)


@dataclass
class Held:
    """A session on a stub worker."""

    auth_data: dict[str, Any]
    payload: dict[str, Any]
    expiration: float
    pings: int = 0


class StubWorker(Server):
    """One session at a time, as ``max_sessions=1`` has it."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.sessions: dict[str, Held] = {}
        self.opened: list[Held] = []
        self.ended: list[str] = []
        self.asked: list[str] = []  # paths, in order
        self.answering = asyncio.Event()  # while it is not set, /session/create does its work and does not answer
        self.answering.set()
        self.creating = asyncio.Event()  # set when /session/create has done its work
        self.create_statuses: deque[int] = deque()  # answered instead, one for each create
        self.statuses: deque[int] = deque()  # answered instead to all other calls
        self.freed: Callable[[], None] = lambda: None

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/session/create", self._create),
            web.post("/session/end", self._end),
            web.post("/session/get", self._get),
            web.post("/ping", self._ping),
        ]

    def drop(self) -> None:
        """Ends whatever is held, as a consumer beside the worker may."""
        for session_id in list(self.sessions):
            self._remove(session_id)

    def _remove(self, session_id: str) -> None:
        del self.sessions[session_id]
        self.ended.append(session_id)
        self.freed()

    async def _create(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if self.create_statuses:
            return web.json_response({"error": "as told"}, status=self.create_statuses.popleft())
        if self.sessions:
            return web.Response(status=429)
        body = await request.json()
        session_id = f"session-{len(self.opened)}"
        held = Held(body["auth_data"], body["payload"], _now() + body["payload"]["lifetime"])
        self.sessions[session_id] = held
        self.opened.append(held)
        self.creating.set()
        await self.answering.wait()
        return web.json_response({"session_id": session_id, "expiration": held.expiration}, status=201)

    async def _held(self, request: web.Request, auth_field: str, absent: int) -> tuple[str, Held]:
        self.asked.append(request.path)
        if self.statuses:
            raise Told(self.statuses.popleft())
        body = await request.json()
        held = self.sessions.get(body["session_id"])
        if held is None:
            raise Told(absent)
        if held.auth_data != body[auth_field]:
            raise Told(401)
        return body["session_id"], held

    async def _end(self, request: web.Request) -> web.Response:
        session_id, _ = await self._held(request, "session_auth", 400)
        self._remove(session_id)
        return web.json_response({"ended": True, "removed_session": session_id})

    async def _get(self, request: web.Request) -> web.Response:
        session_id, held = await self._held(request, "session_auth", 400)
        return web.json_response({"session_id": session_id, "auth_data": held.auth_data, "expiration": held.expiration})

    async def _ping(self, request: web.Request) -> web.Response:
        _, held = await self._held(request, "auth_data", 410)
        held.pings += 1
        held.expiration += held.payload["lifetime"]
        return web.json_response({"pong": True})


class RoutingEngine(Server):
    """Gives its free workers to the first that ask, and holds the calls for which there is none."""

    def __init__(self, certificate: bytes, *, api_key: str = API_KEY, hold_s: float = 8.0) -> None:
        super().__init__()
        self.certificate = certificate
        self.api_key = api_key
        self.hold_s = hold_s
        self.endpoints = {"null-test": 1}
        self.free: deque[StubWorker] = deque()
        self.granted: dict[int, StubWorker] = {}
        self.changed = asyncio.Condition()
        self.waiting = 0
        self.asks: list[dict[str, Any]] = []
        self.route_statuses: deque[int] = deque()  # answered instead, one for each /route/
        self.list_calls = 0
        self.certificate_calls = 0
        self.certificate_status = 200
        self.reason: str | None = None
        self._next_idx = 1
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/static/jvastai_root.cer", self._certificate),
            web.get("/api/v0/endptjobs/", self._list),
            web.post("/route/", self._route),
            web.post("/get_endpoint_workers/", self._workers),
        ]

    def add(self, worker: StubWorker) -> None:
        """The worker may be granted from now on, and again whenever its session has ended."""
        worker.freed = lambda: self._free(worker)
        self._free(worker)

    def _free(self, worker: StubWorker) -> None:
        self.free.append(worker)
        task = asyncio.ensure_future(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def wait_until(self, true: Callable[[], bool]) -> None:
        """Waits for a state of the stubs that changes with a grant, a release or a waiter."""
        async with self.changed:
            await self.changed.wait_for(true)

    async def _certificate(self, _request: web.Request) -> web.Response:
        self.certificate_calls += 1
        return web.Response(body=self.certificate, status=self.certificate_status)

    async def _list(self, request: web.Request) -> web.Response:
        self.list_calls += 1
        if request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return web.json_response({"success": False, "error": "auth_error", "msg": "Invalid key."}, status=401)
        rows = [
            {"id": number, "endpoint_name": name, "api_key": ENDPOINT_KEY, "user_id": 1, "created_at": 0.0}
            for name, number in self.endpoints.items()
        ]
        return web.json_response({"success": True, "results": rows})

    async def _route(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asks.append(body)
        if self.route_statuses:
            status = self.route_statuses.popleft()
            return web.json_response({"success": False, "error": "as_told", "msg": "As told."}, status=status)
        if body["endpoint"] not in self.endpoints:
            return web.json_response({"success": False, "error": "not_found", "msg": "None such."}, status=404)
        idx = body["request_idx"] or self._next_idx
        self._next_idx = max(self._next_idx, idx + 1)
        worker = await self._worker_for(idx)
        if worker is None:
            waiting = {"request_idx": idx, "endpoint": body["endpoint"], "status": "WAITING"}
            return web.json_response(waiting | ({"reason": self.reason} if self.reason else {}))
        ready = {"url": worker.url, "signature": "c2ln", "cost": body["cost"], "reqnum": idx}
        return web.json_response(ready | {"request_idx": idx, "endpoint": body["endpoint"]})

    async def _worker_for(self, idx: int) -> StubWorker | None:
        refused = self.granted.pop(idx, None)  # asked again: that grant did not take
        if refused is not None and not refused.sessions:
            self.free.append(refused)
        try:
            async with self.changed:
                self.waiting += 1
                self.changed.notify_all()
                try:
                    await asyncio.wait_for(self.changed.wait_for(lambda: bool(self.free)), self.hold_s)
                finally:
                    self.waiting -= 1
                    self.changed.notify_all()
                self.granted[idx] = self.free.popleft()
                return self.granted[idx]
        except (asyncio.TimeoutError, TimeoutError):
            return None

    async def _workers(self, _request: web.Request) -> web.Response:
        return web.json_response([{"id": 7, "status": "Ready", "cur_load": 100.0, "perf": 100.0, "reqs_working": 1}])


def _now() -> float:
    return dt.datetime.now(dt.timezone.utc).timestamp()


class Told(web.HTTPException):
    """The answer that a test asked for."""

    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__(text="as told")


def server_context(authority: Authority, directory: Path) -> ssl.SSLContext:
    """For a server on 127.0.0.1 whose certificate ``authority`` has signed."""
    key = rsa.generate_private_key(65_537, 2048)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / "worker.pem"
    path.write_bytes(secret + authority.certificate_of(key, "127.0.0.1"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    return context
