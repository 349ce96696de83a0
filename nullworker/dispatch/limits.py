"""Limits that all queues share, a cap and a budget: they stop reservations from being opened, and never end one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nullworker.demand.reservations import Phase
from nullworker.dispatch.budget import DAY_S, Budget, Spending, affordable
from nullworker.dispatch.fair_share import Demand, fair_shares
from nullworker.dispatch.store import DispatchStoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.dispatch.binding import Binding
    from nullworker.dispatch.reservation_task import Tools


class _Spent(NamedTuple):
    until_s: float  # monotonic: as long as this holds
    day: float


#: The spending of ended reservations is read from the store no more often than this.
SPENT_KEPT_S = 1.0


class SharedLimits:
    """Says how many reservations each binding may have."""

    def __init__(self, bindings: Sequence[Binding], tools: Tools, cap: int | None, budget: Budget) -> None:
        """Takes what is shared.

        Args:
            bindings: that share the limits.
            tools: the clock and the store.
            cap: reservations of all bindings together; None: no limit.
            budget: limits on money.
        """
        self._bindings = bindings
        self._tools = tools
        self._cap = cap
        self._budget = budget
        self._spent = _Spent(float("-inf"), 0.0)

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return self._cap is not None or bool(self._budget)

    def allowed(self, binding: Binding) -> tuple[int | None, str]:
        """How many reservations ``binding`` may have in all, and why; None: no limit."""
        by_cap, why_cap = self._by_cap(binding)
        by_budget, why_budget = self._by_budget(binding)
        if by_budget is not None and (by_cap is None or by_budget < by_cap):
            return by_budget, why_budget
        return by_cap, why_cap

    def _by_cap(self, binding: Binding) -> tuple[int | None, str]:
        if self._cap is None:
            return None, ""
        demands = [Demand(p.name, p.wanted, p.holding, p.settings.priority) for p in self._bindings]
        shares = fair_shares(self._cap, demands)
        share = shares[binding.name]
        room = self._cap - sum(p.live for p in self._bindings)
        if share > binding.live + max(0, room):
            # Other bindings exceed their new shares: they withdraw what still waits for a worker.
            for other in self._bindings:
                if other.live > shares[other.name] and other.count(Phase.ASKED):
                    other.wake()
        why = f"--cap {self._cap}" + (f" is shared by {len(self._bindings)} queues" if len(self._bindings) > 1 else "")
        return min(share, binding.live + max(0, room)), why

    def _by_budget(self, binding: Binding) -> tuple[int | None, str]:
        if not self._budget:
            return None, ""
        rate = sum(p.live * p.settings.price_per_hour for p in self._bindings)
        try:
            day = self._spent_day()
        except DispatchStoreError as error:
            return binding.holding, str(error)  # unknown spending allows nothing new
        return affordable(
            self._budget, Spending(rate, day), binding.settings.price_per_hour, binding.live, binding.holding
        )

    def _spent_day(self) -> float:
        """What was spent in the last 24 hours.

        Raises:
            DispatchStoreError: the store cannot be read.
        """
        if self._budget.daily is None:
            return 0.0
        clock = self._tools.clock
        now_s = clock.monotonic_s()
        if now_s >= self._spent.until_s:
            self._spent = _Spent(now_s + SPENT_KEPT_S, self._tools.store.spent_since(clock.wall_s() - DAY_S))
        running = sum(
            min(reservation.held_s, DAY_S) / 3600 * binding.settings.price_per_hour
            for binding in self._bindings
            for reservation in binding.reservations
            if reservation.phase is Phase.HELD
        )
        return self._spent.day + running

    def closed(self, binding: Binding) -> None:
        """A reservation of ``binding`` has ended: other bindings may take its place."""
        self._spent = _Spent(float("-inf"), 0.0)
        if self:
            for other in self._bindings:
                if other is not binding:
                    other.wake()
