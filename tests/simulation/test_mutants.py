"""Planted bugs: each is caught by the seed that caught it when they were hunted for, and the healthy core by none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.simulation.mutants import CAUGHT, hunt
from tests.simulation.mutations import MUTATIONS, Mutation

FOUND: dict[str, Any] = json.loads(CAUGHT.read_text())


def test_at_least_thirty_bugs_are_planted_and_all_are_caught() -> None:
    assert len(MUTATIONS) >= 30
    assert sorted(FOUND) == sorted(mutation.name for mutation in MUTATIONS)
    assert [name for name, caught in FOUND.items() if caught is None] == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_caught(mutation: Mutation) -> None:
    seed = FOUND[mutation.name]["seed"]
    again = f'after a change of the core or the simulator: python -m tests.simulation.mutants "{mutation.name}"'
    assert hunt(mutation, seed, 1) is not None, again


def test_the_core_without_a_bug_is_caught_by_none() -> None:
    seeds = sorted({caught["seed"] for caught in FOUND.values()})
    assert [hunt(None, seed, 1) for seed in seeds[:3]] == [None, None, None]
