"""The supervisor process: runs one command, and makes sure that none of its processes outlives the reservation.

It is started by its path, as a program of its own, on Linux:

    python -I -S supervisor_main.py REPORT CGROUP

It enters the cgroup CGROUP (a directory; "" for none), which it makes if it may. Then it waits for a line of JSON on
standard input (`main` lists its keys), and exits if none comes. The command gets a process group of its own, in the
worker's session. Single bytes on standard input then control it:

- ``t`` (terminate): SIGTERM to the command; once it has ended, SIGTERM to what is left of it; SIGKILL to all of it
  after the grace period. The end of standard input, which means that the worker has ended, does the same.
- ``a`` (ask): SIGTERM to the command, without a time limit.
- ``k`` (kill): SIGKILL to all of it now.

SIGTERM goes to the command alone at first, because many programs (Celery's workers among them) finish the current job
in a child process, and lose it if that child gets the signal too.

What a command that has ended leaves in its process group is ended at once. What has left that group is taken for a
daemonised job if the command ended with 0, and is waited for; if it ended with another code, it is ended too.

The supervisor exits when nothing of the command is alive (`command_processes` says how that is found), or when
something has survived SIGKILL. Its exit code is the command's: 128 + the number of the signal that ended it, or 127 if
it did not start. At the end it writes to the file descriptor REPORT a line of JSON (what survived, and whether another
supervisor was in the way), and the last bytes that the command wrote to standard error.

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
import threading
import time
from typing import TYPE_CHECKING

if __name__ == "__main__":  # in isolated mode, where no path leads to this package
    sys.path.append(os.path.abspath(f"{__file__}/../../.."))  # noqa: PTH100 - pathlib is not loaded
from nullworker.worker.command_processes import Cgroup, Process, Processes, ended, send, send_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

TERMINATE = b"t"
ASK = b"a"
KILL = b"k"
NOT_STARTED = 127
STDERR_TAIL_BYTES = (
    2000  # with the report less than a pipe holds, so that it can be read after the supervisor has ended
)
#: How long after SIGKILL a process may still be there (writing back what it held, waiting for a device).
KILL_PATIENCE_S = 2.0
#: How long the last output may take to be passed on.
PASS_ON_S = 0.5
_NAMED_MAX = 5  # processes in a sentence
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_MIN_S = 0.01
_POLL_MAX_S = 0.1  # while processes are ending
_POLL_WAITING_S = 1.0  # while a daemonised job is waited for; the kernel tells the end of most at once


def main(report: int, cgroup: Cgroup) -> int:
    """Waits for the order and carries it out; returns the exit code.

    Args:
        report: the file descriptor that the report is written to.
        cgroup: for the command.

    The order's keys: ``command`` (a list; None: only end what is left of an earlier one), ``env``, ``directory``,
    ``mark`` and ``place`` (as `Processes` takes them; ``place``: what was left behind by earlier
    commands is ended first), ``grace_s``, ``background_s`` (how long a daemonised job may go on; None: to its end),
    ``user`` (number, group and all groups of the user that it runs as; None: this one).
    """
    os.setpgid(0, 0)  # so that what is sent to the worker's group does not end the supervisor
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # Handlers, and not SIG_IGN, which the command would inherit; it does inherit what nohup has set.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _nothing)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what the command leaves behind becomes a child of this process
    wake_up = _wake_up_fd()
    worker = os.getppid()
    cgroup.enter()
    order, commands = _order()
    code = _carry_out(order, cgroup, wake_up, commands, report) if order else 0
    if os.getppid() != worker:  # which has ended, and removes nothing more
        cgroup.leave()
        cgroup.remove()
    return code


def _carry_out(order: Any, cgroup: Cgroup, wake_up: int, commands: bytes, report: int) -> int:
    code, facts, errors = 0, {"left": [], "is_busy": False}, _Errors()
    processes = Processes(order["mark"], cgroup)
    if order["place"] or order["command"] is None:
        facts = _clear(processes, order["place"], order["grace_s"])
    if not any(facts.values()) and order["command"] is not None:
        child = _start(order, errors)
        code = NOT_STARTED
        if child is not None:
            processes.group = child.pid
            run = Run(child.pid, processes, order["grace_s"], order["background_s"], errors.say)
            code = child.returncode = _watch(run, wake_up, commands)
            facts["left"] = run.survivors
    with contextlib.suppress(OSError):  # the worker has gone
        os.write(report, json.dumps(facts).encode() + b"\n" + errors.last())
    return code


def _order() -> tuple[Any, bytes]:
    """What is to be run, or None, and the bytes that have come after it."""
    line = b""
    while b"\n" not in line:
        chunk = os.read(0, 65_536)
        if not chunk:
            return None, b""
        line += chunk
    line, _, commands = line.partition(b"\n")
    return json.loads(line), commands


def _clear(processes: Processes, place: str, grace_s: float) -> dict[str, Any]:
    """Kills what earlier commands have left; returns what survived, as the report has it.

    What another supervisor sees to has its time to end.
    """
    give_up_at = time.monotonic() + grace_s + 2 * KILL_PATIENCE_S
    pause_s = _POLL_MIN_S
    while found := processes.living(place):
        orphans = [process for process in found if not process.is_supervised]
        refused = send_all(orphans, signal.SIGKILL)
        if time.monotonic() >= give_up_at:
            return {"left": _in_words(orphans, refused), "is_busy": len(orphans) < len(found)}
        time.sleep(pause_s)
        pause_s = min(_POLL_MAX_S, pause_s * 1.5)
    return {"left": [], "is_busy": False}


def _start(order: Any, errors: _Errors) -> subprocess.Popen[bytes] | None:
    def prepare() -> None:
        os.setpgid(0, 0)
        if order.get("user"):
            _become(*order["user"])
        # Should the supervisor itself be killed. A change of the user takes this back, so it comes after that.
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    if order.get("user"):
        os.fchown(errors.write_end, *order["user"][:2])  # so that the command may open /dev/stderr
    try:
        # This process has no threads yet, so that preexec_fn is safe.
        child = subprocess.Popen(
            order["command"],
            stdin=subprocess.DEVNULL,
            stderr=errors.write_end,
            cwd=order["directory"],
            env=order["env"],
            preexec_fn=prepare,  # noqa: PLW1509
        )
    except OSError as error:
        os.write(errors.write_end, f"{error.filename or order['command'][0]}: {error.strerror}.\n".encode())
        child = None
    errors.begin()
    return child


def _become(uid: int, gid: int, groups: list[int]) -> None:
    """Has this process be another user's for good."""
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def _watch(run: Run, wake_up: int, commands: bytes) -> int:
    """Returns the exit code when nothing is left of the command, or nothing that can be ended."""
    inputs = [0, wake_up]
    while True:
        is_over = False
        readable, _, _ = select.select(inputs, [], [], 0 if commands else run.pause_s)
        if wake_up in readable:
            os.read(wake_up, 4096)
        if 0 in readable:
            more = os.read(0, 4096)
            commands += more
            if not more:
                inputs.remove(0)
                is_over = True
        if run.step(commands, is_over=is_over):
            return run.code or 0
        commands = b""


