"""A machine of its own for an episode: namespaces of processes, mounts and network, which end with it.

Whatever an episode starts, mounts and sets up is gone once its first process is, by the kernel, however that
ends. Without them (no root, no ``unshare``) episodes run all the same, and the kinds that need them are left out.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys

VARIABLE = "CHAOS_SANDBOX"
#: It ends with the program that runs it, too.
_UNSHARE = (
    "setpriv",
    "--pdeathsig",
    "KILL",
    "unshare",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "--net",
    "--",
)
#: Names in the folder of shared memory have process numbers in them, which two episodes may share.
_SETUP = 'ip link set lo up && mount -t tmpfs none /dev/shm && exec "$@"'


def why_not() -> str:
    """The reason why there are no namespaces here; empty where there are."""
    for program in ("setpriv", "unshare", "nsenter", "mount", "ip"):
        if not shutil.which(program):
            return f"there is no program {program}"
    tried = subprocess.run([*_inside(), "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else tried.stderr.strip().splitlines()[-1] or "unshare fails"


def command(arguments: list[str], *, sandboxed: bool) -> list[str]:
    """The command that runs ``arguments``, as the second process of its namespaces or without them."""
    return [*_inside(), sys.executable, "-m", "tools.chaos.sandbox", *arguments] if sandboxed else arguments


def _inside() -> list[str]:
    return [*_UNSHARE, "sh", "-c", _SETUP, "sh"]


def main(arguments: list[str]) -> int:
    """The first process of a namespace: starts one, and reaps what is left to it until that one has ended."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    child = subprocess.Popen(arguments, env={**os.environ, VARIABLE: "1"})
    while True:
        pid, status = os.wait()
        if pid == child.pid:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
