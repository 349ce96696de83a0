"""Five hundred worlds full of faults, most of them by `make test-long`, in which every promise is kept."""

from __future__ import annotations

import pytest

from nullworker.simulation.run import Reduction, run
from nullworker.simulation.scenarios import SCENARIOS
from nullworker.simulation.shrink import shrink

SEEDS = 500
SHORT = 75
CHUNK = 25


def _marks(first: int) -> list[pytest.MarkDecorator]:
    """Each chunk takes the same lines; where coverage is measured, which takes three times as long, one is enough."""
    return [pytest.mark.no_cover] * (first > 1) + [pytest.mark.long] * (first > SHORT)


CHUNKS = [pytest.param(first, marks=_marks(first)) for first in range(1, SEEDS + 1, CHUNK)]


@pytest.mark.parametrize("first", CHUNKS)
def test_every_promise_is_kept(first: int) -> None:
    for seed in range(first, first + CHUNK):
        result = run(seed)
        assert result.failure is None, f"\n{shrink(result).failure}"
        assert result.simulated_s >= 600


@pytest.mark.parametrize("scenario", [name for name, scenario in SCENARIOS.items() if not scenario.in_turn])
def test_every_promise_is_kept_in_scenarios_that_no_seed_has_by_itself(scenario: str) -> None:
    for seed in range(1, 41):
        result = run(seed, scenario)
        assert result.failure is None, f"\n{shrink(result).failure}"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_scenario_is_the_same_for_the_same_seed(scenario: str) -> None:
    first, again = (run(77, scenario, journal=True) for _ in range(2))
    assert first.failure is None, f"\n{first.failure}"
    assert first.journal == again.journal
    assert first.events > 0


def test_what_is_left_out_is_named_by_the_line_that_repeats_a_run() -> None:
    left_out = Reduction(frozenset({"loss"}), frozenset({3}), 60.0)
    assert left_out.flags() == " --without loss --without-clients 3 --until 60"
    assert run(1, reduction=left_out).failure is None
