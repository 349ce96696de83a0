"""Which workergroups their fleets have no place for, since when, and when they are tried again.

To the core a shortage is a creation that certainly failed: it tries again later, and each time later than before, for
up to five minutes. What it is told of the reason names the time at which the shortage began, so that the answers to
waiting clients, `explain`, `status` and the page say so. As soon as a place may be free (a worker of the fleet has gone
or was stopped, or the fleet gives notice), the core is told of the workergroup once more: it forgets the failures, and
tries at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.core.limits import BACKOFF_MAX_S

if TYPE_CHECKING:
    from collections.abc import Callable

#: A shortage of which nothing was heard for so long is over: nothing was wanted of the fleet since.
FORGET_AFTER_S = 2 * BACKOFF_MAX_S


@dataclass(slots=True)
class _Shortage:
    fleet: str
    since_s: float
    last_s: float
    tries: int = 0


class Shortages:
    """The shortages of one engine's fleets."""

    def __init__(self, wall_s: Callable[[], float], try_again: Callable[[int], object]) -> None:
        """Takes what it uses.

        Args:
            wall_s: the time of day in Unix seconds.
            try_again: has the core try a workergroup again, by its id.
        """
        self._wall_s = wall_s
        self._try_again = try_again
        self._short: dict[int, _Shortage] = {}

    def refused(self, workergroup_id: int, fleet: str, reason: str) -> str:
        """A fleet has no place for a worker.

        Args:
            workergroup_id: the worker's.
            fleet: its name.
            reason: the fleet's own, one sentence.

        Returns:
            The reason with the time since which the fleet is short.
        """
        now_s = self._wall_s()
        known = self._short.get(workergroup_id)
        if known is None or known.fleet != fleet or now_s - known.last_s > FORGET_AFTER_S:
            known = self._short[workergroup_id] = _Shortage(fleet, now_s, now_s)
        known.last_s, known.tries = now_s, known.tries + 1
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(known.since_s))
        tries = "" if known.tries == 1 else f", {known.tries} tries"
        return f"the fleet {fleet} has had no place since {since} UTC{tries}: {reason}"

    def created(self, workergroup_id: int) -> None:
        """A fleet made a worker of this workergroup: it is not short of places."""
        self._short.pop(workergroup_id, None)

    def place_free(self, fleet: str) -> None:
        """A place of this fleet may be free again."""
        for workergroup_id in [each for each, known in self._short.items() if known.fleet == fleet]:
            self._try_again(workergroup_id)
