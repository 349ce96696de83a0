"""Amazon SQS for the tests: moto's server, a process that speaks the real interface, on a free port."""

from __future__ import annotations

import contextlib
import socket
import sys
from typing import TYPE_CHECKING, Any

import boto3

from nullworker.queues.urls import place
from tests.integration.queues.brokers import running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REGION = "eu-west-1"


class Moto:
    """A server; its queues are gone when it is stopped, its port stays."""

    def __init__(self, directory: Path, *, checks_keys: bool = False, host: str = "127.0.0.1") -> None:
        self.port = free_port()
        self._host = host
        self.endpoint_url = f"http://{place(host, self.port)}"
        self._directory = directory
        self._env = {"INITIAL_NO_AUTH_ACTION_COUNT": "0"} if checks_keys else {}
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        command = [sys.executable, "-m", "moto.server", "-H", self._host, "-p", str(self.port)]
        self._running.enter_context(
            running(command, port=self.port, directory=self._directory, env=self._env, ready=self._accepts)
        )

    def _accepts(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((self._host, self.port), timeout=1):
            return True
        return False

    def stop(self) -> None:
        """Stops it. Twice is no error."""
        self._running.close()

    def url(self, queue: str) -> str:
        """For the adapter."""
        return f"sqs://{REGION}/{queue}?endpoint_url={self.endpoint_url}"

    @contextlib.contextmanager
    def client(self) -> Iterator[Any]:
        """AWS's own client."""
        client = boto3.client("sqs", region_name=REGION, endpoint_url=self.endpoint_url)
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def moto_server(directory: Path, *, checks_keys: bool = False, host: str = "127.0.0.1") -> Iterator[Moto]:
    """A server that runs until the end of the block."""
    server = Moto(directory, checks_keys=checks_keys, host=host)
    try:
        server.start()
        yield server
    finally:
        server.stop()
