"""Planted bugs: each is caught by the seed that caught it when they were hunted for, and the healthy core by none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.simulation.journals import PLANTED, load, slug
from tests.simulation.mutants import CAUGHT, hunt, planted
from tests.simulation.mutations import MUTATIONS, SHOWN_BY_JOURNAL, Change, Mutation
from tests.simulation.plants import Unplantable, place_of, planted_trees
from tests.simulation.record import fails

FOUND: dict[str, Any] = json.loads(CAUGHT.read_text())


def test_at_least_forty_bugs_are_planted_and_all_are_caught() -> None:
    assert len(MUTATIONS) >= 40
    assert sorted(FOUND) == sorted(mutation.name for mutation in MUTATIONS)
    assert [name for name, caught in FOUND.items() if caught is None] == []


#: The journals below tell of each every time; of the worlds in which they were found, every third is enough.
WORLDS = [
    pytest.param(mutation, marks=[pytest.mark.long] * (number % 3 > 0), id=mutation.name)
    for number, mutation in enumerate(MUTATIONS)
]


@pytest.mark.parametrize("mutation", WORLDS)
def test_a_planted_bug_is_caught(mutation: Mutation) -> None:
    seed = FOUND[mutation.name]["seed"]
    again = f'after a change of the core or the simulator: python -m tests.simulation.mutants "{mutation.name}"'
    assert hunt(mutation, seed, 1) is not None, again


@pytest.mark.parametrize("mutation", MUTATIONS + SHOWN_BY_JOURNAL, ids=lambda mutation: mutation.name)
def test_a_planted_bug_fails_its_journal_and_the_healthy_core_does_not(mutation: Mutation) -> None:
    """Unlike a seed, its journal tells of it whatever numbers a world draws."""
    kept = load(PLANTED / f"{slug(mutation.name)}.jsonl.gz")
    assert fails(kept) == [], kept.said
    with planted(mutation):
        assert fails(kept) != [], f'python -m tests.simulation.record "{mutation.name}" makes another journal'


def test_the_core_without_a_bug_is_caught_by_none() -> None:
    seeds = sorted({caught["seed"] for caught in FOUND.values()})
    assert [hunt(None, seed, 1) for seed in seeds[:3]] == [None, None, None]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (Change("no_such_function", "pass", ""), "is in no module"),
        (Change("assign", "worker.flies", "False"), "occurs 0 times"),
        (Change("assign", "endpoint", "None"), "times, and must once"),
        (Change("state:finished", "pass", ""), "is in no module"),
    ],
)
def test_a_bug_that_cannot_be_planted_any_more_says_so(change: Change, said: str) -> None:
    with pytest.raises(Unplantable, match=said):
        planted_trees(Mutation("a bug", (change,)))


def test_a_bug_is_planted_whatever_the_formatting_and_the_comments() -> None:
    """What is compared are syntax trees: the same code on one line, without its comments, is found."""
    mutation = next(m for m in MUTATIONS if m.name == "a grant never expires")
    (change,) = mutation.changes
    assert change.old not in place_of(change).path.read_text()
    assert len(planted_trees(mutation)) == 1
