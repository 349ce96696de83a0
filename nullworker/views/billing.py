"""What a place bills in which state of a worker, and at what price.

Two things are billed: a machine that runs, and the storage of one that exists. A *billing* says in which of the core's
states a place bills them; a workergroup names its own (``billing``), and its prices.
"""

from __future__ import annotations

from typing import NamedTuple

#: Prices are whole numbers of 10^-9 of the currency an hour: sums of them are exact.
NANO = 10**9


class Rates(NamedTuple):
    """What is paid for a worker at a time, in 10^-9 of the currency an hour."""

    running: int = 0
    storage: int = 0


class Price(NamedTuple):
    """What one worker costs, and where. Prices are in the currency an hour."""

    running_per_hour: float = 0.0
    storage_per_hour: float = 0.0
    billing: str = "running"


class Billing(NamedTuple):
    """The states in which a running machine is billed, and those in which storage is."""

    running: frozenset[str]
    storage: frozenset[str]


_UP = frozenset({"loading", "starting", "ready", "held", "draining", "stopping"})
_THERE = _UP | {"creating", "error", "destroying"}

#: By name. What is only asked for (``asked``) is billed nowhere.
BILLINGS = {
    # A machine that is rented as it runs: from its creation to its end, and while it is stopped its storage alone.
    "running": Billing(_THERE, _THERE | {"inactive"}),
    # A machine that is paid for whether it runs or not, such as one of one's own.
    "owned": Billing(_THERE | {"inactive"}, _THERE | {"inactive"}),
    # Vast Serverless: what is created or inactive pays for storage, and an error pays nothing.
    "vast-serverless": Billing(_UP, _UP | {"creating", "inactive"}),
}


def rates(price: Price, state: str) -> Rates:
    """What is paid for a worker in a state.

    Args:
        price: its price.
        state: a state of `nullworker.core.worker.WorkerState`.
    """
    billing = BILLINGS.get(price.billing, BILLINGS["running"])
    return Rates(
        nano(price.running_per_hour) if state in billing.running else 0,
        nano(price.storage_per_hour) if state in billing.storage else 0,
    )


def nano(per_hour: float) -> int:
    """A price in 10^-9 of the currency an hour, rounded to the nearest."""
    return round(per_hour * NANO)
