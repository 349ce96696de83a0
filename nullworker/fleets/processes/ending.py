"""Ends instances: sends SIGTERM to all processes of each, SIGKILL to those that remain, and waits until none is left.

All endings of a fleet share one scan of the kernel's table of processes, so that ending a thousand instances at once
costs hardly more than ending one.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError
from nullworker.fleets.processes import proc
from nullworker.wire import tasks
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from nullworker.fleets.processes.proc import Belongings, Process

#: How often the table is scanned while something is ending: often at first, for most processes end at once on SIGTERM.
SCAN_SHORTEST_S = 0.005
SCAN_LONGEST_S = 0.1
#: How long after SIGKILL a process may still be there (writing back what it held, waiting for a device).
KILL_PATIENCE_S = 10.0


@dataclass(slots=True)
class _Ending:
    belongings: Belongings
    began_at: float
    done: asyncio.Future[None]
    asked: set[Process] = field(default_factory=set)
    remaining: set[Process] | None = None  # None: not scanned for yet
    trouble: str = ""


class Endings:
    """The endings under way of one fleet."""

    def __init__(self, executor: Executor, grace_s: float) -> None:
        self._executor = executor
        self._grace_s = grace_s
        self._under_way: dict[str, _Ending] = {}
        self._scan_requested = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def end(self, belongings: Belongings, *, name: str) -> None:
        """Returns when no process of the instance is alive.

        Args:
            belongings: what identifies its processes.
            name: of the instance, for the message.

        Raises:
            FleetError: some are, and cannot be ended.
        """
        loop = asyncio.get_running_loop()
        ending = _Ending(belongings, loop.time(), loop.create_future())
        self._under_way[belongings.directory] = ending
        self.scan_now()
        if self._task is None or self._task.done():
            self._task = tasks.watch(self._run(), "Ending processes", self._give_up)
        try:
            await ending.done
        finally:
            del self._under_way[belongings.directory]
        if ending.remaining == set():
            return
        numbers = ", ".join(str(pid) for pid in sorted(process.pid for process in ending.remaining or ()))
        what = f"process {numbers} survived SIGKILL" if numbers else "its processes could not be listed"
        why = f" ({ending.trouble})" if ending.trouble else ""
        raise FleetError(f"{name} did not end: {what}{why}; end it by hand.", definite=False)

    def hurry(self, grace_s: float) -> None:
        """From now on processes have ``grace_s`` seconds to end by themselves, if that is less than before."""
        self._grace_s = min(self._grace_s, grace_s)
        self.scan_now()

    def scan_now(self) -> None:
        """Scans at once: something has ended."""
        self._scan_requested.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        interval_s = SCAN_SHORTEST_S
        while self._under_way:
            self._scan_requested.clear()
            endings = list(self._under_way.values())
            try:
                await loop.run_in_executor(self._executor, self._scan, endings, loop.time())
            except OSError as error:  # too many open files, perhaps: scan again, until the time is up
                for ending in endings:
                    ending.trouble = error.strerror or str(error)
            self._settle(loop.time())
            await asyncio.sleep(0)  # lets calls of end() that are done remove their entries
            if self._scan_requested.is_set():
                interval_s = SCAN_SHORTEST_S
            with contextlib.suppress(asyncio.TimeoutError):
                await within(self._scan_requested.wait(), interval_s)
            interval_s = min(SCAN_LONGEST_S, interval_s * 1.5)

    def _give_up(self, sentence: str) -> None:
        for ending in self._under_way.values():
            if not ending.done.done():
                ending.done.set_exception(FleetError(sentence, definite=False))

    def _scan(self, endings: list[_Ending], now: float) -> None:
        """One scan of the table, in a thread: records what remains of each, and sends the signals that are due."""
        found = proc.find([ending.belongings for ending in endings], thorough=False)
        nearly_done = [ending for ending in endings if not found[ending.belongings.directory]]
        if nearly_done:  # their sessions are empty, but a process may have left its session
            found |= proc.find([ending.belongings for ending in nearly_done], thorough=True)
        for ending in endings:
            # A process that is exiting has no environment any more, and is not found by it: each one that was sent a
            # signal is waited for by its number.
            asked = {process for process in ending.asked if proc.is_alive(process)}
            ending.remaining = found[ending.belongings.directory] | asked
            kill = now >= ending.began_at + self._grace_s
            for process in ending.remaining:
                if kill or process not in ending.asked:
                    ending.asked.add(process)
                    try:
                        proc.send_signal(process, signal.SIGKILL if kill else signal.SIGTERM)
                    except OSError as error:
                        ending.trouble = error.strerror or str(error)

    def _settle(self, now: float) -> None:
        for ending in self._under_way.values():
            given_up = now >= ending.began_at + self._grace_s + KILL_PATIENCE_S
            if not ending.done.done() and (given_up or ending.remaining == set()):
                ending.done.set_result(None)
