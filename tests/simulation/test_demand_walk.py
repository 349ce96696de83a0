"""All states of small worlds around `nullworker.demand`: it opens and withdraws what the queue calls for."""

from __future__ import annotations

from typing import Any

import pytest

from nullworker.demand import evidence
from nullworker.demand import plan as planning
from tests.simulation.demand_world import SCOPES, Broken, Scope, World

STATES = 8_000
#: What `make test-long` walks through.
FURTHER = 20_000


@pytest.mark.parametrize("scope", SCOPES.values(), ids=lambda scope: scope.name)
@pytest.mark.parametrize("states", [STATES, pytest.param(FURTHER, marks=pytest.mark.long)])
def test_reservations_are_as_many_as_the_jobs_that_can_be_served(states: int, scope: Scope) -> None:
    world = World(scope)
    world.walk(states)
    assert scope.sometimes <= world.seen
    assert world.states >= states


def _one_more(*args: Any, before: Any = planning.want) -> int:
    wanted: int = before(*args)
    return wanted + 1 if wanted else 0


def _none_at_work(*_: Any) -> int:
    return 0


def _unknown_is_zero(reading: Any, *args: Any, before: Any = planning.at_work) -> int:
    at_work: int = 0 if reading.depth.in_flight is None else before(reading, *args)
    return at_work


def _covers_nothing(*_: Any) -> bool:
    return False


@pytest.mark.parametrize(
    ("function", "bug", "scope"),
    [
        ("want", _one_more, "capped"),
        ("at_work", _none_at_work, "late"),
        ("at_work", _unknown_is_zero, "unknown"),
        ("covers", _covers_nothing, "late"),
    ],
)
def test_a_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, function: str, bug: Any, scope: str) -> None:
    for module in (planning, evidence):
        monkeypatch.setattr(module, function, bug, raising=module is planning)
    with pytest.raises(Broken):
        World(SCOPES[scope]).walk(STATES)
