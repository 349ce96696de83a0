"""The views as they change: server-sent events, each view built once a second for all pages that look at it.

A page opens one stream for the view that it shows. It is sent the view at once, and again when something has changed,
or after `REFRESH_S`, for ages that nothing else changes; in every other second a line that says that the data are
current. What a page does not read in time holds up its own stream alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from nullworker.engine.api.listening import prove
from nullworker.wire.errors import TooManyError, WireError
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from nullworker.engine.api.views import Parts, ViewsApi, Wish
    from nullworker.engine.auth.account import AccountAuth

TICK_S = 1.0
REFRESH_S = 5.0
#: What is sent of lanes that changed begins so much before what was sent last: clocks are set.
OVERLAP_S = 3.0
#: Streams at once; each is a connection, and a little work each second. One part in so many of all connections at most:
#: none of them is ever closed for another.
STREAMS_MAX = 500
STREAMS_PART = 4
#: A page tries again so soon after the connection broke.
RETRY_MS = 1_000
HEADERS = {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}

_encode = msgspec.json.Encoder().encode


class LiveApi:
    """The handler of streams."""

    def __init__(self, views: ViewsApi, parts: Parts, auth: AccountAuth, connections_max: int) -> None:
        """Takes what it uses.

        Args:
            views: builds views.
            parts: what they are made of, for whether something changed.
            auth: checks keys.
            connections_max: how many connections there may be at once.
        """
        self._views = views
        self._connections_max = connections_max
        self._parts = parts
        self._auth = auth
        self._built: dict[tuple[object, ...], tuple[int, bytes]] = {}
        self._closing = asyncio.Event()
        #: How many streams are open.
        self.streams = 0

    async def live(self, request: web.BaseRequest) -> web.StreamResponse:
        """One view, for as long as the page wants it."""
        self._auth.check_reader(request)
        wish = self._views.wish(request)
        most = min(STREAMS_MAX, self._connections_max // STREAMS_PART)
        if self.streams >= most:
            raise TooManyError(f"{most} pages are open already; close one.")
        prove(request, "account")
        response = web.StreamResponse(headers=HEADERS)
        self.streams += 1
        try:
            await response.prepare(request)
            await response.write(b"retry: %d\n\n" % RETRY_MS)
            await self._stream(request, response, wish)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the page is gone, or the engine ends
        finally:
            self.streams -= 1
        return response

    async def _stream(self, request: web.BaseRequest, response: web.StreamResponse, wish: Wish) -> None:
        seen: object = None
        sent_at, serial, sent_at_s = 0, 0, 0
        while not self._closing.is_set():
            second = int(self._parts.driver.now() / TICK_S)
            stamp = self._stamp()
            if stamp != seen or (second - sent_at) * TICK_S >= REFRESH_S:
                before, serial = (serial, sent_at_s), self._parts.keeper.history.serial
                sent_at_s = int(self._parts.wall_s())
                await response.write(await self._event(wish, *before, second))
                seen, sent_at = stamp, second
            else:
                await response.write(b'event: current\ndata: {"at_s":%.3f}\n\n' % self._parts.wall_s())
            self._auth.check_reader(request)  # a cookie has its end
            await self._until_next_second()

    async def _until_next_second(self) -> None:
        now = self._parts.driver.now()
        with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
            await within(self._closing.wait(), TICK_S - now % TICK_S)

    def _stamp(self) -> object:
        parts = self._parts
        return parts.keeper.history.count, parts.decisions.count, parts.dispatchers.count, len(parts.complaints())

    async def _event(self, wish: Wish, serial: int, sent_at_s: int, second: int) -> bytes:
        """The view as an event; the same for all streams in one second."""
        key = (wish, serial, sent_at_s) if wish.view == "lanes" else (wish,)
        since_s = sent_at_s - OVERLAP_S if serial else 0.0
        known = self._built.get(key)
        if known is not None and known[0] == second:
            return known[1]
        try:
            event = b"event: view\ndata: " + await self._views.build(wish, serial, since_s) + b"\n\n"
        except WireError as error:
            event = b"event: refused\ndata: " + _encode(error.body()) + b"\n\n"
        self._built = {k: v for k, v in self._built.items() if v[0] == second}
        self._built[key] = (second, event)
        return event

    def close(self) -> None:
        """Ends all streams."""
        self._closing.set()
