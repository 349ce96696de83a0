"""The WSGI server (waitress), with bounds, and with an end that finishes the requests in progress."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.server import create_server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed.wsgi import WSGIApplication

CONNECTIONS_MAX = 500  # a client's own connection limit
IDLE_CONNECTION_S = 60  # a connection on which nothing moves, a half-sent body included
HEADER_BYTES_MAX = 64 * 1024
BACKLOG = 1024
POLL_S = 0.02


class PortError(Exception):
    """The port cannot be used; the message is one sentence."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there (``port`` 0: on any free one). Raises `PortError`."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
    except OSError as error:
        raise PortError(f"there is no address {host!r} to listen on: {error.strerror or error}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise PortError(
            f"port {port} on {host} cannot be listened on ({error.strerror}): choose another with --port or WORKER_PORT"
        ) from error
    return sock


class WsgiServer:
    """Serves an application, in threads of its own.

    Waitress reads each request completely before it takes a thread, and reports a client that hung up. Cheroot, which
    would bring TLS, does neither: slow clients would occupy all threads, and a cancelled request would run.

    Args:
        app: the application.
        sockets: what it listens on.
        threads: how many requests are handled at once.
        body_bytes_max: the largest body that is accepted.
    """

    def __init__(
        self, app: WSGIApplication, sockets: Sequence[socket.socket], threads: int, body_bytes_max: int
    ) -> None:
        self._map: dict[int, Any] = {}
        self._sockets = sockets
        self._server = create_server(
            app,
            map=self._map,
            sockets=list(sockets),
            threads=threads,
            max_request_body_size=body_bytes_max + 1,  # waitress refuses what reaches its bound
            max_request_header_size=HEADER_BYTES_MAX,
            connection_limit=CONNECTIONS_MAX,
            channel_timeout=IDLE_CONNECTION_S,
            channel_request_lookahead=1,  # else a client that hangs up is noticed only when it is answered
            clear_untrusted_proxy_headers=False,  # the middleware must see that a proxy is in between
            asyncore_use_poll=True,
            log_socket_errors=False,  # a client that hangs up is no error of ours
            ident=None,
        )
        self._thread = threading.Thread(target=self._server.run, name="web", daemon=True)

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop_listening(self) -> None:
        """New connections are refused from now on; those that are there go on."""
        self._in_loop(self._close_listeners)

    def close(self, grace_s: float, hurry: threading.Event) -> bool:
        """Ends the server, after at most ``grace_s`` seconds for what is being answered, less once ``hurry`` is set.

        Returns whether all was answered.
        """
        deadline = time.monotonic() + grace_s
        while not (is_quiet := self._is_quiet()) and time.monotonic() < deadline and not hurry.wait(POLL_S):
            pass
        self._in_loop(lambda: wasyncore.close_all(self._map, ignore_all=True))
        self._thread.join(5)
        self._server.task_dispatcher.shutdown(timeout=1)
        return is_quiet

    def _is_quiet(self) -> bool:
        channels = [c for c in list(self._map.values()) if hasattr(c, "requests")]
        return not any(channel.requests or channel.total_outbufs_len for channel in channels)

    def _close_listeners(self) -> None:
        for dispatcher in list(self._map.values()):
            if getattr(dispatcher, "accepting", False):
                # Not dispatcher.close(): that closes the trigger as well, by which the threads call the loop.
                dispatcher.accepting = False
                dispatcher.del_channel(self._map)
                dispatcher.socket.close()

    def _in_loop(self, call: Callable[[], None]) -> None:
        """Has the loop's own thread do it: the loop's tables are its alone."""
        triggers = [d for d in list(self._map.values()) if hasattr(d, "pull_trigger") and hasattr(d, "thunks")]
        if triggers and self._thread.is_alive():
            with contextlib.suppress(OSError):
                triggers[0].pull_trigger(call)
