"""Makes a failing run short: with fewer faults, fewer clients and less time, as long as the same promise is broken.

Whatever is left out also changes what chance brings to the rest, so a try may well pass, or break something else: then
it was no step. What remains is not the shortest history there is, but one that nothing more can be taken from singly.
"""

from __future__ import annotations

import math
from time import process_time
from typing import TYPE_CHECKING

from nullworker.simulation.run import Reduction, Result, run
from nullworker.simulation.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.simulation.plan import Plan

#: So many runs are tried at most, and for so long; most take a fraction of a second, and the last ones the least.
RUNS_MAX = 100
CPU_S_MAX = 60.0


def shrink(failed: Result, runs_max: int = RUNS_MAX) -> Result:
    """A run of the same seed that breaks the same promise with as little as possible, with its history.

    A run that broke nothing is returned as it is.
    """
    if failed.failure is None:
        return failed
    shorter = _Shrinker(failed, runs_max)
    shorter.shrink()
    shown = run(failed.seed, failed.scenario, shorter.best.reduction, journal=True, check_every=1)
    return shown if _same(shown, failed) else failed


def _same(one: Result, other: Result) -> bool:
    return one.failure is not None and other.failure is not None and one.failure.promise == other.failure.promise


class _Shrinker:
    """``best`` is the least so far that fails in the same way."""

    def __init__(self, failed: Result, runs_max: int) -> None:
        self.best = self.failed = failed
        self._runs_left = runs_max
        self._until_s = process_time() + CPU_S_MAX

    def shrink(self) -> None:
        """Takes away until nothing more can be, or until the runs are used up."""
        before = None
        while before != self.best.reduction and self._runs_left > 0:
            before = self.best.reduction
            self._cut_time()
            self._drop_faults()
            self._drop_clients()

    def _plan(self) -> Plan:
        return self.best.reduction.apply(SCENARIOS[self.failed.scenario].plan(self.failed.seed))

    def _try(self, faults: frozenset[str], clients: frozenset[int], until_s: float | None) -> bool:
        if self._runs_left <= 0 or process_time() > self._until_s:
            return False
        self._runs_left -= 1
        tried = run(self.failed.seed, self.failed.scenario, Reduction(faults, clients, until_s), check_every=1)
        if _same(tried, self.failed):
            self.best = tried
            return True
        return False

    def _cut_time(self) -> None:
        """To the moment of the failure, which changes nothing of what led to it; then by halves."""
        left_out, now = self.best.reduction, self._plan().faults_end_s
        until_s = float(min(math.ceil(self.best.simulated_s), math.ceil(now)))
        if until_s >= now or not self._try(left_out.faults, left_out.clients, until_s):
            until_s = now
        step_s = until_s / 2
        while step_s >= 1.0 and self._runs_left > 0:
            shorter_s = float(math.floor(until_s - step_s))
            if shorter_s > 0 and self._try(left_out.faults, left_out.clients, shorter_s):
                until_s = shorter_s
            step_s /= 2

    def _drop_faults(self) -> None:
        for fault in self.best.faults:
            left_out = self.best.reduction
            self._try(left_out.faults | {fault}, left_out.clients, left_out.until_s)

    def _drop_clients(self) -> None:
        """Leaves out ever smaller parts of those who come."""
        size = max(1, len(self._numbers()) // 2)
        while self._runs_left > 0:
            for part in self._parts(size):
                left_out = self.best.reduction
                self._try(left_out.faults, left_out.clients | part, left_out.until_s)
            if size == 1:
                return
            size = max(1, size // 2)

    def _parts(self, size: int) -> Iterator[frozenset[int]]:
        numbers = self._numbers()
        for first in range(0, len(numbers), size):
            yield frozenset(numbers[first : first + size])

    def _numbers(self) -> list[int]:
        """The clients that come, by the numbers that `Reduction` knows them by."""
        left_out, plan = self.best.reduction, SCENARIOS[self.failed.scenario].plan(self.failed.seed)
        until_s = plan.faults_end_s if left_out.until_s is None else min(plan.faults_end_s, left_out.until_s)
        return [
            number
            for number, job in enumerate(plan.jobs, 1)
            if number not in left_out.clients and job.arrives_at < until_s
        ]
