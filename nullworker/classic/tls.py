"""TLS before the WSGI server, which has none: decrypts what comes in and passes it on to a port on loopback.

A request that arrives through that port is never taken for a direct one of this machine: its address is removed, so it
must be signed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import threading
from typing import TYPE_CHECKING

from nullworker.wire import tasks

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from nullworker.classic.settings import TlsFiles

log = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S = 10.0
LAST_BYTES_S = 2.0
CHUNK_BYTES = 64 * 1024


class TlsError(Exception):
    """The certificate or its key cannot be used; the message is one sentence."""


def context(files: TlsFiles) -> ssl.SSLContext:
    """A server's context with that certificate. Raises `TlsError`."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    for path in (files.certificate, files.key):
        if not path.is_file():
            raise TlsError(f"USE_SSL is true and there is no {path}: put it there, or set USE_SSL=false")
    try:
        made.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(f"{files.certificate} and {files.key} can not be used for TLS: {error}") from error
    return made


def forget_address(app: WSGIApplication, port: int) -> WSGIApplication:
    """``app``, for which a request that arrives at ``port`` has no address."""

    def forgetful(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["SERVER_PORT"] == str(port):
            environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = ""
            environ["wsgi.url_scheme"] = "https"
        return app(environ, start_response)

    return forgetful


class TlsFront:
    """Accepts connections, in a thread of its own, and passes them on without TLS.

    Args:
        outer: the socket that listens for clients.
        inner: the port on 127.0.0.1 to which connections are passed on.
        tls: the server's certificate and settings.
    """

    def __init__(self, outer: socket.socket, inner: int, tls: ssl.SSLContext) -> None:
        self._outer = outer
        self._inner = inner
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._run, name="tls", daemon=True)

    def start(self) -> None:
        """Begins to accept."""
        self._thread.start()

    def stop_listening(self) -> None:
        """New connections are refused from now on; those that are there go on."""
        self._loop.call_soon_threadsafe(self._close_server)

    def close(self) -> None:
        """Ends it with all its connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _close_server(self) -> None:
        if self._server is not None:
            self._server.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._server = self._loop.run_until_complete(
                asyncio.start_server(
                    self._pass_on, sock=self._outer, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S
                )
            )
            self._loop.run_forever()
            self._server.close()
            self._loop.run_until_complete(self._finish())
        finally:
            self._loop.close()

    async def _finish(self) -> None:
        """Waits for what is still being sent (the server behind has closed its side by now), then cuts off the rest."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if left:
            _, late = await asyncio.wait(left, timeout=LAST_BYTES_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._inner)
        except OSError:
            writer.close()
            return
        # When either side hangs up, the other is hung up on: HTTP has no use for half a connection.
        ways = [tasks.start(_pump(reader, inner_writer)), tasks.start(_pump(inner_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            inner_writer.close()
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError, asyncio.TimeoutError):
                await writer.wait_closed()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while chunk := await source.read(CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
