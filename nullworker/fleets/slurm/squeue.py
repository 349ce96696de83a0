"""Slurm's commands, and one view of its queue for all instances: asking for each would be a storm of calls."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError
from nullworker.wire import tasks
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A command of Slurm that has not answered for so long has failed.
COMMAND_S = 60.0
_FORMAT = "%i|%T|%r|%e|%j|%k"
_WAITS = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "SPECIAL_EXIT", "SUSPENDED"})
_ENDS = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED")
) | {"REVOKED", "TIMEOUT"}


#: What commands say whose question may have arrived, though no answer came (Slurm's own messages).
_UNANSWERED = re.compile(r"timed out|zero bytes|(send|receive) failure", re.IGNORECASE)


class SlurmError(FleetError):
    """A command of Slurm failed, and certainly did nothing."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job under the fleet's mark."""

    job_id: int
    state: str  # Slurm's word
    reason: str  # why it waits, or ended
    ends_at: float | None  # Unix time of its time limit, or of its end; None: there is none
    name: str

    @property
    def waits(self) -> bool:
        """Whether it has not begun."""
        return self.state in _WAITS

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self.state in _ENDS


@dataclass(frozen=True, slots=True)
class Jobs:
    """The fleet's jobs at one moment, by id."""

    asked_at: float  # of the event loop's clock, before Slurm was asked
    by_id: dict[int, Job]


class QueueView:
    """The jobs under one mark, as Slurm shows them."""

    def __init__(self, mark: str, period_s: float) -> None:
        self._mark = mark
        self._period_s = period_s
        self._view: Jobs | None = None
        self._asking: asyncio.Task[Jobs] | None = None

    @property
    def latest(self) -> Jobs | None:
        """The view that is there; None: there was none yet."""
        return self._view

    async def view(self) -> Jobs:
        """The present view: Slurm is asked if the latest is older than the period; one question serves all.

        Raises:
            FleetError: Slurm does not answer.
        """
        now = asyncio.get_running_loop().time()
        if self._view is not None and now - self._view.asked_at < self._period_s:
            return self._view
        if self._asking is None or self._asking.done():
            self._asking = tasks.start(self._ask(now))
        return await asyncio.shield(self._asking)

    async def next_view(self, after: float) -> Jobs:
        """A view that was asked for later than ``after``, a time of the event loop. Raises FleetError."""
        while True:
            view = await self.view()
            if view.asked_at > after:
                return view
            await asyncio.sleep(max(0.01, view.asked_at + self._period_s - asyncio.get_running_loop().time()))

    async def _ask(self, now: float) -> Jobs:
        out = await command(["squeue", "--noheader", "--all", "--states=all", f"--format={_FORMAT}"])
        jobs = {job.job_id: job for job in jobs_in(out, self._mark)}
        self._view = Jobs(now, jobs)
        return self._view


def jobs_in(text: str, mark: str) -> Iterable[Job]:
    """The jobs with the fleet's mark out of what squeue printed.

    Args:
        text: its output, in our format.
        mark: the fleet's.
    """
    for line in text.splitlines():
        parts = line.split("|", 5)
        if len(parts) == 6 and parts[5] == mark and parts[0].isdigit():
            yield Job(int(parts[0]), parts[1], parts[2], _time(parts[3]), parts[4])


def _time(text: str) -> float | None:
    try:
        return dt.datetime.fromisoformat(text).timestamp()  # Slurm prints the machine's own time, without a zone
    except ValueError:
        return None


def seconds_left(job: Job) -> float | None:
    """How long a running job has until Slurm ends it; None: it has no limit."""
    return None if job.ends_at is None else job.ends_at - time.time()  # noqa: TID251 - Slurm's times are of day


async def command(words: list[str], text: str = "") -> str:
    """Runs a command of Slurm; returns what it printed.

    Args:
        words: the command.
        text: its standard input.

    Raises:
        SlurmError: it refused.
        FleetError: no answer came, and it may have been done.
    """
    process = await asyncio.create_subprocess_exec(
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = await within(process.communicate(text.encode()), COMMAND_S)
    except asyncio.TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise FleetError(f"Slurm has not answered {words[0]} for {COMMAND_S:g} s.", definite=False) from None
    if process.returncode != 0:
        said = [line.split("error: ", 1)[-1] for line in err.decode(errors="replace").splitlines() if line.strip()]
        why = "; ".join(said[-2:])[:300].rstrip(".") or f"exit code {process.returncode}"
        if _UNANSWERED.search(why):
            raise FleetError(f"Slurm has not answered {words[0]}: {why}.", definite=False)
        raise SlurmError(f"Slurm refused {words[0]}: {why}.")
    return out.decode(errors="replace")
