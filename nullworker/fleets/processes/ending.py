"""Ends instances: asks all processes of each to end, ends those that do not in time, and knows when the last has gone.

All endings of a fleet share one look at the kernel's table of processes, so that ending a thousand instances at once
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

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from nullworker.fleets.processes.proc import Belongings, Process

#: How often the table is looked at while something is ending: often at first, for a process that minds ends at once.
LOOK_SHORTEST_S = 0.005
LOOK_LONGEST_S = 0.1
#: How long after SIGKILL a process may still be there (writing back what it held, waiting for a device).
KILL_PATIENCE_S = 10.0


@dataclass(slots=True)
class _Ending:
    belongings: Belongings
    began_at: float
    done: asyncio.Future[None]
    asked: set[Process] = field(default_factory=set)
    remaining: set[Process] | None = None  # None: not looked for yet
    trouble: str = ""


class Endings:
    """The endings under way of one fleet."""

    def __init__(self, executor: Executor, grace_s: float) -> None:
        self._executor = executor
        self._grace_s = grace_s
        self._under_way: dict[str, _Ending] = {}
        self._look_now = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def end(self, belongings: Belongings, *, name: str) -> None:
        """Returns when no process of the instance is alive.

        Raises:
            FleetError: some are, and cannot be ended; ``name`` names the instance in the message.
        """
        loop = asyncio.get_running_loop()
        ending = _Ending(belongings, loop.time(), loop.create_future())
        self._under_way[belongings.directory] = ending
        self.look_now()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        try:
            await ending.done
        finally:
            del self._under_way[belongings.directory]
        if ending.remaining == set():
            return
        numbers = ", ".join(str(pid) for pid in sorted(process.pid for process in ending.remaining or ()))
        what = f"process {numbers} survived SIGKILL" if numbers else "its processes could not be looked for"
        why = f" ({ending.trouble})" if ending.trouble else ""
        raise FleetError(f"{name} did not end: {what}{why}; end it by hand.", definite=False)

    def hurry(self, grace_s: float) -> None:
        """From now on processes have ``grace_s`` seconds to end by themselves, if that is less than before."""
        self._grace_s = min(self._grace_s, grace_s)
        self.look_now()

    def look_now(self) -> None:
        """Something has ended: look at once, and not only when it is time."""
        self._look_now.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        interval_s = LOOK_SHORTEST_S
        while self._under_way:
            self._look_now.clear()
            endings = list(self._under_way.values())
            try:
                await loop.run_in_executor(self._executor, self._look, endings, loop.time())
            except OSError as error:  # too many open files, perhaps: look again, until patience ends
                for ending in endings:
                    ending.trouble = error.strerror or str(error)
            self._settle(loop.time())
            await asyncio.sleep(0)  # those that are done take themselves out
            if self._look_now.is_set():
                interval_s = LOOK_SHORTEST_S
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), interval_s)
            interval_s = min(LOOK_LONGEST_S, interval_s * 1.5)

    def _look(self, endings: list[_Ending], now: float) -> None:
        """One look at the table, in a thread: notes what remains of each, and sends what is due."""
        found = proc.find([ending.belongings for ending in endings], thorough=False)
        nearly_done = [ending for ending in endings if not found[ending.belongings.directory]]
        if nearly_done:  # their sessions are empty: has anything left them before?
            found |= proc.find([ending.belongings for ending in nearly_done], thorough=True)
        for ending in endings:
            # One that is on its way out has no environment any more, and is not found by it: whoever was asked is
            # waited for by name.
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
