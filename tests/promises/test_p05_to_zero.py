"""P5: with no demand the fleet reaches its floor within `inactivity_timeout` and a tick, and stays there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nullworker.core import commands, limits
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.small_world import SmallWorld

pytestmark = pytest.mark.promise("P5")


def used_and_left(world: SmallWorld, count: int) -> None:
    for idx in range(1, count + 1):
        world.ask(idx)
    world.pass_time(30)
    assert len(world.holders()) == count
    for idx in range(1, count + 1):
        world.close(idx)


@pytest.mark.parametrize("count", [1, 5, 16])
@pytest.mark.parametrize("inactivity_timeout", [1.0, 10.0, None])
def test_to_zero_within_inactivity_timeout_and_a_tick_and_not_before(
    count: int, inactivity_timeout: float | None
) -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, inactivity_timeout=inactivity_timeout))
    used_and_left(world, count)
    world.pass_time(world.parameters.idle_s - 0.01)
    assert world.running() == count
    world.pass_time(0.01 + limits.TICK_S + world.order_s)
    assert world.boxes == {}


@pytest.mark.parametrize("cold_workers", [0, 2, 5])
def test_what_stays_is_cold_workers_and_the_floor_of_min_load(cold_workers: int) -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, min_load=100.0, cold_workers=cold_workers, max_workers=20))
    used_and_left(world, 8)
    world.pass_time(60)
    assert world.running() == 1
    assert len(world.boxes) == max(1, cold_workers)


def test_nothing_is_created_or_started_again_until_someone_asks() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, cold_workers=2))
    used_and_left(world, 4)
    world.pass_time(60)
    before = len(world.commands)
    world.pass_time(24 * 3600)
    assert len(world.commands) == before
    world.ask(99)
    world.pass_time(world.order_s + world.start_s + 0.1)
    assert list(world.holders()) == [99], "and then an inactive one is back at once"
    assert len(world.of(commands.Start)) == 1
