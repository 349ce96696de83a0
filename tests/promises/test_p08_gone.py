"""P8: a waiter that has gone is forgotten within `replay_timeout`, and nothing is created for it after that."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nullworker.core import commands, events
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.small_world import HOLD_S, SmallWorld

pytestmark = pytest.mark.promise("P8")

REPLAY_TIMEOUT_S = 60.0


def test_one_that_hangs_up_is_forgotten_at_once() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=0))
    world.ask(1)
    world.pass_time(1)
    world.leave(1)
    assert world.engine.state.reservations == {}


def test_one_that_never_asks_again_is_forgotten_within_replay_timeout() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=0))
    for idx in range(1, 10):
        world.ask(idx)
    world.pass_time(HOLD_S - 0.1)
    for idx in range(1, 10):
        world.send(events.HoldEnded(idx))
        world.vanish(idx)
    world.pass_time(REPLAY_TIMEOUT_S - 0.1)
    assert len(world.engine.state.reservations) == 9
    world.pass_time(0.2)
    assert world.engine.state.reservations == {}
    world.send(events.EndpointPut(1, "null", TESTED_PARAMETERS))
    world.pass_time(3600)
    assert world.of(commands.Create) == []


def test_a_worker_that_came_up_for_one_that_left_serves_the_next_and_else_goes() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(1)
    world.leave(1)
    world.pass_time(1)
    world.ask(2)
    world.pass_time(1)
    assert world.holders() == {2: 1}
    world.close(2)
    world.pass_time(60)
    assert world.boxes == {}
    assert len(world.of(commands.Create)) == 1


def test_one_that_vanished_does_not_keep_those_behind_it_waiting() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=1))
    world.ask(1)
    world.pass_time(3)
    world.ask(2)
    world.ask(3)
    world.pass_time(1)
    world.vanish(2)
    world.pass_time(HOLD_S)
    world.send(events.HoldEnded(2))  # its call ends, and it never polls again
    world.pass_time(10)
    world.close(1)
    world.pass_time(HOLD_S)
    assert list(world.holders()) == [3]
