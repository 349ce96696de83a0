"""A cap that several queues share: higher priority first, max-min fair within a priority."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Demand(NamedTuple):
    """One queue's demand on the shared cap."""

    name: str
    want: int
    held: int  # never taken away, whatever the cap
    priority: int = 0


def fair_shares(cap: int, demands: Iterable[Demand]) -> dict[str, int]:
    """How many reservations each queue may have, by name.

    Held reservations count first, because they are never ended. The rest goes to the highest priority; queues of one
    priority get one each in turn, the one with the least first, until all have what they want or the cap is reached.
    """
    demands = list(demands)
    given = {d.name: min(d.held, max(d.want, d.held)) for d in demands}
    left = cap - sum(given.values())
    for priority in sorted({d.priority for d in demands}, reverse=True):
        unsatisfied = [d for d in demands if d.priority == priority and given[d.name] < d.want]
        while unsatisfied and left > 0:
            smallest = min(unsatisfied, key=lambda d: (given[d.name], d.name))
            given[smallest.name] += 1
            left -= 1
            if given[smallest.name] >= smallest.want:
                unsatisfied.remove(smallest)
    return given
