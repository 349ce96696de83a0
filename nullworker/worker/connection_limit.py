"""How many connections a worker's server has at once: so many that callers without a grant keep no holder out.

Without a limit idle connections alone use up the process's files, and every further accept fails and is logged. For one
connection too many another is closed, of the address that has most: the oldest on which nothing is asked, or else the
oldest whose request does not arrive.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from typing import Any, cast

CONNECTIONS_MAX = 512
#: A request of which a part is missing after so long may be given up for a further connection.
ARRIVES_WITHIN_S = 1.0
_ANSWER = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class ConnectionLimit:
    """Makes the protocols of one server, as an `aiohttp.web.Server` does, for so many connections."""

    def __init__(self, server: Any, most: int) -> None:
        """Takes its limit.

        Args:
            server: makes the protocol of a connection, and is told when it is lost.
            most: how many there may be at once.
        """
        self._server = server
        self._most = most
        #: Since when each connection is there, the oldest first. One that was accepted just now has no transport yet.
        self._since_s: dict[Any, float] = {}
        self._told = server.connection_lost
        server.connection_lost = self._lost

    def __call__(self) -> asyncio.BaseProtocol:
        """The protocol of a new connection."""
        now_s = asyncio.get_running_loop().time()
        if len(self._since_s) >= self._most and not self._closed_one(now_s):
            return _NoRoom()
        protocol: asyncio.BaseProtocol = self._server()
        self._since_s[protocol] = now_s
        return protocol

    def _lost(self, connection: Any, error: BaseException | None = None) -> None:
        self._since_s.pop(connection, None)
        self._told(connection, error)

    def _closed_one(self, now_s: float) -> bool:
        """Closes one of the connections, if any may be."""
        there = [each for each in self._since_s if each.transport is not None]
        idle = [each for each in there if not _is_asked(each)]
        late = [each for each in there if _is_late(each, now_s - self._since_s[each])]
        for choice in (idle, late):
            if choice:
                address_of = {each: _address(each.transport) for each in choice}
                most, _ = Counter(address_of.values()).most_common(1)[0]
                closed = next(each for each in choice if address_of[each] == most)
                del self._since_s[closed]
                closed.transport.abort()
                return True
        return False


def connections_max() -> int:
    """How many connections a server may have: an eighth of the files that the process may have, at most.

    asyncio accepts as many as the listener's backlog (128) before the first of them is told of: two servers may have
    twice that many more for a moment.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, max(16, soft // 8))


def _address(transport: asyncio.BaseTransport) -> str:
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


def _is_asked(connection: Any) -> bool:
    """Whether a request is being answered. aiohttp has no public name for that."""
    return getattr(connection, "_current_request", None) is not None


def _is_late(connection: Any, age_s: float) -> bool:
    request = getattr(connection, "_current_request", None)
    return age_s > ARRIVES_WITHIN_S and request is not None and not request.content.is_eof()


class _NoRoom(asyncio.Protocol):
    """Answers 503 and closes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answers, and closes."""
        own = cast("asyncio.Transport", transport)
        own.write(_ANSWER)
        own.close()
