"""What was spent today, from prices and the time that was paid for: kept over restarts, and compared with the cap.

A day is UTC's, as Vast's bill has it. Times are Unix times, money is in dollars.
"""

from __future__ import annotations

import msgspec

DAY_S = 86_400.0
HOUR_S = 3600.0


class Spend(msgspec.Struct):
    """The money of one day."""

    spent: float = 0.0  # of the day that ``counted_until`` is in
    counted_until: float = 0.0
    #: What ran then, in dollars an hour: it counts for the time that no engine was there.
    rate_per_hour: float = 0.0

    def advance(self, now: float) -> None:
        """Counts what ran until ``now``; with a new day, the sum begins from nothing."""
        if self.counted_until <= 0:
            self.counted_until = now
        if now <= self.counted_until:
            return  # the clock was set back: what was counted stays
        midnight = now - now % DAY_S
        if self.counted_until < midnight:
            self.spent, self.counted_until = 0.0, midnight
        self.spent += self.rate_per_hour * (now - self.counted_until) / HOUR_S
        self.counted_until = now

    def takes(self, cap: float, more_per_hour: float) -> bool:
        """Whether something more may run: an hour of all that runs then, or the rest of the day, has to fit.

        Args:
            cap: of a day.
            more_per_hour: what it costs.
        """
        left_s = min(HOUR_S, DAY_S - self.counted_until % DAY_S)
        return self.spent + (self.rate_per_hour + more_per_hour) * left_s / HOUR_S <= cap