class Run:
    """A command that runs, and what becomes of its processes.

    Args:
        child: the command's process.
        processes: find the others.
        grace_s: seconds between SIGTERM and SIGKILL.
        background_s: seconds that what has left the process group may go on, once the command has ended with 0; None:
            as long as it takes.
        say: writes a sentence to the worker's log.
    """

    def __init__(
        self, child: int, processes: Processes, grace_s: float, background_s: float | None, say: Callable[[str], None]
    ) -> None:
        self.code: int | None = None  # of the command, once it has ended
        self.pause_s: float | None = None  # until the next step, unless something happens
        self.survivors: list[str] = []
        self._child = child
        self._processes = processes
        self._grace_s = grace_s
        self._background_s = background_s
        self._say = say
        self._kill_at: float | None = None  # all of it, by an order or for the command's exit code
        self._ended_at = 0.0
        self._was_asked = False
        self._signalled: set[Process] = set()
        self._said_waiting = False
        self._was_empty = False

    def step(self, commands: bytes, *, is_over: bool) -> bool:
        """Does what is due; whether all is over.

        Args:
            commands: that have come since the last step.
            is_over: whether the worker has ended.
        """
        now = time.monotonic()
        if self.code is None:
            self._reap(now)
        if self._kill_at is None:
            self._obey(commands, is_over, now)
        if KILL in commands:
            self._kill_at = now
        if self.code is not None:
            return self._end_rest(now)
        if self._kill_at is not None and now >= self._kill_at:
            left = self._living()
            refused = send_all(left, signal.SIGKILL)
            if left and now >= self._kill_at + KILL_PATIENCE_S:
                self.survivors = _in_words(left, refused)
                return True
        self.pause_s = None if self._kill_at is None else self._longer(_POLL_MAX_S)
        return False

    def _obey(self, commands: bytes, is_over: bool, now: float) -> None:
        is_ordered = is_over or commands.replace(ASK, b"") != b""
        if self.code is None and (is_ordered or (ASK in commands and not self._was_asked)):
            send(self._child, signal.SIGTERM)
            self._was_asked = True
        if is_ordered:
            self._kill_at = now + self._grace_s

    def _reap(self, now: float) -> None:
        """Takes note of the command's end, and reaps what it has left behind.

        The command itself stays a zombie until all is over, so that its number, and its group's, is used for no other.
        """
        while (end := ended(os.P_ALL, 0)) is not None and end[0] != self._child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(end[0], os.WNOHANG)
        end = ended(os.P_PID, self._child)
        if end is not None:
            self.code, self._ended_at, self.pause_s = end[1], now, _POLL_MIN_S
            if self._kill_at is None and (self.code != 0 or self._was_asked):
                self._kill_at = now + self._grace_s

    def _end_rest(self, now: float) -> bool:
        """The command has ended: ends what is left of it, when it is time; whether nothing more is to be done."""
        for code in self._processes.reap(except_for=self._child, but_not=self._signalled):
            if self._kill_at is None:
                self.code, self._kill_at = code, now + self._grace_s  # of a daemonised job
        left = self._living()
        if not left:
            # Looked for twice, for a process may have been started, by one that then ended, during the first look.
            was_empty, self._was_empty, self.pause_s = self._was_empty, True, 0.0
            if was_empty:
                os.waitpid(self._child, 0)
            return was_empty
        self._was_empty = False
        if self._kill_at is None and self._background_s is not None and now >= self._ended_at + self._background_s:
            self._kill_at = now + self._grace_s
        daemons = [process for process in left if self._kill_at is None and process.group != self._child]
        ending = [process for process in left if process not in daemons]
        kill_at = self._ended_at + self._grace_s if self._kill_at is None else self._kill_at
        if now >= kill_at:
            refused = send_all(ending, signal.SIGKILL)
        else:  # once to each: many programs take a second SIGTERM as an order to abort
            refused = send_all([process for process in ending if process not in self._signalled], signal.SIGTERM)
        self._signalled.update(ending)
        if not daemons and now >= kill_at + KILL_PATIENCE_S:
            self.survivors = _in_words(ending, refused)
            return True
        self._say_waiting(daemons)
        self.pause_s = self._longer(_POLL_MAX_S if ending else _POLL_WAITING_S)
        return False

    def _say_waiting(self, daemons: list[Process]) -> None:
        if daemons and not self._said_waiting:
            self._said_waiting = True
            self._say(
                f"nullworker: the consumer has ended with exit code 0, and what it started in the background goes on:"
                f" {', '.join(_in_words(daemons))}. The worker stays held until that has ended (docs/consumer.md)."
            )

    def _living(self) -> list[Process]:
        """What is alive of the command, and not of one that another supervisor has begun for this reservation since."""
        return [process for process in self._processes.living() if not process.is_supervised]

    def _longer(self, longest_s: float) -> float:
        return min(longest_s, max(_POLL_MIN_S, (self.pause_s or 0.0) * 1.5))


