"""The supervisor process: runs one command, and makes sure that none of its processes outlives the worker.

It is started by its path, as a program of its own:

    python -I -S supervisor_main.py STDERR_TAIL

It waits for a line of JSON on standard input ({"command": […], "grace_s": …, "env": {…}, "directory": …}), and exits if
none comes. The command gets a process group of its own, in the worker's session. Single bytes on standard input then
control it:

- ``t`` (terminate): SIGTERM to the command; once it has ended, SIGTERM to what is left of its group; SIGKILL to the
  whole group after the grace period. The end of standard input, which means that the worker has ended, does the same.
- ``a`` (ask): SIGTERM to the command, without a time limit.
- ``k`` (kill): SIGKILL to the group now.

SIGTERM goes to the command alone at first, because many programs (Celery's workers among them) finish the current job
in a child process, and lose it if that child gets the signal too.

The supervisor exits when the group has ended, with the command's exit code: 128 + the number of the signal that ended
it, or 127 if it did not start. Standard error of the command is passed on; its last bytes are written to the file
descriptor STDERR_TAIL at the end.

It uses the standard library alone, and little of it: there is one supervisor for each worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

TERMINATE = b"t"
ASK = b"a"
KILL = b"k"
NOT_STARTED = 127
_PR_SET_PDEATHSIG = 1
STDERR_TAIL_BYTES = 2000  # less than a pipe holds, so that it can be read after the supervisor has ended
_POLL_S = 0.02  # only while the group is ending


def main(stderr_tail: int) -> int:
    """Waits for the command and runs it; returns the exit code."""
    os.setpgid(0, 0)  # so that what is sent to the worker's group does not end the supervisor
    # Handlers, and not SIG_IGN, which the command would inherit.
    signal.signal(signal.SIGTERM, _nothing)
    signal.signal(signal.SIGINT, _nothing)
    child_ended = _wake_up_fd()
    order, commands = _order()
    if not order:
        return 0
    stderr, write_end = os.pipe()
    errors = _Errors(stderr)
    try:
        # This process has no threads, so that preexec_fn is safe.
        child = subprocess.Popen(
            order["command"],
            stdin=subprocess.DEVNULL,
            stderr=write_end,
            cwd=order["directory"],
            env=order["env"],
            preexec_fn=_own_group,  # noqa: PLW1509
        )
    except OSError as error:
        os.write(write_end, f"{error.filename or order['command'][0]}: {error.strerror}.\n".encode(errors="replace"))
        child = None
    os.close(write_end)
    try:
        return _watch(child, order["grace_s"], child_ended, errors, commands) if child else NOT_STARTED
    finally:
        with contextlib.suppress(OSError):  # the worker has gone
            os.write(stderr_tail, errors.last())


def _order() -> tuple[Any, bytes]:
    """What is to be run, or None, and the bytes that have come after it."""
    read = b""
    while b"\n" not in read:
        chunk = os.read(0, 65_536)
        if not chunk:
            return None, b""
        read += chunk
    line, _, commands = read.partition(b"\n")
    return json.loads(line), commands


def _watch(child: subprocess.Popen[bytes], grace_s: float, child_ended: int, errors: _Errors, commands: bytes) -> int:
    """Returns when nothing is left of the child's group, which it ends on command, or when the child has ended."""
    inputs = [0, child_ended]
    kill_at: float | None = None
    group_signalled = False
    while True:
        pause_s = 0 if commands else None if kill_at is None else _POLL_S
        readable, _, _ = select.select([*inputs, *errors.inputs], [], [], pause_s)
        is_over = False
        if child_ended in readable:
            os.read(child_ended, 4096)
        if errors.inputs and errors.inputs[0] in readable:
            errors.pass_on()
        if 0 in readable:
            more = os.read(0, 4096)
            commands += more
            if not more:
                inputs.remove(0)
                is_over = True
        code = child.poll()
        if commands == ASK and code is None:
            os.kill(child.pid, signal.SIGTERM)
            commands = b""
        if kill_at is None and (commands or is_over or code is not None):
            if code is None:
                os.kill(child.pid, signal.SIGTERM)
            kill_at = time.monotonic() + grace_s
        if code is not None:
            # Once alone: many programs take a second SIGTERM as an order to abort.
            if not _signal_group(child.pid, 0 if group_signalled else signal.SIGTERM):
                return code if code >= 0 else 128 - code
            group_signalled = True
        if kill_at is not None and (time.monotonic() >= kill_at or KILL in commands):
            _signal_group(child.pid, signal.SIGKILL)
        commands = b""


class _Errors:
    """What the command writes to standard error: passed on at once, and the end of it remembered."""

    def __init__(self, read_end: int) -> None:
        self.inputs = [read_end]
        self._last = b""

    def pass_on(self) -> None:
        """Reads what is there, of which there is something."""
        chunk = os.read(self.inputs[0], 65_536)
        if not chunk:
            self.inputs = []
        self._last = (self._last + chunk)[-STDERR_TAIL_BYTES:]
        with contextlib.suppress(OSError):  # the reader has gone
            while chunk:
                chunk = chunk[os.write(2, chunk) :]

    def last(self) -> bytes:
        """The last of it, when the command has ended."""
        for _ in range(2):  # all that a pipe holds; a process that has left the group may go on writing
            if self.inputs and select.select(self.inputs, [], [], 0)[0]:
                self.pass_on()
        return self._last


def _signal_group(group: int, number: int) -> bool:
    """Sends a signal to all of a process group; returns whether there was any process left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):  # the latter, on some systems, when all that is left are zombies
        return False
    return True


def _wake_up_fd() -> int:
    """A file descriptor that becomes readable when a signal arrives, the child's end among them."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, _nothing)
    return read_end


def _own_group() -> None:
    os.setpgid(0, 0)
    with contextlib.suppress(OSError, AttributeError):  # Linux alone has it: should the supervisor itself be killed
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _nothing(*_signal: object) -> None:
    """Does nothing: a signal that has a handler interrupts the wait."""


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
