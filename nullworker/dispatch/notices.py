"""A door on loopback at which local workers say that a reservation has ended, so that nobody has to ask them.

Only for an engine on this machine: workers elsewhere cannot reach it, and their reservations are looked at instead. A
notice only makes the dispatcher look at once; one that is lost costs the time until the next look.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

#: By this path a null worker knows that it may call a URL on its own machine.
PATH = "/nullworker/closed/"


class Notices:
    """Calls a function when a worker says that a session is over; whoever gets the call looks for himself."""

    def __init__(self) -> None:
        self.usable = True  # False once a worker has refused to knock here
        self._doors: dict[str, Callable[[], None]] = {}
        self._runner: web.AppRunner | None = None
        self._base = ""

    async def open(self) -> None:
        """Begins to listen on a free port of 127.0.0.1."""
        app = web.Application(client_max_size=65_536)
        app.router.add_post(PATH + "{secret}", self._closed)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._base = f"http://{host}:{port}{PATH}"

    def door(self, on_closed: Callable[[], None]) -> str:
        """A URL to give a worker; a POST there calls ``on_closed``, once."""
        secret = secrets.token_urlsafe(16)
        self._doors[secret] = on_closed
        return self._base + secret

    def shut(self, url: str) -> None:
        """The door is not needed any more."""
        self._doors.pop(url.rpartition("/")[2], None)

    async def _closed(self, request: web.Request) -> web.Response:
        call = self._doors.pop(request.match_info["secret"], None)
        if call is None:
            return web.Response(status=404)
        call()
        return web.Response(status=204)

    async def close(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()