class _Errors:
    """What the command writes to standard error: passed on at once, and the end of it remembered.

    It is passed on by a thread: the reader of our own standard error may stall, and the command is ended all the same.
    """

    def __init__(self) -> None:
        self._read, self.write_end = os.pipe()
        os.set_blocking(self._read, False)
        self._last = b""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._pass_on, daemon=True)

    def begin(self) -> None:
        """The command has its end of the pipe; from now on all is passed on."""
        os.close(self.write_end)
        self._thread.start()

    def say(self, sentence: str) -> None:
        """Writes a sentence of the supervisor's own, as soon as the reader takes it."""
        threading.Thread(target=_write, args=(sentence.encode(errors="replace") + b"\n",), daemon=True).start()

    def _pass_on(self) -> None:
        while select.select([self._read], [], [])[0]:
            chunk = self._take()
            if chunk == b"":
                return
            _write(chunk or b"")

    def _take(self) -> bytes | None:
        """What is there; None if nothing is, b"" if nothing more will come."""
        with self._lock:
            try:
                chunk = os.read(self._read, 65_536)
            except BlockingIOError:
                return None
            self._last = (self._last + chunk)[-STDERR_TAIL_BYTES:]
            return chunk

    def last(self) -> bytes:
        """The last of it, when the command has ended."""
        if self._thread.ident is not None:
            self._thread.join(PASS_ON_S)
            while self._take():  # what the reader of our standard error has left no room for
                pass
        return self._last


def _write(text: bytes) -> None:
    with contextlib.suppress(OSError):  # the reader has gone
        while text:
            text = text[os.write(2, text) :]


def _in_words(processes: list[Process], refused: dict[Process, str] | None = None) -> list[str]:
    refused = refused or {}
    return [process.described(refused.get(process, "")) for process in processes[:_NAMED_MAX]]


def _prctl(option: int, value: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value)


def _wake_up_fd() -> int:
    """A file descriptor that becomes readable when a signal arrives, the child's end among them."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    signal.signal(signal.SIGCHLD, _nothing)
    return read_end


def _nothing(*_signal: object) -> None:
    """Does nothing: a signal that has a handler interrupts the wait."""


if __name__ == "__main__":
    os._exit(main(int(sys.argv[1]), Cgroup(sys.argv[2])))  # a thread may be in a write that never returns
