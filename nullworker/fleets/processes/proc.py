"""The kernel's table of processes: which are alive, in which session, and with which instance in their environment.

A process is named by its number *and* the tick at which it started, so that a number used again is never mistaken for
the process before it. (The tick is the kernel's own; a start time in seconds would shift when the clock is set.) psutil
would not do: its public start time is such a time in seconds, and its ``send_signal`` checks the process and then calls
``kill``; in between the number may come to mean another process. Here a pidfd is opened first.

What belongs to an instance: every process in the session of its leader, and every process that inherited the variable
``NULLWORKER_INSTANCE`` with the instance's directory in it, should it have left the session.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

#: The variable that each worker, and whatever it starts, carries: the absolute path of the instance's directory.
INSTANCE_VARIABLE = "NULLWORKER_INSTANCE"
#: A process without an environment is taken to be still starting for so long after its birth.
STARTING_S_MAX = 2.0
_STARTING_LOOK_S = 0.001
_PROC = Path("/proc")
_KERNEL_THREAD_FLAG = 0x00200000  # PF_KTHREAD in the kernel's sched.h


@dataclass(frozen=True, slots=True)
class Process:
    """One process, for all time until the machine restarts."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Stat:
    """A line of the kernel's table. ``alive`` is False for a zombie: it has ended and awaits its parent."""

    process: Process
    session_id: int
    alive: bool
    is_kernel_thread: bool


@dataclass(frozen=True, slots=True)
class Belongings:
    """What to look for: the processes of one instance. ``leader`` is its session's first, where that is known."""

    directory: str
    leader: Process | None


def boot_id() -> str:
    """Identifies the machine's boot; process numbers and ticks are meaningful within one boot only."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat(pid: int) -> Stat | None:
    """The kernel's line for ``pid``; None when there is no such process."""
    try:
        line = (_PROC / str(pid) / "stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The second field is the command in parentheses and may itself hold parentheses and spaces.
    fields = line[line.rindex(b")") + 2 :].split()
    ended = fields[0] in b"ZX"
    threads = int(fields[17])  # a leader that has ended while threads of it go on is no zombie yet
    return Stat(
        Process(pid, int(fields[19])),
        int(fields[3]),
        alive=not ended or threads > 1,
        is_kernel_thread=bool(int(fields[6]) & _KERNEL_THREAD_FLAG),
    )


def is_alive(process: Process | None) -> bool:
    """Whether this very process runs."""
    if process is None:
        return False
    now = stat(process.pid)
    return now is not None and now.alive and now.process == process


def instance_of(pid: int) -> str | None:
    """The instance's directory in the environment that ``pid`` was started with; None when there is none to be read."""
    wanted = INSTANCE_VARIABLE.encode() + b"="
    for entry in _environment(pid).split(b"\0"):
        if entry.startswith(wanted):
            return os.fsdecode(entry[len(wanted) :])
    return None


def _environment(pid: int) -> bytes:
    """The environment of a process as the kernel gives it; empty when it cannot be read.

    A process that is just being started has no environment for an instant. That is waited out, for only the environment
    shows to which instance it belongs.
    """
    path = _PROC / str(pid) / "environ"
    try:
        while not (environment := path.read_bytes()):
            line = stat(pid)
            if line is None or not line.alive or line.is_kernel_thread or _age_s(line.process) > STARTING_S_MAX:
                break
            time.sleep(_STARTING_LOOK_S)
    except OSError:
        return b""
    return environment


def _age_s(process: Process) -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - process.start_ticks / os.sysconf("SC_CLK_TCK")


def pids() -> list[int]:
    """All process numbers that this user can see."""
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]  # noqa: PTH208 - a Path for each is slow


def marked_processes(parent_directory: str) -> dict[str, list[Stat]]:
    """All living processes whose instance lies in ``parent_directory``, by the instance's directory."""
    prefix = parent_directory.rstrip("/") + "/"
    found: dict[str, list[Stat]] = {}
    for pid in pids():
        directory = instance_of(pid)
        if directory is not None and directory.startswith(prefix):
            line = stat(pid)
            if line is not None and line.alive:
                found.setdefault(directory, []).append(line)
    return found


def find(wanted: Collection[Belongings], *, thorough: bool) -> dict[str, set[Process]]:
    """The living processes of each instance, by its directory; one look at the kernel's table for all of them.

    Args:
        wanted: the instances to look for.
        thorough: look also for processes that left the session (costs a look at every process's environment).
    """
    found: dict[str, set[Process]] = {belongings.directory: set() for belongings in wanted}
    members: dict[int, list[int]] = {belongings.leader.pid: [] for belongings in wanted if belongings.leader}
    own_pid = os.getpid()
    for pid in pids():
        if pid == own_pid:
            continue
        try:
            session_id = os.getsid(pid)
        except OSError:
            continue
        if session_id in members:
            members[session_id].append(pid)
        if thorough:
            directory = instance_of(pid)
            if directory in found:
                _add_if_alive(found[directory], pid)
    for belongings in wanted:
        if belongings.leader is not None and _still_means(belongings, members[belongings.leader.pid]):
            for pid in members[belongings.leader.pid]:
                _add_if_alive(found[belongings.directory], pid)
    return found


def _still_means(belongings: Belongings, in_session: list[int]) -> bool:
    """Whether the session with the leader's number is still the leader's: it or a process of its instance is a member.

    The kernel does not use a number again while a session of that number has members, so one such process is enough.
    """
    assert belongings.leader is not None
    now = stat(belongings.leader.pid)
    if now is not None:
        return now.process == belongings.leader
    return any(instance_of(pid) == belongings.directory for pid in in_session)


def _add_if_alive(processes: set[Process], pid: int) -> None:
    line = stat(pid)
    if line is not None and line.alive:
        processes.add(line.process)


def send_signal(process: Process, number: signal.Signals) -> None:
    """Sends a signal to this very process; nothing happens when it has ended.

    Raises:
        PermissionError: it runs as another user.
    """
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        line = stat(process.pid)
        if line is not None and line.process == process:
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)


def exit_status(leader: Process, *, reap: bool) -> str | None:
    """How a child of this process ended, in words; with ``reap`` its number becomes free.

    Returns None when it has not ended, or is not a child of this process: then the status cannot be known.
    """
    now = stat(leader.pid)
    if now is None or now.process != leader:
        return None
    try:
        status = os.waitid(os.P_PID, leader.pid, os.WEXITED | os.WNOHANG | (0 if reap else os.WNOWAIT))
    except ChildProcessError:
        return None
    if status is None:
        return None
    if status.si_code == os.CLD_EXITED:
        return f"exit code {status.si_status}"
    try:
        return f"killed by signal {status.si_status} ({signal.Signals(status.si_status).name})"
    except ValueError:  # real-time signals have no names
        return f"killed by signal {status.si_status}"
