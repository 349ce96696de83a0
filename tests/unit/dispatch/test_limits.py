"""What several queues share: a cap, and a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.dispatch.ledger import Row
from nullworker.dispatch.limits import SharedLimits
from nullworker.dispatch.money import Budget
from nullworker.dispatch.plan import Phase
from tests.unit.dispatch.stage import settle

if TYPE_CHECKING:
    from nullworker.dispatch.pair import Pair
    from tests.unit.dispatch.stage import Stage


def pairs_of(
    stage: Stage, count: int, *, cap: int | None = None, budget: Budget | None = None, **how: Any
) -> list[Pair]:
    pairs: list[Pair] = []
    limits = SharedLimits(pairs, stage.tools, cap, budget or Budget())
    for number in range(count):
        own = {name: value[number] if isinstance(value, tuple) else value for name, value in how.items()}
        pair = stage.pair(queue=f"sqlite:///tmp/{number}.db", **own)
        pair._allowed = limits.allowed
        pair._on_closed = limits.closed
        pairs.append(pair)
    return pairs


async def test_a_cap_is_shared_evenly(stage: Stage) -> None:
    a, b = pairs_of(stage, 2, cap=4)
    for _ in range(3):
        await stage.consider(a, 9)
        await stage.consider(b, 9)
    assert (a.live, b.live) == (2, 2)
    assert a.last is not None
    assert "--cap 4 is shared by 2 queues" in a.last.reason
    await stage.end(a, b)


async def test_what_one_does_not_want_is_the_others(stage: Stage) -> None:
    a, b = pairs_of(stage, 2, cap=4)
    await stage.consider(a, 1)
    await stage.consider(b, 9)
    assert (a.live, b.live) == (1, 3)
    await stage.end(a, b)


async def test_higher_priority_gets_what_others_still_wait_for_but_never_more_than_the_cap(stage: Stage) -> None:
    low, high = pairs_of(stage, 2, cap=4, priority=(0, 1))
    await stage.consider(low, 9)
    assert low.live == 4
    stage.client.asked[0].confirm()
    await settle()
    for _ in range(3):
        await stage.consider(high, 9)
        assert low.live + high.live <= 4
        await stage.consider(low, 8, 1)
        assert low.live + high.live <= 4
    assert (low.live, low.count(Phase.HELD), high.live) == (1, 1, 3)
    await stage.end(low, high)


async def test_what_is_held_stays_when_the_cap_comes_down(stage: Stage) -> None:
    (pair,) = pairs_of(stage, 1, cap=1)
    pair._allowed = lambda _: (None, "")
    await stage.held(pair, 3)
    pair._allowed = SharedLimits([pair], stage.tools, 1, Budget()).allowed
    await stage.consider(pair, 5, 3)
    assert (pair.live, pair.holding) == (3, 3)
    await stage.end(pair)


async def test_an_hourly_budget_counts_all_queues_at_their_own_prices(stage: Stage) -> None:
    cheap, dear = pairs_of(stage, 2, budget=Budget(hourly=2.0), price_per_hour=(0.5, 1.0))
    await stage.consider(dear, 9)
    await stage.consider(cheap, 9)
    assert (cheap.live, dear.live) == (0, 2)
    stage.client.asked[0].confirm().closed.set()
    await settle()
    await stage.consider(cheap, 9)
    assert (cheap.live, dear.live) == (2, 1)
    assert cheap.last is not None
    assert "--max-hourly" in cheap.last.reason
    await stage.end(cheap, dear)


async def test_a_daily_budget_that_is_spent_withdraws_what_waits_and_ends_nothing(stage: Stage) -> None:
    (pair,) = pairs_of(stage, 1, budget=Budget(daily=1.0), price_per_hour=1.0)
    reservations = await stage.held(pair, 1)
    await stage.consider(pair, 3, 1)
    assert pair.live == 4
    await stage.time.go(3601)
    await stage.consider(pair, 3, 1)
    assert (pair.live, pair.count(Phase.HELD)) == (1, 1)
    assert reservations[0].releases == 0
    assert pair.last is not None
    assert "--max-daily is 1" in pair.last.reason
    reservations[0].closed.set()
    await stage.time.go(1)
    await stage.consider(pair, 3)
    assert pair.live == 0
    await stage.end(pair)


async def test_a_day_later_it_may_be_spent_again(stage: Stage) -> None:
    (pair,) = pairs_of(stage, 1, budget=Budget(daily=1.0), price_per_hour=1.0)
    wall_s = stage.time.wall_s
    stage.ledger.closed(Row("a", pair.name, "held", wall_s - 7200), wall_s, 7200.0, 2.0)
    await stage.consider(pair, 1)
    assert pair.live == 0
    await stage.time.go(86_400)
    await stage.consider(pair, 1)
    assert pair.live == 1
    await stage.end(pair)
