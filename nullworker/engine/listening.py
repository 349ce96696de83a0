"""How many connections an engine has open at once: as many as the system gives it files for, less what it needs itself.

Who comes beyond that is told so and sent away. Without it, accepting would fail for all, and so would the ledger.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

#: What is asked of the system, as far as it allows: every worker keeps a connection, and so does everyone who waits.
FILES_WANTED = 65_536
#: Files of our own: ledger, logs, fleets.
FILES_RESERVED = 256
CONNECTIONS_MIN = 64

_BODY = b'{"success": false, "error": "too_many", "msg": "The engine has too many connections; try again later."}'
_SENT_AWAY = (
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


def accepting(server: web.Server, most: int) -> Callable[[], asyncio.BaseProtocol]:
    """What serves each new connection: ``server``, or who says that there are ``most`` of them."""
    return lambda: server() if len(server.connections) < most else _Turned()


class _Turned(asyncio.Protocol):
    """Sends a connection away."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Says why, and closes."""
        transport = cast("asyncio.Transport", transport)
        transport.write(_SENT_AWAY)
        transport.close()
