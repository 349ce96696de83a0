"""The user that consumers run as, where that is not the worker's own: found by name, and whether that can be done.

A consumer runs what a client asks for. As another user it can read neither the engine's keys nor its worker's token,
and can send no signal to either.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import NamedTuple

RUN_AS_VARIABLE = "NULL_RUN_AS"
#: What a process must be allowed to become another user, end that user's processes and read their environment: by the
#: last, what a consumer leaves behind is found. Root has them, in a container often all but the last.
_NEEDED = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SYS_PTRACE": 19}
_STATUS = Path("/proc/self/status")


class RunAsError(ValueError):
    """Consumers cannot run as that user; the message is one sentence."""


class RunAs(NamedTuple):
    """A user of this machine."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of a program of that user says of it."""
        return {"HOME": self.home, "USER": self.name, "LOGNAME": self.name}


def find(name: str) -> RunAs:
    """The user called ``name``.

    Raises:
        RunAsError: there is none, it is root, or this process may not run programs as another user.
    """
    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        raise RunAsError(f"there is no user {name!r} on this machine") from None
    if entry.pw_uid == 0:
        raise RunAsError(f"{name!r} is root, who may do everything; name another user")
    missing = missing_capabilities()
    if missing:
        raise RunAsError(f"this takes root with {', '.join(missing)}, which this process has not")
    groups = os.getgrouplist(name, entry.pw_gid)
    return RunAs(name, entry.pw_uid, entry.pw_gid, tuple(groups), entry.pw_dir)


def missing_capabilities() -> list[str]:
    """What this process may not do, of what it takes to run programs as another user."""
    try:
        lines = _STATUS.read_text().splitlines()
        held = int(next(line.split()[1] for line in lines if line.startswith("CapEff:")), 16)
    except (OSError, StopIteration, ValueError):
        held = 0
    return [name for name, bit in _NEEDED.items() if not held >> bit & 1]
