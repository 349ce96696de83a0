"""An HTTP server on loopback that local workers call when a session has ended, so that they need no polling.

Only for an engine on this machine: workers elsewhere cannot reach it, and their reservations are polled. A call only
makes the dispatcher check the worker at once; a call that is lost costs the time until the next check.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable

#: A null worker calls URLs on its own machine only under this path.
PATH = "/nullworker/closed/"
#: Calls that are not complete when the dispatcher ends have so long left; unlimited, half a request keeps it for 10 s.
SHUTDOWN_S = 0.5


class CloseWebhook:
    """Calls a function when a worker announces that a session has ended; the function then checks whether it has."""

    def __init__(self) -> None:
        self.usable = True  # False once a worker has refused to call this machine
        self._callbacks: dict[str, Callable[[], None]] = {}
        self._runner: web.AppRunner | None = None
        self._base = ""

    async def open(self) -> None:
        """Starts to listen on a free port of 127.0.0.1."""
        app = web.Application(client_max_size=65_536)
        app.router.add_post(PATH + "{secret}", self._closed)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._base = f"http://{host}:{port}{PATH}"

    def add(self, on_closed: Callable[[], None]) -> str:
        """Returns a URL for a worker; the first POST to it calls ``on_closed``."""
        secret = secrets.token_urlsafe(16)
        self._callbacks[secret] = on_closed
        return self._base + secret

    def remove(self, url: str) -> None:
        """Forgets a URL; removing it twice is no error."""
        self._callbacks.pop(url.rpartition("/")[2], None)

    async def _closed(self, request: web.Request) -> web.Response:
        call = self._callbacks.pop(request.match_info["secret"], None)
        if call is None:
            return web.Response(status=404)
        call()
        return web.Response(status=204)

    async def close(self) -> None:
        """Stops listening."""
        if self._runner is not None:
            await self._runner.cleanup()
