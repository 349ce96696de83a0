"""A real redis-server for tests, and what is asked of it there."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.integration.queues.brokers import Broker, program, running
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DATABASES = 1000  # each test has one of its own


@dataclass(frozen=True)
class RedisDatabase:
    """A database of a Redis server that no other test uses."""

    port: int
    number: int

    @property
    def address(self) -> str:
        """``host:port/number``, for a URL."""
        return f"127.0.0.1:{self.port}/{self.number}"

    @property
    def url(self) -> str:
        """As Redis libraries want it."""
        return f"redis://{self.address}"


@contextlib.contextmanager
def redis_server(directory: Path, *settings: str, port: int | None = None) -> Iterator[Broker]:
    """A redis-server in ``directory`` with further ``settings`` (``"--name", "value", …``).

    It keeps what it holds when it is ended (its file is in the directory) for a next one with the same arguments.
    """
    port = port or free_port()
    command = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port)]
    command += ["--databases", str(DATABASES), "--dir", str(directory), "--save", "3600 1", *settings]
    with running(command, port=port, directory=directory, ready=lambda: answers(port)) as broker:
        yield broker


def answers(port: int) -> bool:
    """Whether a Redis accepts connections and has loaded its data (or asks for a password)."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return not connection.recv(100).startswith(b"-LOADING")
    return False
