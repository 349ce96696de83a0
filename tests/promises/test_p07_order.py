"""P7: first come, first served within an endpoint; a waiter whose grant did not take keeps its place."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.small_world import HOLD_S, POLL_S, SmallWorld

pytestmark = pytest.mark.promise("P7")


def served(world: SmallWorld) -> list[int]:
    """Who got a worker, in the order of getting."""
    held = [client for client in world.clients.values() if client.held_at is not None]
    return [client.request_idx for client in sorted(held, key=lambda client: (client.held_at, client.request_idx))]


@pytest.mark.parametrize("max_workers", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_workers_go_to_those_who_came_first(max_workers: int, seed: int) -> None:
    """A worker that is freed between two polls of the client whose turn it is waits for that client."""
    world, random = SmallWorld(replace(TESTED_PARAMETERS, max_workers=max_workers)), Random(seed)
    for idx in range(1, 31):
        world.ask(idx)
        world.pass_time(random.uniform(0.1, 2))
    while len(served(world)) < 30:
        held = sorted(world.holders())
        if held:
            world.close(random.choice(held))
        world.pass_time(random.uniform(0.5, 15))
    late = [idx for place, idx in enumerate(served(world)) if place - (idx - 1) >= max_workers]
    assert late == [], "no request was passed by more others than there are workers"


def test_a_waiter_whose_worker_died_before_it_came_there_is_served_before_those_behind_it() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=1), hop_s=0.5)
    for idx in (1, 2, 3):
        world.ask(idx)
    world.pass_time(world.boot_s + 0.3)  # granted to 1, which is on its way
    world.kill(1)
    world.pass_time(10)
    assert served(world) == [1]
    world.close(1)
    world.pass_time(HOLD_S + POLL_S)
    assert served(world) == [1, 2]


def test_a_waiter_that_was_refused_is_served_before_those_behind_it() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(3)
    world.close(1)
    world.boxes[1].sessions[77] = 100.0  # somebody's whose grant had run out; it has not told of it yet
    world.ask(2)
    world.ask(3)
    world.pass_time(0.01)
    assert world.clients[2].refusals == 1
    world.pass_time(0.5)
    world.boxes[1].sessions.clear()
    world.report(1)
    world.pass_time(10)
    assert served(world) == [1, 2, 3]
    assert world.holders()[2] == 1


def test_the_order_outlives_a_restart() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=1))
    for idx in range(1, 6):
        world.ask(idx)
        world.pass_time(1)
    world.crash()
    world.pass_time(1.5)
    world.start_again()
    world.pass_time(30)
    for idx in range(1, 6):
        assert list(world.holders()) == [idx]
        world.close(idx)
        world.pass_time(HOLD_S + POLL_S)
