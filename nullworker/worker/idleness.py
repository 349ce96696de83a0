"""Whether a command is idle, as far as that can be seen from outside; on Linux alone.

It is idle when for so long: it has printed nothing that may be of a job, no process of its tree has started or ended,
all of them together have used next to no processor time, no heartbeat has come from it, and no GPU of the machine is in
use. Anything that cannot be seen counts as work. What waits for the network, or for another machine, looks idle all the
same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.wire import tasks
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

log = logging.getLogger(__name__)

#: "Next to no processor time": this part of the time that has passed.
CPU_SHARE = 0.01
#: So many looks in the time after which something is idle, but not more often than every `LOOK_MIN_S`.
LOOKS = 20
LOOK_MIN_S = 0.1
LOOK_MAX_S = 5.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_GPU_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Tree:
    """The processes of a command at one moment: their identity (number and start), and what they have used so far."""

    processes: frozenset[tuple[int, int]]
    cpu_s: float


def look_s(idle_s: float) -> float:
    """How far apart two looks are."""
    return min(LOOK_MAX_S, max(LOOK_MIN_S, idle_s / LOOKS))


class Idleness:
    """Fed with looks at a command; says since when it has had nothing to do."""

    def __init__(self, idle_s: float, now_s: float) -> None:
        self._idle_s = idle_s
        self._since_s = now_s
        self._tree: Tree | None = None
        self._signs: object = None

    def add(self, tree: Tree | None, signs: object, now_s: float) -> bool:
        """Whether the command is idle.

        Args:
            tree: its processes; None: they cannot be seen.
            signs: other signs of work, compared with those of the look before; None: they cannot be read.
            now_s: the time, in seconds of a monotonic clock.
        """
        first = self._tree  # as it was when it last did something
        if (
            tree is not None
            and first is not None
            and signs is not None
            and signs == self._signs
            and tree.processes == first.processes
            and tree.cpu_s - first.cpu_s <= CPU_SHARE * self._idle_s
        ):
            return now_s - self._since_s >= self._idle_s
        self._since_s, self._tree, self._signs = now_s, tree, signs
        return False


def tree_of(guard_pid: int, session_id: str) -> Tree | None:
    """The processes that ``guard_pid`` has started, and theirs; also those that have left it, by their environment."""
    mark = f"NULL_SESSION_ID={session_id}".encode()
    parents: dict[int, int] = {}
    facts: dict[int, tuple[int, float]] = {}
    marked = set()
    try:
        numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - names, and many
    except OSError:
        return None
    for number in numbers:
        with contextlib.suppress(OSError, ValueError, IndexError):
            # After the name in brackets, which may hold anything: state, parent, … as proc(5) counts them from three.
            fields = Path(f"/proc/{number}/stat").read_text(errors="replace").rpartition(")")[2].split()
            parents[number] = int(fields[1])
            used = sum(int(ticks) for ticks in fields[11:15])  # its own, and that of children that have ended
            facts[number] = int(fields[19]), used / _TICKS_PER_S
            if mark in Path(f"/proc/{number}/environ").read_bytes():
                marked.add(number)
    if guard_pid not in parents:
        return None
    # This program may itself be a consumer of the same reservation; its own work is no sign of the command's.
    marked.discard(os.getpid())
    found = {number for number in parents if number in marked or _descends(number, guard_pid, parents)}
    found.discard(guard_pid)  # it may have the mark, too
    return Tree(frozenset((number, facts[number][0]) for number in found), sum(facts[number][1] for number in found))


def _descends(number: int, ancestor: int, parents: dict[int, int]) -> bool:
    for _ in range(len(parents)):
        parent = parents.get(number)
        if parent is None or parent == 0:
            return False
        if parent == ancestor:
            return True
        number = parent
    return False


#: Lines that queue libraries print without a job: that other workers come and go (Celery's gossip), and that they have
#: looked for jobs of dead workers (RQ).
CHATTER = (
    re.compile(rb"(?:^|\s)(?:sync with|missed heartbeat from) \S+@\S+\s*$"),
    re.compile(rb"(?:^|\s)mingle: (?:searching for neighbors|sync with \d+ nodes|sync complete|all alone)\s*$"),
    re.compile(rb"Cleaning registries for queue: "),
)


class Output:
    """A pipe for what a command prints: passed on at once, and noticed. By threads, for our own output may block."""

    def __init__(self, to: int, ignored: Sequence[re.Pattern[bytes]] = ()) -> None:
        """Begins to pass on.

        Args:
            to: the descriptor that it is passed on to.
            ignored: lines in which one of these is found are no sign of work, nor is `CHATTER`.
        """
        self.count = 0
        self._ignored = (*CHATTER, *ignored)
        self._is_inside = False  # of a line, which was counted when it began
        self._read, self.write_end = os.pipe()
        self._to = to
        # A daemon thread: a process that still holds the pipe must not keep this program from ending.
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def _pass_on(self) -> None:
        while chunk := os.read(self._read, 65_536):
            self._notice(chunk)
            with contextlib.suppress(OSError):  # the reader has gone
                view = memoryview(chunk)
                while view:
                    view = view[os.write(self._to, view) :]
        os.close(self._read)

    def _notice(self, chunk: bytes) -> None:
        """Counts the lines that may be of a job; one that is not at its end yet is of one."""
        *lines, last = chunk.split(b"\n")
        for line in lines:
            if self._is_inside or not any(pattern.search(line) for pattern in self._ignored):
                self.count += 1
            self._is_inside = False
        if last:
            self._is_inside = True
            self.count += 1

    def started(self) -> None:
        """The command has the pipe; ours is not needed any more."""
        os.close(self.write_end)

    async def finish(self, timeout_s: float) -> None:
        """Waits for the last of it."""
        await asyncio.to_thread(self._thread.join, timeout_s)


async def gpu_in_use() -> bool:
    """Whether a GPU of this machine is computing; True if the driver's tool is installed and fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        process = await asyncio.create_subprocess_exec(
            *(tool, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return True
    try:
        output, _ = await within(process.communicate(), _GPU_TIMEOUT_S)
    except asyncio.TimeoutError:
        process.kill()
        await process.wait()
        return True
    shares = output.decode(errors="replace").split()
    return process.returncode != 0 or any(share != "0" for share in shares)


class IdleWatch:
    """Asks a command that is idle to end: once, because many programs take a second SIGTERM as an order to abort.

    There is no time limit, because the command may have begun a job just now. A context manager, around the time in
    which the command runs.

    Args:
        idle_s: after so many seconds; None: never.
        look: gives the command's processes.
        signs: gives the other signs of work, as for `Idleness.add`.
        ask: asks the command to end.
    """

    def __init__(
        self,
        idle_s: float | None,
        look: Callable[[], Tree | None],
        signs: Callable[[], Awaitable[object]],
        ask: Callable[[], object],
    ) -> None:
        self.asked = False
        self._idle_s = idle_s
        self._look = look
        self._signs = signs
        self._ask = ask
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> IdleWatch:  # noqa: PYI034 - final
        if self._idle_s is not None:
            self._task = tasks.watch(self._watch(self._idle_s), "Watching for an idle command")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self, idle_s: float) -> None:
        idleness = Idleness(idle_s, time.monotonic())
        is_idle = False
        while not is_idle:
            await asyncio.sleep(look_s(idle_s))
            tree = await asyncio.to_thread(self._look)
            seen = await self._signs()
            is_idle = idleness.add(tree, None if seen is None or await gpu_in_use() else seen, time.monotonic())
        log.info("the command has done nothing for %g s: it is asked to end", idle_s)
        self.asked = True
        self._ask()
