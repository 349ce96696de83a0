"""Limits on money: they stop reservations from being opened, and never end one that is held.

What counts is the time for which reservations are held, at the price of a worker. The time in which workers start, or
are free between two reservations, is decided by the engine and not counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent, in the currency that prices are in; None: no limit."""

    hourly: float | None = None
    daily: float | None = None

    def __bool__(self) -> bool:
        """Whether there is a limit."""
        return self.hourly is not None or self.daily is not None


@dataclass(frozen=True, slots=True)
class Spending:
    """What all queues together cost."""

    rate: float  # an hour: reservations that are requested, being created and held
    day: float  # in the last 24 hours, running reservations included


def affordable(
    budget: Budget, spending: Spending, price_per_hour: float, live: int, holding: int
) -> tuple[int | None, str]:
    """How many reservations one queue may have, and why; (None, "") where the budget sets no limit.

    Args:
        budget: the limits.
        spending: of all queues together.
        price_per_hour: of one of this queue's workers.
        live: this queue's reservations, those that wait for a worker included.
        holding: those of them that a worker holds, or may hold; they stay whatever the limit.
    """
    if price_per_hour <= 0:
        return None, ""
    most: int | None = None
    why = ""
    if budget.hourly is not None:
        room = math.floor((budget.hourly - spending.rate) / price_per_hour + 1e-9)
        most = max(holding, live + room)
        why = f"--max-hourly {budget.hourly:g} allows no more at {price_per_hour:g} an hour each"
    if budget.daily is not None and spending.day >= budget.daily:
        most = holding
        why = f"{spending.day:.2f} were spent in 24 hours, and --max-daily is {budget.daily:g}"
    return most, why
