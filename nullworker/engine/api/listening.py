"""The engine's connections: how many there are at once, and how long one may be open that asks for nothing.

There are as many as the system's limit on open files allows, less what the engine needs itself. Without that, accepting
would fail for all, and so would the store. For a further one the one that has asked for nothing for longest is closed:
connections that are left open must not keep workers' reports out. Where all are being answered, the further one gets a
503 and is closed. One that sends nothing, or a request's head that never ends, is closed in time.
"""

from __future__ import annotations

import asyncio
import resource
from collections import OrderedDict
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from aiohttp import http_exceptions, web

from nullworker.engine.api.http import refusal
from nullworker.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

#: The limit that is asked of the system, as far as it allows: each worker and each waiting client keeps a connection.
FILES_WANTED = 65_536
#: Files of our own: store, logs, fleets.
FILES_RESERVED = 256
CONNECTIONS_MIN = 64

#: A new connection has so long to send the whole head of its first request.
FIRST_REQUEST_S = 10.0
#: One that has been answered has so long to send the whole head of its next one. vastai's pool drops one after 15 s.
KEEPALIVE_S = 75.0
#: A timer that comes so late says that the process was suspended; what arrived meanwhile has not been read yet.
SUSPENDED_S = 1.0

_BODY = b'{"success": false, "error": "too_many", "msg": "The engine has too many connections; try again later."}'
_TOO_MANY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Length: " + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY
)


def raise_limit() -> None:
    """Has the system allow this process, and those that it starts, as many files as are wanted, or as it may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections_max() -> int:
    """How many connections there may be at once."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = FILES_WANTED if soft == resource.RLIM_INFINITY else soft
    return max(CONNECTIONS_MIN, files - FILES_RESERVED)


class HttpServer(web.Server):
    """Serves connections, as many as there may be; those that do not send their first request are closed in time.

    Of those that have sent one, aiohttp closes the ones that send nothing more for `KEEPALIVE_S`, or not the whole of
    a request's head: what has come of it does not lengthen its time.
    """

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], most: int) -> None:
        """Made inside a running event loop; ``answer`` serves each request, on ``most`` connections at once."""
        super().__init__(self._serve, handler_cancellation=True)
        self._answer = answer
        self._most = most
        self._loop = asyncio.get_running_loop()
        #: Connections that have sent no request yet, and when they are closed for it.
        self._new: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        #: Connections on which no request is being answered, the one that is so for longest first.
        self._idle: OrderedDict[web.RequestHandler, None] = OrderedDict()

    def __call__(self) -> web.RequestHandler:
        """What serves one connection."""
        return _Connection(
            self,
            loop=self._loop,
            access_log=None,  # type: ignore[arg-type]  # which turns it off, as in web.AppRunner
            keepalive_timeout=KEEPALIVE_S,
        )

    def accept(self) -> asyncio.BaseProtocol:
        """What serves a new connection: this server, or an answer that there are too many."""
        if len(self.connections) < self._most or self._closed_an_idle_one():
            return self()
        return _TooManyConnections()

    def _closed_an_idle_one(self) -> bool:
        while self._idle:
            handler, _ = self._idle.popitem(last=False)
            if handler.transport is not None:
                handler.transport.abort()
                return True
        return False

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A connection begins, and with it the time for its first request."""
        super().connection_made(handler, transport)
        self._idle[handler] = None
        self._expect_request(handler, transport)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection has ended."""
        self._idle.pop(handler, None)
        timer = self._new.pop(handler, None)
        if timer is not None:
            timer.cancel()
        super().connection_lost(handler, exc)

    def _expect_request(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        due = self._loop.time() + FIRST_REQUEST_S
        self._new[handler] = self._loop.call_at(due, self._give_up, handler, transport, due)

    def _give_up(self, handler: web.RequestHandler, transport: asyncio.Transport, due: float) -> None:
        if self._loop.time() - due > SUSPENDED_S:
            self._expect_request(handler, transport)  # this process was suspended: what the client sent may be unread
        else:
            transport.abort()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = request.protocol
        self._idle.pop(handler, None)
        if self._new:
            timer = self._new.pop(handler, None)
            if timer is not None:
                timer.cancel()
        try:
            return await self._answer(request)
        finally:
            if handler.transport is not None:
                self._idle[handler] = None


class _Connection(web.RequestHandler):
    """A connection that refuses what aiohttp cannot read as the engine refuses all else: in JSON, in a sentence."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to a request that no handler was asked for."""
        answer = super().handle_error(request, status, exc, message)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return answer
        refused = refusal(WireError("", _why_unread(exc, message or "")))
        refused.set_status(status)
        refused.force_close()
        return refused


def _why_unread(error: BaseException | None, message: str) -> str:
    if isinstance(error, http_exceptions.ContentEncodingError):
        return "The body has a Content-Encoding that the engine cannot read; send it plain, or with gzip or deflate."
    if isinstance(error, http_exceptions.LineTooLong):
        return "A line of the request's head is too long."
    if isinstance(error, http_exceptions.InvalidURLError):
        return "The request's URL cannot be read."
    what = message.partition("\n")[0].rstrip(":. ")  # what follows repeats the request
    return f"What came is no HTTP request that can be read ({what})."


class _TooManyConnections(asyncio.Protocol):
    """Answers 503 and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers, and closes."""
        transport = cast("asyncio.Transport", transport)
        transport.write(_TOO_MANY)
        transport.close()
