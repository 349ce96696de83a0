"""All states of small worlds: no promise is broken in any, and a walk sees what it is there for."""

from __future__ import annotations

import dataclasses
import json
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.core import events
from nullworker.core.engine import Engine
from nullworker.core.invariants import check
from nullworker.core.journal import replay
from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec
from nullworker.simulation.exhaustive.fingerprint import RULES, fingerprint
from nullworker.simulation.exhaustive.model import Client, Instance
from nullworker.simulation.exhaustive.moves import Move, apply, moves
from nullworker.simulation.exhaustive.roots import at_root
from nullworker.simulation.exhaustive.scenario import scenario, still_breaks
from nullworker.simulation.exhaustive.scope import SCOPES, Scope
from nullworker.simulation.exhaustive.walk import Found, walk
from tests.simulation.exhaustive_bugs import ALL, CAUGHT, hunt

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.simulation.exhaustive.world import World

#: Of each scope: enough that all occurs that must, in half a minute of one core for all of them.
STATES = 8_000
#: Of these, something that must occur is further away.
RARE = {"again": 13_000, "failures": 15_000, "fleet": 20_000}
#: What `make test-long` walks through.
FURTHER = 20_000
SETTLES = 8


@pytest.mark.parametrize("scope", SCOPES.values(), ids=lambda scope: scope.name)
@pytest.mark.parametrize("least", [STATES, pytest.param(FURTHER, marks=pytest.mark.long)])
def test_no_promise_is_broken_in_any_state(least: int, scope: Scope) -> None:
    states = max(least, RARE.get(scope.name, 0))
    walked = walk(scope, states, SETTLES)
    again = f"nullworker simulate --exhaustive --scenario {scope.name} --states {states}"
    assert walked.found is None, again
    assert walked.unseen == []
    assert walked.states >= states


def test_a_walk_is_the_same_each_time() -> None:
    first, second = (walk(SCOPES["restarts"], 2_000, 0) for _ in range(2))
    assert (first.states, first.transitions, first.depth) == (second.states, second.transitions, second.depth)


def test_each_field_of_the_core_counts_or_is_known_not_to() -> None:
    """A field that is added to the core fails here until it has a rule."""
    engine = _sample()
    state = engine.state
    worker, reservation = state.workers[1], state.reservations[1]
    parts: list[Any] = [
        state.endpoints[1],
        state.endpoints[1].line,
        state.workergroups[1],
        worker,
        worker.order,
        worker.report_order,
        worker.finishes,
        worker.trust,
        reservation,
        reservation.delivery,
        state.listening,
        next(iter(state.unknown_instances.values())),
    ]
    fields = {type(part).__name__: [field.name for field in dataclasses.fields(part)] for part in parts}
    fields["EngineState"] = list(vars(state))
    fields |= {kind.__name__: list(kind._fields) for kind in (Instance, Client)}
    assert {name: sorted(names) for name, names in fields.items()} == {
        name: sorted(rules) for name, rules in RULES.items()
    }


def _sample() -> Engine:
    engine = Engine()
    engine.handle(events.EndpointPut(1, "sample", TESTED_PARAMETERS), 0.0)
    engine.handle(events.WorkergroupPut(WorkergroupSpec(1, 1, "sample")), 0.0)
    engine.handle(events.Asked(1, 1, 1.0), 0.0)
    engine.handle(events.FleetListed("sample", 0.0, ((1_000, "running"),)), 0.0)
    return engine


@pytest.mark.parametrize("scope", SCOPES.values(), ids=lambda scope: scope.name)
def test_what_is_brought_back_goes_on_as_before(scope: Scope) -> None:
    """From each state of some random paths: each move leads to the same again after all the others were tried."""
    for seed in range(10):
        random, world = Random(seed), at_root(scope, scope.roots[seed % len(scope.roots)])
        for _ in range(12):
            saved, before = world.save(), fingerprint(world)
            first = [_outcome(world, saved, move) for move in moves(world)]
            assert first == [_outcome(world, saved, move) for move in moves(world)]
            assert fingerprint(world) == before
            check(world.engine)
            if not moves(world):
                break  # all clients are done, and nothing is left
            apply(world, random.choice(moves(world)))


def _outcome(world: World, saved: tuple[Any, ...], move: Move) -> tuple[int, list[Command]]:
    number = world.engine.state.event_number
    apply(world, move)
    state = world.engine.state
    outcome = fingerprint(world), list(state.out) if state.event_number != number else []
    world.load(saved)
    return outcome


@pytest.mark.parametrize("scope", SCOPES.values(), ids=lambda scope: scope.name)
def test_states_that_are_taken_for_one_go_on_alike(scope: Scope) -> None:
    """A fingerprint that leaves out something that counts takes two states for one that are not."""
    known: dict[int, tuple[set[int], list[Move]]] = {}
    compared = 0
    for seed in range(60):
        random = Random(seed)
        path: list[Move] = []
        root = random.choice(scope.roots)
        world = at_root(scope, root)
        for _ in range(8):
            key, saved = fingerprint(world), world.save()
            successors = {_outcome(world, saved, move)[0] for move in moves(world)}
            if key in known:
                compared += 1
                assert successors == known[key][0], (root, path, known[key][1])
            known.setdefault(key, (successors, [(root,), *path]))
            if not moves(world):
                break
            path.append(random.choice(moves(world)))
            apply(world, path[-1])
    assert compared > 50


def test_what_breaks_a_promise_is_a_journal_that_can_be_replayed() -> None:
    bug = next(mutation for mutation in ALL if mutation.name == "last come, first served")
    found = hunt(bug)
    assert found is not None
    scope = SCOPES[found["scope"]]
    healthy = Found("P7", "as with the bug", "free", [("ask",), ("ask",), ("leave", 2)])
    lines = scenario(scope, healthy)
    assert lines[-1] == "# P7 is broken: as with the bug"
    assert "# leave 2" in lines
    replayed = replay(lines)
    assert replayed.difference is None
    assert replayed.failure is None
    assert replayed.handled > 10
    assert not still_breaks(scope, healthy)


KEPT: dict[str, Any] = json.loads(CAUGHT.read_text())
QUICK_STATES = 300
LONG_STATES = 3_000
QUICK = [
    pytest.param(mutation, marks=[pytest.mark.long] * (caught["states"] > QUICK_STATES), id=mutation.name)
    for mutation in ALL
    if (caught := KEPT.get(mutation.name)) is not None and caught["states"] <= LONG_STATES
]


def test_what_was_hunted_is_still_planted() -> None:
    assert set(KEPT) <= {mutation.name for mutation in ALL}
    assert QUICK


@pytest.mark.parametrize("mutation", QUICK)
def test_a_planted_bug_that_is_found_soon_is_found_again(mutation: Any) -> None:
    caught = KEPT[mutation.name]
    again = f'after a change: python -m tests.simulation.exhaustive_bugs "{mutation.name}"'
    assert hunt(mutation, [caught["scope"]]) is not None, again
