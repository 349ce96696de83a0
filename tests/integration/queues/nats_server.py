"""A NATS server with JetStream for the tests, on a free port; its messages survive a restart."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.integration.queues.brokers import program, running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

USER = "worker"
PASSWORD = "s3cret-pass"


class NatsServer:
    """A server; it keeps its port and its messages when it is stopped and started."""

    def __init__(self, directory: Path, *, jetstream: bool = True, token: str | None = None) -> None:
        self.port = free_port()
        self._directory = directory
        self._running = contextlib.ExitStack()
        access = ["--auth", token] if token else ["--user", USER, "--pass", PASSWORD]
        storage = ["--jetstream", "--store_dir", str(directory)] if jetstream else []
        server = program("nats-server")
        self._command = [server, "--addr", "127.0.0.1", "--port", str(self.port), *access, *storage]

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        self._running.enter_context(running(self._command, port=self.port, directory=self._directory))

    def stop(self) -> None:
        """Stops it. Twice is no error."""
        self._running.close()

    def url(self, parameters: str) -> str:
        """For the adapter."""
        return f"nats://{USER}:{PASSWORD}@127.0.0.1:{self.port}?{parameters}"

    @property
    def address(self) -> str:
        """For NATS' own client."""
        return f"nats://{USER}:{PASSWORD}@127.0.0.1:{self.port}"


@contextlib.contextmanager
def nats_server(directory: Path, *, jetstream: bool = True, token: str | None = None) -> Iterator[NatsServer]:
    """A server that runs until the end of the block."""
    server = NatsServer(directory, jetstream=jetstream, token=token)
    try:
        server.start()
        yield server
    finally:
        server.stop()
