"""Counts of durations by bucket, as Prometheus has them: cheap to add to, and read at a scrape alone."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

#: Upper bounds in seconds: what people wait for, what a fleet takes, and what the core takes.
WAITS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
HOLDS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0, 86400.0)
STARTS_S = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 3600.0)
CALLS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
DECISIONS_S = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)


class Histogram:
    """How many durations were at most each of some bounds, and the sum of all."""

    __slots__ = ("_bounds", "_counts", "sum_s")

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        self._bounds = bounds_s
        self._counts = [0] * (len(bounds_s) + 1)  # the last one: longer than all bounds
        self.sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Adds a duration. One below 0, of a clock that was set back meanwhile, counts as 0: sums must not fall."""
        seconds = max(seconds, 0.0)
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.sum_s += seconds

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self._counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Each bound as Prometheus writes it, and how many durations were at most that long."""
        bounds = [*(repr(bound) for bound in self._bounds), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
