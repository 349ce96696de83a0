"""The control port: what a consumer asks of its worker, without credentials, and from this machine alone.

It answers only requests with a loopback name in ``Host`` and none that a web page has sent, so that neither another
machine nor a web site can release a reservation; nor one that another worker makes for its client.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from nullworker.wire.headers import CALLBACK
from nullworker.wire.timeouts import within
from nullworker.wire.worker_side.local_requests import is_from_web_page
from nullworker.worker import messages
from nullworker.worker.place_notice import PlaceNotice
from nullworker.worker.release import ReleaseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nullworker.worker.health import Health
    from nullworker.worker.release import Releaser
    from nullworker.worker.sessions import HeldSession, SessionTable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

WAIT_MAX_S = 60.0
REASON_CHARACTERS_MAX = 500
JOB_CHARACTERS_MAX = 200
_NO_SESSION = "no active session"
_BODY_BYTES_MAX = 64 * 1024


class Control:
    """The handlers; ``app`` is served by `start`.

    Args:
        sessions: what holds the worker.
        releaser: ends sessions.
        health: what /fail sets and /health shows.
        port: the port on the loopback interface.
        own_health: whether /health is served.
        token: what all other paths begin with, so that other users of the machine reach none; "": they begin with none.
    """

    def __init__(
        self,
        sessions: SessionTable,
        releaser: Releaser,
        health: Health,
        port: int,
        *,
        own_health: bool,
        token: str = "",
    ) -> None:
        self._sessions = sessions
        self._releaser = releaser
        self._health = health
        self._port = port
        self._changed = asyncio.Event()
        #: What is known of the worker's end by its place.
        self.place = PlaceNotice()
        #: Called with what a consumer says that its session is for.
        self.on_job: Callable[[HeldSession, str], None] = lambda _session, _job: None
        sessions.on_open.append(self._session_changed)
        sessions.on_close.append(self._session_changed)
        self.app = web.Application(middlewares=[self._local_requests_only()], client_max_size=_BODY_BYTES_MAX)
        prefix = f"/{token}" if token else ""
        self.app.router.add_post(prefix + "/release", self._release)
        self.app.router.add_get(prefix + "/reservation", self._reservation)
        self.app.router.add_post(prefix + "/heartbeat", self._heartbeat)
        self.app.router.add_post(prefix + "/job", self._job)
        self.app.router.add_post(prefix + "/fail", self._fail)
        if own_health:
            self.app.router.add_get("/health", self._get_health)

    async def start(self) -> web.AppRunner:
        """Listens on the loopback interface. The runner that it returns is to be cleaned up in the end.

        Raises:
            OSError: the port is taken.
        """
        runner = web.AppRunner(self.app, handler_cancellation=True, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
        except OSError:
            await runner.cleanup()
            raise
        return runner

    def _local_requests_only(self) -> Any:
        hosts = {f"{name}:{self._port}" for name in ("127.0.0.1", "localhost", "[::1]")}

        @web.middleware
        async def check_origin(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.headers.get("Host", "").lower() not in hosts:
                return _error(403, f"This port answers to 127.0.0.1:{self._port} alone.")
            if is_from_web_page(request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")):
                return _error(403, "This port does not answer web pages.")
            if CALLBACK in request.headers:
                return _error(403, "This port does not answer callbacks.")
            return await handler(request)

        return check_origin

    def _session_changed(self, _session: HeldSession) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _release(self, request: web.Request) -> web.Response:
        """Ends what is held; with ``session_id``, only if it is that."""
        session = self._sessions.held
        only = request.query.get("session_id")
        if session is not None and only not in (None, session.session_id):
            return web.json_response({"released": False, "reason": "another session is held"})
        try:
            session_ids = await self._releaser.release_all()
        except ReleaseError as error:
            return _error(500, str(error))
        if not session_ids:
            return web.json_response({"released": False, "reason": _NO_SESSION})
        return web.json_response({"released": True, "session_ids": session_ids})

    async def _get_health(self, _request: web.Request) -> web.Response:
        if self._health.error:
            return _error(500, self._health.error)
        return web.json_response({"ok": True, **({"degraded": self._health.degraded} if self._health.degraded else {})})

    async def _reservation(self, request: web.Request) -> web.Response:
        wait_s = _wait_s(request)
        if wait_s is None:
            return _error(400, f"wait must be a number of seconds from 0 to {WAIT_MAX_S:g}.")
        while_held = request.query.get("while") or None
        with contextlib.suppress(asyncio.TimeoutError):
            await within(self._until_other_than(while_held), wait_s)
        return web.json_response(self._shown(self._sessions.held))

    async def _until_other_than(self, session_id: str | None) -> None:
        """Returns when what is held is another session than this one; None: when anything is held."""
        while (session.session_id if (session := self._sessions.held) else None) == session_id:
            await self._changed.wait()

    async def _heartbeat(self, request: web.Request) -> web.Response:
        session = self._sessions.held
        if session is None:
            return web.json_response({"extended": False, "reason": _NO_SESSION})
        session.extend()
        # `nullworker consume` sends heartbeats as well, and they are no sign of work.
        if request.query.get("by") != "runner":
            session.heard_at = time.time()  # noqa: TID251 - as all times of /reservation
        return web.json_response({"extended": True, "until": session.expiration})

    async def _job(self, request: web.Request) -> web.Response:
        """The consumer says which job it is at, for people to read."""
        try:
            job = messages.read_object(await request.read()).get("job")
        except (web.HTTPRequestEntityTooLarge, messages.BadMessageError, web.RequestPayloadError):
            job = None
        text = str(job) if isinstance(job, (str, int)) and not isinstance(job, bool) else ""
        if not text.strip():
            return _error(400, 'The body must be an object with the name of a job in it: {"job": "17"}.')
        session = self._sessions.held
        if session is None:
            return web.json_response({"told": False, "reason": _NO_SESSION})
        self.on_job(session, " ".join(text.split())[:JOB_CHARACTERS_MAX])
        return web.json_response({"told": True})

    async def _fail(self, request: web.Request) -> web.Response:
        """Reports the worker as broken."""
        try:
            reason = messages.read_object(await request.read()).get("reason")
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"The body is larger than {_BODY_BYTES_MAX} bytes.")
        except (messages.BadMessageError, web.RequestPayloadError):
            reason = None
        if not isinstance(reason, str) or not reason.strip():
            return _error(400, 'The body must be an object with a sentence in it: {"reason": "…"}.')
        self._health.fail(" ".join(reason.split())[:REASON_CHARACTERS_MAX])
        return web.json_response({"failed": True, "reason": self._health.error})

    def _shown(self, session: HeldSession | None) -> dict[str, Any]:
        heard_at = session.heard_at if session is not None else None
        return {**reservation(session), "heartbeat_at": heard_at, **self.place.shown()}


def reservation(session: HeldSession | None) -> dict[str, Any]:
    """What /reservation answers of a session; times are Unix time in seconds."""
    return {
        "held": session is not None,
        "session_id": session.session_id if session else None,
        "request_idx": session.request_idx if session else None,
        "since": session.created_at if session else None,
        "until": session.expiration if session else None,
        "payload": session.on_close_payload if session else None,
    }


def _wait_s(request: web.Request) -> float | None:
    try:
        wait_s = float(request.query.get("wait", "0"))
    except ValueError:
        return None
    return wait_s if math.isfinite(wait_s) and 0 <= wait_s <= WAIT_MAX_S else None


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
