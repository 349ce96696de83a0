"""The engine's connections: how many there are at once, whose, and how long one may be open that asks for nothing.

There are as many as the system's limit on open files allows, less what the engine needs itself. Without that, accepting
would fail for all, and so would the store. Whose a connection is, its first good key or token shows (`prove`):

- one that has shown none yet is unproven. One address has a part of all connections for its unproven ones, and beyond
  that the oldest of them is closed for the next;
- one with an endpoint's or the account's key is a client's. Calls are held on half of all connections at most
  (`nullworker.engine.api.held_calls`), so that the others can be closed when they are needed;
- one with a worker's token is never closed for another, except that a worker has a limited number.

Where all are in use, the unproven one that has asked for nothing for longest is closed for a further one, then a
client's. Where none can be closed, the further one gets a 503 and is closed. So connections that are left open keep no
worker's report out. One that sends nothing, or a request's head that never ends, is closed in time.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter, OrderedDict
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from aiohttp import http_exceptions, web

from nullworker.engine.api.http import refusal
from nullworker.engine.api.refusals import block_of
from nullworker.wire import tasks
from nullworker.wire.errors import WireError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from nullworker.engine.api.refusals import Refusals

#: The limit that is asked of the system, as far as it allows: each worker and each waiting client keeps a connection.
FILES_WANTED = 65_536
#: Files of our own: store, logs, fleets.
FILES_RESERVED = 256
CONNECTIONS_MIN = 64

#: A new connection has so long to send the whole head of its first request.
FIRST_REQUEST_S = 10.0
#: One part in so many of all connections, and at least so many, may be unproven ones of one address.
UNPROVEN_PART = 2
UNPROVEN_MIN = 16
#: An unproven connection whose request has not arrived after so long is closed for a further one.
UNPROVEN_BUSY_S = 1.0
#: So many connections of one worker. The framework keeps two or three.
WORKER_CONNECTIONS_MAX = 16
#: One that has been answered has so long to send the whole head of its next one. vastai's pool drops one after 15 s.
KEEPALIVE_S = 75.0
#: A timer that comes so late says that the process was suspended; what arrived meanwhile has not been read yet.
SUSPENDED_S = 1.0

#: What the owner of an unproven connection begins with.
_UNPROVEN = "unproven, from "

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


def prove(request: web.BaseRequest, owner: str, *, is_worker: bool = False) -> None:
    """A request had a good key or token, which proves whose its connection is.

    Args:
        request: the request.
        owner: whose key or token it is.
        is_worker: whether a worker's.
    """
    connection = request.protocol
    if isinstance(connection, _Connection) and connection.owner != owner:
        connection.http.proven(connection, owner, is_worker=is_worker)


def note_refusal(request: web.BaseRequest) -> None:
    """A request was refused."""
    connection = request.protocol
    if isinstance(connection, _Connection):
        connection.http.refused(connection)


class HttpServer(web.Server):
    """Serves connections, as many as there may be; those that do not send their first request are closed in time.

    Of those that have sent one, aiohttp closes the ones that send nothing more for `KEEPALIVE_S`, or not the whole of
    a request's head: what has come of it does not lengthen its time.
    """

    def __init__(
        self,
        answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        most: int,
        turned_away: Callable[[str], None] = lambda _: None,
        tls: ssl.SSLContext | None = None,
        refusals: Refusals | None = None,
    ) -> None:
        """Made inside a running event loop.

        Args:
            answer: serves each request.
            most: how many connections there may be at once.
            turned_away: called with the address of each connection that could not be served ("": unknown).
            tls: what it serves TLS with; None: it serves plain HTTP.
            refusals: know which addresses flood; None: nothing does.
        """
        super().__init__(self._serve, handler_cancellation=True)
        self._answer = answer
        self._most = most
        self._turned_away = turned_away
        self._tls = tls
        self._refusals = refusals
        #: How many connections of an address have shown a good key.
        self._proven_at: Counter[str] = Counter()
        self._loop = asyncio.get_running_loop()
        #: Handshakes under way; kept, so that they are not collected.
        self._handshakes: set[asyncio.Task[None]] = set()
        self._count = 0
        #: Connections that have sent no request yet, and when they are closed for it.
        self._new: dict[web.RequestHandler, asyncio.TimerHandle] = {}
        #: Connections on which no request is being answered, the one that is so for longest first.
        self._idle_unproven: OrderedDict[_Connection, None] = OrderedDict()
        self._idle_clients: OrderedDict[_Connection, None] = OrderedDict()
        #: The connections of each owner, the oldest first, and all unproven ones.
        self._of: dict[str, OrderedDict[_Connection, None]] = {}
        self._unproven: OrderedDict[_Connection, None] = OrderedDict()

    def __call__(self) -> web.RequestHandler:
        """What serves one connection."""
        return _Connection(
            self,
            loop=self._loop,
            access_log=None,  # which turns it off, as in web.AppRunner
            keepalive_timeout=KEEPALIVE_S,
        )

    def accept(self) -> asyncio.BaseProtocol:
        """What serves a new connection: this server, or an answer that there are too many."""
        if self._count < self._most or self._made_room():
            if self._refusals is not None and self._refusals.is_flooded:
                return _Gate(self)
            return self() if self._tls is None else _Handshake(self)
        return _TooManyConnections(self._turned_away, is_plain=self._tls is None)

    def enter(self, transport: asyncio.Transport) -> None:
        """Serves a connection that a gate has, or closes it: a look at its address costs little beside a wrong key."""
        address = _address(transport)
        if self._proven_at[address] or self._refusals is None or self._refusals.may_enter(address):
            connection = self() if self._tls is None else _Handshake(self)
            transport.set_protocol(connection)
            connection.connection_made(transport)
            return
        self._turned_away(address)
        transport.abort()  # an answer would cost more than all else

    def _made_room(self) -> bool:
        return (
            _closed_first(self._idle_unproven)
            or _closed_first(self._unproven, self._is_overdue)
            or _closed_first(self._idle_clients)
        )

    def _is_overdue(self, connection: _Connection) -> bool:
        return self._loop.time() - connection.since_s > UNPROVEN_BUSY_S

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """A connection begins, and with it the time for its first request."""
        super().connection_made(handler, transport)
        connection = cast("_Connection", handler)
        if connection.opened is None:
            self.opened(connection, transport)
        else:  # of which the handshake is over
            connection.opened = transport
        self._expect_request(handler, transport)

    def opened(self, connection: _Connection, transport: asyncio.Transport) -> None:
        """A connection was opened, be it that its handshake begins only now."""
        self._count += 1
        connection.opened = transport
        address = connection.address = _address(transport)
        connection.owner, connection.since_s = f"{_UNPROVEN}{address}", self._loop.time()
        own = self._of.setdefault(connection.owner, OrderedDict())
        if len(own) >= max(UNPROVEN_MIN, self._most // UNPROVEN_PART) and not _closed_first(
            own, lambda first: first in self._idle_unproven or self._is_overdue(first)
        ):
            self._turned_away(address)
            if self._tls is None:
                transport.write(_TOO_MANY)
            transport.close()
        self._of.setdefault(connection.owner, OrderedDict())[connection] = None
        self._unproven[connection] = self._idle_unproven[connection] = None

    def shake_hands(self, transport: asyncio.Transport) -> None:
        """Begins TLS on a connection, which counts as one from now on, and may be closed for another."""
        connection = cast("_Connection", self())
        self.opened(connection, transport)
        task = tasks.start(self._shaken(connection, transport))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _shaken(self, connection: _Connection, transport: asyncio.Transport) -> None:
        assert self._tls is not None
        early, encrypted = _Early(), None
        try:
            if not transport.is_closing():
                encrypted = await self._loop.start_tls(
                    transport, early, self._tls, server_side=True, ssl_handshake_timeout=FIRST_REQUEST_S
                )
        except OSError:  # what came is no TLS, or it ended: its sender has been told by an alert
            pass
        finally:
            if encrypted is None or encrypted.is_closing():
                transport.abort()
                self._forget(connection)
                self._count -= 1
        if encrypted is not None and not encrypted.is_closing():
            encrypted.set_protocol(connection)
            connection.connection_made(encrypted)
            if early.data:
                connection.data_received(bytes(early.data))

    async def shutdown(self, timeout: float | None = None) -> None:
        """Ends all connections, and handshakes."""
        for task in tuple(self._handshakes):
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        await super().shutdown(timeout)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """A connection has ended."""
        self._forget(cast("_Connection", handler))
        self._count -= 1
        timer = self._new.pop(handler, None)
        if timer is not None:
            timer.cancel()
        if not cast("_Connection", handler).is_answered:  # it has sent no request, or not the whole of one
            self.refused(cast("_Connection", handler))
        super().connection_lost(handler, exc)

    def _forget(self, connection: _Connection) -> None:
        for table in (self._idle_unproven, self._idle_clients, self._unproven):
            table.pop(connection, None)
        own = self._of.get(connection.owner)
        if connection.is_proven:
            connection.is_proven = False
            self._proven_at[connection.address] -= 1
            if not self._proven_at[connection.address]:
                del self._proven_at[connection.address]
        if own is not None:
            own.pop(connection, None)
            if not own:
                del self._of[connection.owner]

    def proven(self, connection: _Connection, owner: str, *, is_worker: bool) -> None:
        """A connection is known to be ``owner``'s, as its request that is being answered shows."""
        self._forget(connection)
        connection.owner, connection.is_worker = owner, is_worker
        own = self._of.setdefault(owner, OrderedDict())
        if is_worker and len(own) >= WORKER_CONNECTIONS_MAX:
            _closed_first(own)
        self._of.setdefault(owner, OrderedDict())[connection] = None
        connection.is_proven = True
        self._proven_at[connection.address] += 1

    def refused(self, connection: _Connection) -> None:
        """A request was refused, for whatever it has: many without a good key are a flood."""
        if self._refusals is not None and not connection.is_proven:
            self._refusals.useless(connection.address)

    def is_connected(self, owner: str) -> bool:
        """Whether a connection is open on which ``owner`` was proven."""
        return owner in self._of

    def _expect_request(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        due = self._loop.time() + FIRST_REQUEST_S
        self._new[handler] = self._loop.call_at(due, self._give_up, handler, transport, due)

    def _give_up(self, handler: web.RequestHandler, transport: asyncio.Transport, due: float) -> None:
        if self._loop.time() - due > SUSPENDED_S:
            self._expect_request(handler, transport)  # this process was suspended: what the client sent may be unread
        else:
            transport.abort()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("_Connection", request.protocol)
        self._idle_unproven.pop(connection, None)
        self._idle_clients.pop(connection, None)
        if self._new:
            timer = self._new.pop(connection, None)
            if timer is not None:
                timer.cancel()
        try:
            answer = await self._answer(request)
            connection.is_answered = True
            return answer
        finally:
            if connection.transport is not None and not connection.is_worker:
                is_unproven = connection in self._unproven
                (self._idle_unproven if is_unproven else self._idle_clients)[connection] = None


def _closed_first(table: OrderedDict[_Connection, None], may: Callable[[_Connection], bool] = lambda _: True) -> bool:
    """Closes the first connection of a table, if it may be; whether it was."""
    while table:
        connection = next(iter(table))
        if not may(connection):
            return False
        table.popitem(last=False)
        if connection.opened is not None:
            connection.opened.abort()
            return True
    return False


class _Connection(web.RequestHandler):
    """A connection that refuses what aiohttp cannot read as the engine refuses all else: in JSON, in a sentence."""

    __slots__ = ("address", "http", "is_answered", "is_proven", "is_worker", "opened", "owner", "since_s")

    def __init__(self, http: HttpServer, **arguments: Any) -> None:
        super().__init__(http, **arguments)
        self.http = http
        self.address = ""
        self.is_answered = False
        self.is_proven = False
        self.owner = ""  # of the key or token that it has shown; until then, its address
        self.is_worker = False
        self.since_s = 0.0
        self.opened: asyncio.Transport | None = None  # the connection, also before a handshake is over

    def connection_lost(self, exc: BaseException | None) -> None:
        """The connection has ended."""
        self.opened = None
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to a request that no handler was asked for."""
        answer = super().handle_error(request, status, exc, message)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return answer
        self.http.refused(self)
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


def _address(transport: asyncio.BaseTransport) -> str:
    """What is counted as the address of a connection's other end; "": unknown."""
    peer = transport.get_extra_info("peername")
    return block_of(str(peer[0])) if peer else ""


class _Early(asyncio.Protocol):
    """Keeps what comes with the end of a handshake, for what serves the connection from then on."""

    def __init__(self) -> None:
        self.data = bytearray()

    def data_received(self, data: bytes) -> None:
        """Keeps it."""
        self.data += data


class _Handshake(asyncio.Protocol):
    """Serves a connection until TLS does."""

    def __init__(self, http: HttpServer) -> None:
        self._http = http

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins TLS."""
        self._http.shake_hands(cast("asyncio.Transport", transport))


class _Gate(asyncio.Protocol):
    """Has the server look at a new connection before anything is made for it."""

    def __init__(self, http: HttpServer) -> None:
        self._http = http

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Looks."""
        self._http.enter(cast("asyncio.Transport", transport))


class _TooManyConnections(asyncio.Protocol):
    """Answers 503, where that can be read without TLS, and closes."""

    def __init__(self, turned_away: Callable[[str], None], *, is_plain: bool) -> None:
        self._turned_away = turned_away
        self._is_plain = is_plain

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers, and closes."""
        transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        self._turned_away(str(peer[0]) if peer else "")
        if self._is_plain:
            transport.write(_TOO_MANY)
        transport.close()
