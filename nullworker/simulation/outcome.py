"""What a policy did with a trace: how long jobs waited, how many were killed, what the workers cost."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(slots=True)
class Outcome:
    """Sums over one run; seconds of the trace's time."""

    policy: str
    jobs: int
    waits_s: list[float] = field(default_factory=list)
    killed: int = 0
    held_s: float = 0.0
    idle_s: float = 0.0
    booting_s: float = 0.0
    #: Stopped workers, which are paid for their storage alone; no part of `worker_s`.
    inactive_s: float = 0.0
    peak: int = 0
    unserved: int = 0
    #: (at_s, demand, workers, waiting), at each change; empty unless asked for.
    timeline: list[tuple[float, int, int, int]] = field(default_factory=list)

    @property
    def worker_s(self) -> float:
        """Worker-seconds that are paid for: booting, free and held."""
        return self.held_s + self.idle_s + self.booting_s

    def wait_s(self, part: float) -> float:
        """The wait that ``part`` of the jobs do not exceed (0.95: p95)."""
        waits = sorted(self.waits_s)
        return waits[min(len(waits) - 1, int(part * len(waits)))] if waits else 0.0

    def row(self, bound_s: float | None = None, price_per_hour: float = 0.0) -> dict[str, Any]:
        """The run as one row of a table; ``bound_s`` is the clairvoyant bound's worker-seconds."""
        row: dict[str, Any] = {
            "policy": self.policy,
            "jobs": self.jobs,
            "killed": self.killed,
            "unserved": self.unserved,
            "wait_p50_s": round(self.wait_s(0.5), 2),
            "wait_p95_s": round(self.wait_s(0.95), 2),
            "wait_p99_s": round(self.wait_s(0.99), 2),
            "held_s": round(self.held_s, 1),
            "idle_s": round(self.idle_s, 1),
            "booting_s": round(self.booting_s, 1),
            "inactive_s": round(self.inactive_s, 1),
            "peak": self.peak,
        }
        if bound_s is not None:
            row["over_bound"] = round(self.worker_s / bound_s, 3) if bound_s else 1.0
        if price_per_hour:
            row["cost"] = round(self.worker_s / 3600 * price_per_hour, 2)
        return row


def clairvoyant_s(starts_and_ends: list[tuple[float, float]], start_up_s: float) -> float:
    """The fewest worker-seconds for jobs that begin and end at these times, by a policy that knows them all beforehand.

    Each job takes over the worker that was freed last before it. Between the two the worker is kept where that costs
    less than the start of another; a worker that starts is paid for while it boots.
    """
    events = sorted([(start, 1) for start, _ in starts_and_ends] + [(end, 0) for _, end in starts_and_ends])
    free: list[float] = []
    total = sum(end - start for start, end in starts_and_ends)
    for at_s, is_start in events:
        if not is_start:
            free.append(at_s)
        elif free and at_s - free[-1] < start_up_s:
            total += at_s - free.pop()
        else:
            if free:
                free.pop()
            total += start_up_s
    return total


class Window(NamedTuple):
    """A job, and when it may begin: not before it arrives, and not later than it did in the run."""

    arrival_s: float
    latest_s: float
    duration_s: float


def feasible_s(windows: Sequence[Window], start_up_s: float) -> float:
    """The worker-seconds of a schedule that knows all arrivals and has no job wait longer than it did in the run.

    It is sharper than `clairvoyant_s`, which has each job begin just when it did: a job may begin sooner here, on a
    worker that is about to be freed. It is a schedule that can be had, found by a greedy search; not proven to be the
    best. The lowest of three searches is given, which differ in the worker that a job takes over.
    """
    begun = clairvoyant_s([(w.latest_s, w.latest_s + w.duration_s) for w in windows], start_up_s)
    return min(begun, *(_greedy_s(windows, start_up_s, prefers_last=last) for last in (False, True)))


def _greedy_s(windows: Sequence[Window], start_up_s: float, *, prefers_last: bool) -> float:
    """Jobs in the order in which they must begin: each takes a worker that is freed in its window, else the one freed
    last before it where keeping that costs less than a start, else a new one.
    """
    free: list[float] = []  # when each worker is freed, sorted
    total = sum(window.duration_s for window in windows)
    for window in sorted(windows, key=lambda each: each.latest_s):
        first = bisect_left(free, window.arrival_s)  # of those freed in the window
        after = bisect_left(free, window.latest_s + 1e-9)
        if first < after:
            begin_s = free.pop(after - 1 if prefers_last else first)
        elif first and window.arrival_s - free[first - 1] < start_up_s:
            total += window.arrival_s - free.pop(first - 1)
            begin_s = window.arrival_s
        else:
            total += start_up_s
            begin_s = window.arrival_s
        insort(free, begin_s + window.duration_s)
    return total
