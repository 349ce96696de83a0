"""P16: a workergroup with a `fallback_after_s` grows only when the cheaper ones have been unable for that long."""

from __future__ import annotations

import pytest

from nullworker.core import commands, events
from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec
from nullworker.testing.small_world import ENDPOINT, FLEET, SmallWorld

pytestmark = pytest.mark.promise("P16")
CHEAP, DEAR = 1, 2


def two_fleets(fallback_after_s: float) -> SmallWorld:
    """A small world with a second workergroup, which is dearer."""
    world = SmallWorld(TESTED_PARAMETERS)
    dear = WorkergroupSpec(DEAR, ENDPOINT, FLEET, occupancy=1, price_per_hour=3.0, fallback_after_s=fallback_after_s)
    world.send(events.WorkergroupPut(dear))
    return world


def dear_ones(world: SmallWorld) -> list[int]:
    return [create.worker_id for create in world.of(commands.Create) if create.workergroup_id == DEAR]


def test_while_the_cheaper_has_places_nothing_else_is_used() -> None:
    world = two_fleets(30.0)
    for idx in range(1, 11):
        world.ask(idx)
        world.pass_time(20)
    assert len(world.holders()) == 10
    assert dear_ones(world) == []


@pytest.mark.parametrize("fallback_after_s", [0.0, 5.0, 60.0, 900.0])
def test_while_it_has_none_the_dearer_is_used_after_its_time(fallback_after_s: float) -> None:
    world = two_fleets(fallback_after_s)
    world.creates_fail = True
    asked_at = world.now
    world.ask(1)
    while not dear_ones(world):
        world.pass_time(0.5)
        assert world.now < asked_at + fallback_after_s + 5
    assert world.now >= asked_at + fallback_after_s


def test_what_fails_without_an_end_is_no_place_either() -> None:
    """Workers that are made, and die before they are ready."""
    world = two_fleets(60.0)
    asked_at = world.now
    world.ask(1)
    while not dear_ones(world):
        world.pass_time(1)
        for box in sorted(world.boxes):
            if box not in dear_ones(world):
                world.kill(box)
        assert world.now < asked_at + 400
    assert world.now >= asked_at + 60
