"""How many sessions that the engine does not know are taken over from one worker: its word costs a bounded amount.

A worker may hold sessions that the engine does not know (its store was lost, a grant was used late), and as long as it
does it is not ended. A worker that invents them would have the engine make, note and store a reservation for each. So
some are taken over at once, and few after that. A worker that lists more than that *may hold something unknown*
(`trust`): it gets nothing new and is not ended, and nothing is kept of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from nullworker.core import limits


@dataclass(slots=True, eq=False)
class Adoptions:
    """What one worker may still have taken over, and what was left out."""

    left: float = float(limits.ADOPTED_AT_ONCE)
    since: float = 0.0  # when that was so
    left_out: int = 0  # listed and not taken over, since that was last noted
    noted_at: float = float("-inf")

    def take(self, now: float, adopted: int) -> bool:
        """Whether one more is taken over, beside the ``adopted`` ones that the worker holds."""
        left = min(limits.ADOPTED_AT_ONCE, self.left + (now - self.since) * limits.ADOPTED_PER_S)
        if left < 1.0 or adopted >= limits.ADOPTED_MAX:
            return False
        self.left, self.since = left - 1.0, now
        return True

    def leave_out(self, count: int, now: float) -> int:
        """So many were left out; returns how many are to be noted now, 0 if that was done a short while ago."""
        self.left_out += count
        if now - self.noted_at < limits.LEFT_OUT_NOTE_S:
            return 0
        noted, self.left_out, self.noted_at = self.left_out, 0, now
        return noted
