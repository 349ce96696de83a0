"""Which processes belong to a command that a supervisor runs, wherever they have gone; for `supervisor_main` alone.

They are found by everything that Linux has for that, because each way alone misses some:

- by descent: the supervisor is a *subreaper*, so that what daemonises becomes its child, and not init's;
- by the command's process group, and by every session that one of its processes has begun;
- by its cgroup, where the supervisor may make one: the only trace of what has an empty environment and has lost its
  supervisor;
- by the variable NULL_SESSION_ID, which each has from its start: the only trace of what another program (a container's
  engine, say) started for the command.

It uses little of the standard library, as `supervisor_main` does.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CGROUP_KIND = "cgroup2"
_SUPERVISOR = b"supervisor_main.py"


class Process:
    """A line of the kernel's table. Two are equal if they are of the same process, even if its number is used again."""

    __slots__ = ("group", "is_alive", "is_supervised", "parent", "pid", "session", "start_ticks")

    def __init__(self, pid: int, line: str) -> None:
        """``line``: of /proc/PID/stat."""
        # After the name in brackets, which may hold anything: as proc(5) counts them, from three.
        fields = line.rpartition(")")[2].split()
        self.pid = pid
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.start_ticks = int(fields[19])
        # One that has ended, and that its parent has not reaped, is not alive; unless threads of it go on.
        self.is_alive = fields[0] not in "ZX" or int(fields[17]) > 1
        self.is_supervised = False  # by another supervisor, which does not descend from this process

    def __hash__(self) -> int:
        return hash((self.pid, self.start_ticks))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Process) and (other.pid, other.start_ticks) == (self.pid, self.start_ticks)

    def described(self, why: str = "") -> str:
        """The process in words.

        Args:
            why: it could not be ended; "" if that is not known.
        """
        name = read(f"/proc/{self.pid}/comm").decode(errors="replace").strip()
        about = ": ".join(word for word in (name, why) if word)
        return f"process {self.pid} ({about})" if about else f"process {self.pid}"


class Processes:
    """Finds all processes of one command.

    Args:
        mark: an entry of the environment that each of them was started with; "" for none.
        cgroup: of the command.
    """

    def __init__(self, mark: str, cgroup: Cgroup) -> None:
        self.group = 0  # the command's; none yet
        self._mark = mark.encode()
        self._cgroup = cgroup

    def living(self, place: str = "") -> list[Process]:
        """Those that are alive.

        Args:
            place: another mark, which counts only where the process sees this one's network: it has a port in it.
        """
        table = _table()
        own = os.getpid()
        above = {own, *_ancestors(own, table)}
        children: dict[int, list[int]] = {}
        for process in table.values():
            children.setdefault(process.parent, []).append(process.pid)
        found = _descendants([own], children)
        found.update(pid for pid, process in table.items() if self.group and process.group == self.group)
        found.update(pid for pid in self._cgroup.pids() if pid in table)
        others = [pid for pid in table if pid not in found and pid not in above]
        found.update(pid for pid in others if self._is_marked(pid, place.encode()))
        found -= above
        found.update(pid for pid, process in table.items() if process.session in found)
        found = (found | _descendants(found, children)) - above
        return [_noted(table[pid], table) for pid in found if table[pid].is_alive]

    def reap(self, *, except_for: int, but_not: set[Process]) -> list[int]:
        """Reaps the children that have ended.

        Args:
            except_for: stays a zombie.
            but_not: these were told to end, and their exit codes mean nothing.

        Returns:
            The exit codes, other than 0, of those that were outside the command's group.
        """
        own = os.getpid()
        codes = []
        for process in _table().values():
            if process.parent != own or process.is_alive or process.pid == except_for:
                continue
            end = ended(os.P_PID, process.pid)
            if end is None:
                continue
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
            if process.group != self.group and process not in but_not and end[1] != 0:
                codes.append(end[1])
        return codes

    def _is_marked(self, pid: int, place: bytes) -> bool:
        entries = read(f"/proc/{pid}/environ").split(b"\0")
        if self._mark and self._mark in entries:
            return True
        return bool(place) and place in entries and _network(str(pid)) == _network("self")


