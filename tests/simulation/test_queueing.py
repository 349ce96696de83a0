"""The dispatcher's simulator: worlds in which what `nullworker.demand` promises holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.simulation.queueing.checkers import unseen
from nullworker.simulation.queueing.run import run_seed
from tests.simulation.queueing_mutants import CAUGHT, hunt
from tests.simulation.queueing_mutations import QUEUEING_MUTATIONS

if TYPE_CHECKING:
    from tests.simulation.mutations import Mutation

SEEDS = 60
FOUND: dict[str, Any] = json.loads(CAUGHT.read_text())


def test_every_promise_of_the_dispatcher_holds_and_everything_occurs() -> None:
    """Checkers of worlds in which nothing happens are content with anything."""
    seen: set[str] = set()
    for seed in range(1, SEEDS + 1):
        outcome = run_seed(seed)
        assert outcome.broken == (), f"nullworker simulate --dispatcher --seed {seed}"
        seen.update(name for name, times in outcome.seen.items() if times)
    assert unseen(seen) == []


def test_a_seed_is_the_same_world_each_time() -> None:
    first, again = (run_seed(5, tells=True) for _ in range(2))
    assert first == again
    assert first.rounds


def test_at_least_twenty_bugs_are_planted_and_all_are_caught() -> None:
    assert len(QUEUEING_MUTATIONS) >= 20
    assert sorted(FOUND) == sorted(mutation.name for mutation in QUEUEING_MUTATIONS)
    assert [name for name, caught in FOUND.items() if caught is None] == []


#: Each takes a second or more; with `make test-long`.
SLOW = {
    "a closed reservation covers for ever",
    "nothing is sent for jobs without a live consumer",
    "one worker too few",
    "a job that ends puts off the rescue of another",
    "a limit on parallel jobs is ignored",
}
PLANTED = [
    pytest.param(mutation, marks=[pytest.mark.long] * (mutation.name in SLOW), id=mutation.name)
    for mutation in QUEUEING_MUTATIONS
]


def test_what_is_slow_is_planted() -> None:
    assert {mutation.name for mutation in QUEUEING_MUTATIONS} >= SLOW


@pytest.mark.parametrize("mutation", PLANTED)
def test_a_planted_bug_is_caught(mutation: Mutation) -> None:
    again = f'after a change of either: python -m tests.simulation.queueing_mutants "{mutation.name}"'
    assert hunt(mutation, FOUND[mutation.name]["seed"], 1) is not None, again


def test_demand_without_a_bug_is_caught_by_none() -> None:
    seeds = sorted({caught["seed"] for caught in FOUND.values()})
    assert [hunt(None, seed, 1) for seed in seeds[-2:]] == [None] * 2
