"""What several queues share: a cap, and a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.demand.reservations import Phase
from nullworker.dispatch.budget import Budget
from nullworker.dispatch.limits import SharedLimits
from nullworker.dispatch.store import Row
from tests.unit.dispatch.harness import settle

if TYPE_CHECKING:
    from nullworker.dispatch.binding import Binding
    from tests.unit.dispatch.harness import DispatchHarness


def bindings_of(
    harness: DispatchHarness, count: int, *, cap: int | None = None, budget: Budget | None = None, **how: Any
) -> list[Binding]:
    bindings: list[Binding] = []
    limits = SharedLimits(bindings, harness.tools, cap, budget or Budget())
    for number in range(count):
        own = {name: value[number] if isinstance(value, tuple) else value for name, value in how.items()}
        binding = harness.binding(queue=f"sqlite:///tmp/{number}.db", **own)
        binding._allowed = limits.allowed
        binding._on_closed = limits.closed
        bindings.append(binding)
    return bindings


async def test_a_cap_is_shared_evenly(harness: DispatchHarness) -> None:
    a, b = bindings_of(harness, 2, cap=4)
    for _ in range(3):
        await harness.consider(a, 9)
        await harness.consider(b, 9)
    assert (a.live, b.live) == (2, 2)
    assert a.last is not None
    assert "--cap 4 is shared by 2 queues" in a.last.reason
    await harness.end(a, b)


async def test_what_one_does_not_want_is_the_others(harness: DispatchHarness) -> None:
    a, b = bindings_of(harness, 2, cap=4)
    await harness.consider(a, 1)
    await harness.consider(b, 9)
    assert (a.live, b.live) == (1, 3)
    await harness.end(a, b)


async def test_higher_priority_gets_what_others_still_wait_for_but_never_more_than_the_cap(
    harness: DispatchHarness,
) -> None:
    low, high = bindings_of(harness, 2, cap=4, priority=(0, 1))
    await harness.consider(low, 9)
    assert low.live == 4
    harness.client.asked[0].confirm()
    await settle()
    for _ in range(3):
        await harness.consider(high, 9)
        assert low.live + high.live <= 4
        await harness.consider(low, 8, 1)
        assert low.live + high.live <= 4
    assert (low.live, low.count(Phase.HELD), high.live) == (1, 1, 3)
    await harness.end(low, high)


async def test_what_is_held_stays_when_the_cap_comes_down(harness: DispatchHarness) -> None:
    (binding,) = bindings_of(harness, 1, cap=1)
    binding._allowed = lambda _: (None, "")
    await harness.held(binding, 3)
    binding._allowed = SharedLimits([binding], harness.tools, 1, Budget()).allowed
    await harness.consider(binding, 5, 3)
    assert (binding.live, binding.holding) == (3, 3)
    await harness.end(binding)


async def test_an_hourly_budget_counts_all_queues_at_their_own_prices(harness: DispatchHarness) -> None:
    cheap, dear = bindings_of(harness, 2, budget=Budget(hourly=2.0), price_per_hour=(0.5, 1.0))
    await harness.consider(dear, 9)
    await harness.consider(cheap, 9)
    assert (cheap.live, dear.live) == (0, 2)
    harness.client.asked[0].confirm().closed.set()
    await settle()
    await harness.consider(cheap, 9)
    assert (cheap.live, dear.live) == (2, 1)
    assert cheap.last is not None
    assert "--max-hourly" in cheap.last.reason
    await harness.end(cheap, dear)


async def test_a_daily_budget_that_is_spent_withdraws_what_waits_and_ends_nothing(harness: DispatchHarness) -> None:
    (binding,) = bindings_of(harness, 1, budget=Budget(daily=1.0), price_per_hour=1.0)
    reservations = await harness.held(binding, 1)
    await harness.consider(binding, 3, 1)
    assert binding.live == 4
    await harness.time.go(3601)
    await harness.consider(binding, 3, 1)
    assert (binding.live, binding.count(Phase.HELD)) == (1, 1)
    assert reservations[0].releases == 0
    assert binding.last is not None
    assert "--max-daily is 1" in binding.last.reason
    reservations[0].closed.set()
    await harness.time.go(1)
    await harness.consider(binding, 3)
    assert binding.live == 0
    await harness.end(binding)


async def test_a_day_later_it_may_be_spent_again(harness: DispatchHarness) -> None:
    (binding,) = bindings_of(harness, 1, budget=Budget(daily=1.0), price_per_hour=1.0)
    wall_s = harness.time.wall_s
    harness.store.closed(Row("a", binding.name, "held", wall_s - 7200), wall_s, 7200.0, 2.0)
    await harness.consider(binding, 1)
    assert binding.live == 0
    await harness.time.go(86_400)
    await harness.consider(binding, 1)
    assert binding.live == 1
    await harness.end(binding)
