"""Ports for the servers that tests start."""

from __future__ import annotations

import socket

_held: list[socket.socket] = []


def free_port() -> int:
    """A loopback port that no other program on this machine is given for as long as this process runs.

    It stays bound here and is never listened on: a server that sets SO_REUSEADDR, as servers do, can have it, and the
    kernel gives it to no program that asks for any.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    _held.append(holder)
    return int(holder.getsockname()[1])
