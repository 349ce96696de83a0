"""Workloads: jobs by arrival and duration, read from a CSV with these two columns, or made up from a seed."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from random import Random


class Job(NamedTuple):
    """One job; seconds from the trace's beginning."""

    arrival_s: float
    duration_s: float


class TraceError(ValueError):
    """A trace cannot be used; the message is one sentence with the line's number."""


def read_trace(path: Path) -> list[Job]:
    """Reads a CSV that has the columns ``arrival_s`` and ``duration_s``; others are passed over.

    Raises:
        TraceError: it cannot be read, lacks a column, has no jobs, or a number in it makes no sense.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _jobs(csv.reader(file), path.name)
    except OSError as error:
        raise TraceError(f"The trace {path} cannot be read ({(error.strerror or str(error)).lower()}).") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"The trace {path} is no CSV in UTF-8 ({error}).") from None


def _jobs(rows: Iterable[list[str]], name: str) -> list[Job]:
    rows = iter(rows)
    header = [cell.strip() for cell in next(rows, [])]
    for column in Job._fields:
        if column not in header:
            raise TraceError(f"{name}, line 1: there is no column {column}; a trace has arrival_s and duration_s.")
    arrival, duration = header.index("arrival_s"), header.index("duration_s")
    jobs: list[Job] = []
    last = -math.inf
    for number, row in enumerate(rows, 2):
        if not row:
            continue
        try:
            job = Job(float(row[arrival]), float(row[duration]))
        except (ValueError, IndexError):
            raise TraceError(f"{name}, line {number}: {','.join(row)[:80]!r} does not hold two numbers.") from None
        if not (math.isfinite(job.arrival_s) and math.isfinite(job.duration_s)):
            raise TraceError(f"{name}, line {number}: a number is not finite.")
        if job.arrival_s < 0 or job.duration_s < 0:
            raise TraceError(f"{name}, line {number}: a number is negative.")
        if job.arrival_s < last:
            raise TraceError(f"{name}, line {number}: the arrival {job.arrival_s:g} is before the one above; sort it.")
        last = job.arrival_s
        jobs.append(job)
    if not jobs:
        raise TraceError(f"{name} holds no job.")
    return jobs


# ------------------------------------------------------------------------------------------------------------ made up


def steady(rng: Random) -> list[Job]:
    """One job a minute on average, of ten minutes on average, for a day."""
    return _poisson(rng, lambda _: 1 / 60, 86_400.0, lambda: rng.expovariate(1 / 600))


def bursty(rng: Random) -> list[Job]:
    """Twenty jobs at once every hour or so, of five minutes on average, and nothing in between."""
    jobs: list[Job] = []
    at_s = 0.0
    while (at_s := at_s + rng.expovariate(1 / 3600)) < 2 * 86_400.0:
        jobs += [Job(at_s + rng.uniform(0, 5), rng.expovariate(1 / 300)) for _ in range(20)]
    return sorted(jobs)


def daily(rng: Random) -> list[Job]:
    """Busy days and quiet nights, for three days: up to one job in 40 s at noon, of ten minutes on average."""

    def rate(at_s: float) -> float:
        return (1 - math.cos(2 * math.pi * at_s / 86_400.0)) / 80

    return _poisson(rng, rate, 3 * 86_400.0, lambda: rng.expovariate(1 / 600))


def heavy_tailed(rng: Random) -> list[Job]:
    """One job in two minutes; half end within eight, one in a hundred runs for a day or so."""
    return _poisson(rng, lambda _: 1 / 120, 2 * 86_400.0, lambda: min(rng.lognormvariate(6.2, 1.9), 2 * 86_400.0))


def requests(rng: Random) -> list[Job]:
    """Requests of two seconds on average, for two hours: two to ten a second by the hour, more or less by the minute.

    Jobs that are shorter than a start-up; the other workloads have longer ones.
    """
    minutes = [rng.lognormvariate(0, 0.3) for _ in range(121)]

    def rate(at_s: float) -> float:
        return (6 - 4 * math.cos(2 * math.pi * at_s / 3_600.0)) * minutes[int(at_s / 60)]

    return _poisson(rng, rate, 7_200.0, lambda: rng.lognormvariate(0.4, 0.8))


SYNTHETIC: dict[str, Callable[[Random], list[Job]]] = {
    "steady": steady,
    "bursty": bursty,
    "daily": daily,
    "heavy-tailed": heavy_tailed,
    "requests": requests,
}


def _poisson(rng: Random, rate: Callable[[float], float], until_s: float, duration: Callable[[], float]) -> list[Job]:
    """Arrivals at ``rate(at_s)`` a second, by thinning a process at the highest rate."""
    ceiling = max(rate(until_s * part / 100) for part in range(100))
    jobs: list[Job] = []
    at_s = 0.0
    while (at_s := at_s + rng.expovariate(ceiling)) < until_s:
        if rng.random() * ceiling <= rate(at_s):
            jobs.append(Job(at_s, duration()))
    return jobs
