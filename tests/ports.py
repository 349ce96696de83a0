"""Ports for the servers that tests start."""

from __future__ import annotations

import atexit
import contextlib
import socket

#: Closed at the end, where an interpreter in development mode would name each of some hundred.
_held = contextlib.ExitStack()
atexit.register(_held.close)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that no other program on this machine is given for as long as this process runs.

    It is free on 127.0.0.1 or another loopback address, or on all addresses of the machine for a server that listens on
    them: ``host`` is "::".
    A connection of another program that was just closed keeps its port on one address, and others do not see that.
    It stays bound here and is never listened on: a server that sets SO_REUSEADDR, as servers do, can have it, and the
    kernel gives it to no program that asks for any.
    """
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host, 0))
    _held.enter_context(holder)
    return int(holder.getsockname()[1])
