"""P6: never more than `max_workers`, counting those being created and those whose creation is unknown."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from nullworker.core import commands, events
from nullworker.core.parameters import TESTED_PARAMETERS, Parameters
from nullworker.testing.small_world import SmallWorld

pytestmark = pytest.mark.promise("P6")


@pytest.mark.parametrize("max_workers", [0, 1, 3, 16])
@pytest.mark.parametrize("min_load", [0.0, 5_000.0])
def test_never_more_instances_than_max_workers(max_workers: int, min_load: float) -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=max_workers, min_load=min_load, cold_workers=9))
    for idx in range(1, 41):
        world.ask(idx)
        world.pass_time(0.3)
    world.pass_time(30)
    assert world.peak == max_workers
    assert len(world.holders()) == max_workers


def test_creations_whose_answer_was_lost_count() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=3), order_s=1e6)  # the fleet never answers
    for idx in range(1, 11):
        world.ask(idx)
        world.pass_time(20)
    assert len(world.of(commands.Create)) == 3


def test_workers_whose_end_is_ordered_and_not_done_count() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=2, inactivity_timeout=1.0))
    world.ask(1)
    world.ask(2)
    world.pass_time(5)
    world.order_s = 1e6  # the fleet hangs
    world.close(1)
    world.close(2)
    world.pass_time(10)
    world.ask(3)
    world.pass_time(100)
    assert len(world.of(commands.Create)) == 2


@pytest.mark.parametrize("seed", range(3))
def test_in_any_coming_and_going_the_cap_holds(seed: int) -> None:
    random = Random(seed)
    world = SmallWorld(Parameters(min_load=0.0, max_workers=5, cold_workers=5, inactivity_timeout=1.0), boot_s=3.0)
    for idx in range(1, 150):
        world.ask(idx)
        world.pass_time(random.uniform(0, 2))
        for held in list(world.holders()):
            if random.random() < 0.2:
                world.close(held)
        if world.boxes and random.random() < 0.1:
            world.kill(random.choice(sorted(world.boxes)))
    assert world.peak <= 5


def test_a_lowered_cap_ends_no_holder_and_lets_no_new_one_in() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    for idx in range(1, 5):
        world.ask(idx)
    world.pass_time(5)
    world.send(events.EndpointPut(1, "null", replace(TESTED_PARAMETERS, max_workers=2)))
    world.ask(5)
    world.pass_time(60)
    assert sorted(world.holders()) == [1, 2, 3, 4]
    for idx in (1, 2, 3):
        world.close(idx)
    world.pass_time(30)
    assert sorted(world.holders()) == [4, 5]
    assert len(world.boxes) == 2
