"""The dispatcher's simulator: worlds in which what `nullworker.demand` promises holds."""

from __future__ import annotations

from nullworker.simulation.queueing.checkers import unseen
from nullworker.simulation.queueing.run import run_seed

SEEDS = 60


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