class Cgroup:
    """A cgroup of version 2 for one command, where this process may make one.

    Moving a process into one takes the kernel ten milliseconds. So the supervisor is moved, while it has no command
    yet, and its command is in it from its first instruction.

    Args:
        path: its directory; "" for none.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def named(cls, name: str) -> Cgroup:
        """The one of that name below this process's own; none where there are none of version 2."""
        parent = _own_cgroup()
        return cls(f"{parent}/{name}" if parent else "")

    def enter(self) -> None:
        """Moves this very process into it, and makes it if need be; where that is not allowed, there is none."""
        try:
            if self.path:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.path)  # noqa: PTH102 - pathlib is not loaded
                _move_into(self.path)
        except OSError:
            self.remove()
            self.path = ""

    def leave(self) -> None:
        """Moves this very process back to where it was, so that the cgroup can be removed."""
        with contextlib.suppress(OSError):
            if self.path:
                _move_into(os.path.dirname(self.path))  # noqa: PTH120

    def pids(self) -> Iterator[int]:
        """What is in it, and in those that were made in it."""
        for folder, _, _ in os.walk(self.path) if self.path else ():
            yield from (int(word) for word in read(f"{folder}/cgroup.procs").split())

    def remove(self) -> None:
        """Removes it, if it is empty."""
        for folder, _, _ in os.walk(self.path, topdown=False) if self.path else ():
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106


def send_all(processes: Iterable[Process], number: int) -> dict[Process, str]:
    """Sends a signal to each; returns those that refused it, and why."""
    refused = {}
    for process in processes:
        why = send(process.pid, number)
        if why:
            refused[process] = why
    return refused


def send(pid: int, number: int) -> str:
    """Sends a signal; returns why that was refused, "" otherwise. A process that has ended is no refusal."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
    return ""


def ended(kind: int, pid: int) -> tuple[int, int] | None:
    """The number and the exit code of a child that has ended, which stays a zombie; None if there is none."""
    try:
        status = os.waitid(kind, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if status is None:
        return None
    return status.si_pid, status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status


def read(path: str) -> bytes:
    """What is in a file of the kernel's; b"" if that may not be read, or is gone."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""


def _move_into(folder: str) -> None:
    with open(f"{folder}/cgroup.procs", "w") as file:  # noqa: PTH123
        file.write("0")


def _own_cgroup() -> str:
    """The directory of this process's cgroup; "" where there is none of version 2."""
    lines = read("/proc/self/cgroup").decode(errors="replace").splitlines()
    path = next((line[3:] for line in lines if line.startswith("0::")), "")
    for mount in read("/proc/self/mountinfo").decode(errors="replace").splitlines():
        fields = mount.split()
        root, place = fields[3].rstrip("/"), fields[4]
        if f" - {_CGROUP_KIND} " in mount and f"{path}/".startswith(f"{root}/"):
            return place + path[len(root) :].rstrip("/")
    return ""


def _table() -> dict[int, Process]:
    """All processes that can be seen, by number."""
    table = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names, and many
        if name.isdigit():
            line = read(f"/proc/{name}/stat").decode(errors="replace")
            if line:
                table[int(name)] = Process(int(name), line)
    return table


def _ancestors(pid: int, table: dict[int, Process]) -> Iterator[int]:
    seen = {pid}
    while (process := table.get(pid)) is not None and process.parent and process.parent not in seen:
        pid = process.parent
        seen.add(pid)
        yield pid


def _descendants(of: Iterable[int], children: dict[int, list[int]]) -> set[int]:
    found: set[int] = set()
    waiting = list(of)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found:
                found.add(pid)
                waiting.append(pid)
    return found


def _noted(process: Process, table: dict[int, Process]) -> Process:
    """``process``, with the note whether another supervisor sees to it."""
    above = list(_ancestors(process.pid, table))
    if os.getpid() not in above:
        process.is_supervised = any(_SUPERVISOR in read(f"/proc/{pid}/cmdline") for pid in above)
    return process


def _network(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")  # noqa: PTH115
    except OSError:
        return f"of {pid}"
