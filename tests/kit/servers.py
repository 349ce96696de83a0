"""The end of a server that a test has in its own process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web


async def end_server(runner: web.BaseRunner) -> None:
    """Ends a server with all its connections, also those that were being taken just then.

    asyncio takes a connection in several steps. One between them is no connection of the server yet when that closes
    its connections, and would be left to the garbage collector, whose warning fails some later test.
    """
    server = runner.server
    await runner.cleanup()
    for _ in range(5):
        await asyncio.sleep(0)
    if server is not None:
        await server.shutdown(0)
