"""One dispatcher at a time serves a queue on a machine, whatever directory of state each was given.

Two would each reserve a worker for every job. A lock in a directory of state sees only those that share it; a name that
the kernel keeps (a Unix socket in the abstract namespace of Linux) is one for all and goes with its process.
Dispatchers on different machines are not kept apart, nor are those in containers that have a network of their own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import struct
import sys


class ClaimedError(Exception):
    """Another process of this user has the name; the argument is its process id."""


def claim(name: str) -> socket.socket | None:
    """Claims a name until what this returns is closed; None where the system has no such names.

    Raises:
        ClaimedError: another process of this user has it.
    """
    if not sys.platform.startswith("linux"):
        return None
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]
    address = f"\0nullworker-dispatch-{os.geteuid()}-{digest}"
    claimed = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claimed.bind(address)
        claimed.listen(1)
    except OSError as error:
        claimed.close()
        if error.errno != errno.EADDRINUSE:
            return None
        holder = _holder(address)
        if holder is None:
            return None  # another user's: no dispatcher of ours
        raise ClaimedError(holder) from None
    return claimed


def _holder(address: str) -> int | None:
    """The process that has the name, if it is this user's."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1.0)
        asking.connect(address)
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _ = struct.unpack("3i", credentials)
        return int(pid) if uid == os.geteuid() else None
    return None
