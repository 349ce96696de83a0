"""Whose port of this machine it is: a callback must reach no worker, no consumer, and nothing that these have started.

Workers and consumers are recognised by the variables that their worker's environment has, and what they have started by
being their descendants. Only processes of this user can be looked at; for others, and where there is no ``/proc``, what
answers there protects itself: control ports and engines refuse callbacks (`nullworker.wire.headers.CALLBACK`).
"""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
_LISTENING = "0A"
#: A worker and its consumer have these two in their environment; a consumer has the third as well.
_OF_A_WORKER = (b"\0CONTAINER_ID=", b"\0REPORT_ADDR=")
_OF_A_CONSUMER = b"\0NULL_CONTROL_URL="


def is_own_address(address: str) -> bool:
    """Whether the IP address is one of this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def belongs_to_a_worker(port: int) -> bool:
    """Whether a worker, a consumer or a descendant of one listens on ``port``. It reads all of ``/proc``: some ms."""
    sockets = set(_listening_sockets(port))
    if not sockets:
        return False
    parents, marked = _processes()
    return any(_listens(pid, sockets) for pid in parents if _has_ancestor(pid, parents, marked))


def _listening_sockets(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"


def _processes() -> tuple[dict[int, int], set[int]]:
    """The parent of every process, and those that a worker's environment marks."""
    parents: dict[int, int] = {}
    marked: set[int] = set()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[pid] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            environment = b"\0" + (entry / "environ").read_bytes()
            if all(name in environment for name in _OF_A_WORKER) or _OF_A_CONSUMER in environment:
                marked.add(pid)
    return parents, marked


def _has_ancestor(pid: int, parents: dict[int, int], marked: set[int]) -> bool:
    """Whether the process, or one above it, is marked."""
    seen: set[int] = set()
    while pid in parents and pid not in seen:
        if pid in marked:
            return True
        seen.add(pid)
        pid = parents[pid]
    return False


def _listens(pid: int, sockets: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in (_PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in sockets:
                    return True
    return False
