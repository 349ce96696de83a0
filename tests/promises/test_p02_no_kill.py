"""P2: scaling never stops or destroys a worker that holds a reservation or was granted one."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from nullworker.core import commands, events
from nullworker.core.parameters import TESTED_PARAMETERS, EndpointState, Parameters
from nullworker.testing.small_world import ENDPOINT, GROUP, SmallWorld

pytestmark = pytest.mark.promise("P2")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "parameters",
    [
        TESTED_PARAMETERS,
        replace(TESTED_PARAMETERS, inactivity_timeout=1.0, cold_workers=3),
        Parameters(min_load=0.0, cold_workers=0),
        Parameters(min_load=300.0, target_util=0.9, cold_mult=2.0, max_workers=6, inactivity_timeout=2.0),
    ],
)
def test_whatever_comes_and_goes_only_free_workers_go(parameters: Parameters, seed: int) -> None:
    world, random = SmallWorld(parameters), Random(seed)
    for idx in range(1, 80):
        world.ask(idx)
        world.pass_time(random.uniform(0, 5))
        for held in list(world.holders()):
            if random.random() < 0.3:
                world.close(held)
        changed = replace(parameters, min_load=random.choice([0.0, 400.0]), max_workers=random.choice([1, 6, 16]))
        world.send(events.EndpointPut(ENDPOINT, "null", changed))
    assert world.killed == []
    assert any(isinstance(c, (commands.Stop, commands.Destroy)) for c in world.commands), "the fleet did shrink"


@pytest.mark.parametrize(
    "word",
    [
        events.EndpointDeleted(ENDPOINT),
        events.WorkergroupDeleted(GROUP),
        events.WorkersUpdated(GROUP),
        events.EndpointPut(ENDPOINT, "null", replace(TESTED_PARAMETERS, state=EndpointState.STOPPED)),
        events.EndpointPut(ENDPOINT, "null", replace(TESTED_PARAMETERS, max_workers=0)),
    ],
    ids=lambda word: type(word).__name__,
)
def test_an_operators_word_waits_for_the_holders(word: events.Event) -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.ask(2)
    world.pass_time(5)
    world.send(word)
    world.pass_time(600)
    assert sorted(world.holders()) == [1, 2]
    world.close(1)
    world.pass_time(30)
    assert sorted(world.holders()) == [2]
    assert world.running() == 1
    assert world.killed == []


def test_a_worker_that_is_granted_and_not_yet_held_stays() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, inactivity_timeout=0.5), hop_s=12.0)
    world.ask(1)
    world.pass_time(14)  # granted at 2.1 s, and the client takes 12 s to its worker
    assert world.of(commands.Destroy) == []
    world.pass_time(1)
    assert world.holders() == {1: 1}


def test_deletion_by_force_ends_holders_and_is_recorded_as_the_operators_word() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(5)
    world.send(events.EndpointDeleted(ENDPOINT, force=True))
    world.pass_time(1)
    assert world.killed == [(1, "endpoint null is deleted")]
    assert [note.request_idx for note in world.notes("session_lost")] == [1]


def test_an_end_by_its_owners_hand_is_recorded_as_that() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(5)
    world.kill(1, "pre-empted by its owner")
    assert "pre-empted by its owner" in world.notes("session_lost")[0].reason
