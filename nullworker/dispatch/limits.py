"""What several queues share: a cap on reservations, and a budget. They stop opening, and never end what is held."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nullworker.dispatch.ledger import LedgerError
from nullworker.dispatch.money import DAY_S, Budget, Spending, affordable
from nullworker.dispatch.plan import Phase
from nullworker.dispatch.shares import Demand, allot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.dispatch.pair import Pair
    from nullworker.dispatch.slots import Tools


class _Spent(NamedTuple):
    until_s: float  # monotonic: as long as this holds
    day: float


#: What has ended is looked up in the ledger no more often than this.
SPENT_KEPT_S = 1.0


class SharedLimits:
    """Answers each pair's question what it may have."""

    def __init__(self, pairs: Sequence[Pair], tools: Tools, cap: int | None, budget: Budget) -> None:
        self._pairs = pairs
        self._tools = tools
        self._cap = cap
        self._budget = budget
        self._spent = _Spent(float("-inf"), 0.0)

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return self._cap is not None or bool(self._budget)

    def allowed(self, pair: Pair) -> tuple[int | None, str]:
        """How many reservations ``pair`` may have, those that it has included, and why; None: no limit."""
        by_cap, why_cap = self._by_cap(pair)
        by_budget, why_budget = self._by_budget(pair)
        if by_budget is not None and (by_cap is None or by_budget < by_cap):
            return by_budget, why_budget
        return by_cap, why_cap

    def _by_cap(self, pair: Pair) -> tuple[int | None, str]:
        if self._cap is None:
            return None, ""
        demands = [Demand(p.name, p.wanted, p.holding, p.settings.priority) for p in self._pairs]
        shares = allot(self._cap, demands)
        share = shares[pair.name]
        room = self._cap - sum(p.live for p in self._pairs)
        if share > pair.live + max(0, room):
            # Others have more than is theirs by now; what of it still waits for a worker they withdraw.
            for other in self._pairs:
                if other.live > shares[other.name] and other.count(Phase.ASKED):
                    other.wake()
        why = f"--cap {self._cap}" + (f" is shared by {len(self._pairs)} queues" if len(self._pairs) > 1 else "")
        return min(share, pair.live + max(0, room)), why

    def _by_budget(self, pair: Pair) -> tuple[int | None, str]:
        if not self._budget:
            return None, ""
        rate = sum(p.live * p.settings.price_per_hour for p in self._pairs)
        try:
            day = self._spent_day()
        except LedgerError as error:
            return pair.holding, str(error)  # what cannot be known is not spent
        return affordable(self._budget, Spending(rate, day), pair.settings.price_per_hour, pair.live, pair.holding)

    def _spent_day(self) -> float:
        """What was spent in the last 24 hours.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        if self._budget.daily is None:
            return 0.0
        clock = self._tools.clock
        now_s = clock.monotonic_s()
        if now_s >= self._spent.until_s:
            self._spent = _Spent(now_s + SPENT_KEPT_S, self._tools.ledger.spent_since(clock.wall_s() - DAY_S))
        running = sum(
            min(slot.held_s, DAY_S) / 3600 * pair.settings.price_per_hour
            for pair in self._pairs
            for slot in pair.slots
            if slot.phase is Phase.HELD
        )
        return self._spent.day + running

    def closed(self, pair: Pair) -> None:
        """A reservation of ``pair`` is over: what it leaves free may be another's."""
        self._spent = _Spent(float("-inf"), 0.0)
        if self:
            for other in self._pairs:
                if other is not pair:
                    other.wake()
