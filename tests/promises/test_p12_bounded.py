"""P12: creations, orders and changes of direction have bounds; what keeps failing is retried ever more slowly."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from nullworker.core import commands, explain, limits
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.small_world import HOLD_S, POLL_S, SmallWorld

pytestmark = pytest.mark.promise("P12")


def test_a_workergroup_that_keeps_failing_is_tried_with_growing_pauses_and_waiters_are_told() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.creates_fail = True
    for idx in range(1, 9):
        world.ask(idx)
    attempts: list[float] = []
    while world.now < 1000.0 + 3600:
        before = len(world.of(commands.Create))
        world.pass_time(0.5)
        if len(world.of(commands.Create)) > before:
            attempts.append(world.now)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert all(later >= earlier - 1 for earlier, later in pairwise(pauses))
    assert pauses[-1] == pytest.approx(limits.BACKOFF_MAX_S, abs=1)
    assert len(world.of(commands.Create)) <= 8 * limits.FAILURES_BEFORE_ONE_AT_A_TIME + 20
    why = explain.why_waiting(world.engine, 1)
    assert "no machine is to be had" in why
    assert "next try in" in why
    world.creates_fail = False
    world.pass_time(limits.BACKOFF_MAX_S + world.boot_s * 2 + HOLD_S + POLL_S)
    assert len(world.holders()) == 8, "and once it is well, all are served"


def test_workers_that_die_as_soon_as_they_are_up_are_a_failing_workergroup() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, min_load=100.0))
    deaths = 0
    for _ in range(3600):
        world.pass_time(1)
        for box in list(world.boxes.values()):
            if box.ready:
                world.kill(box.worker_id)
                deaths += 1
    assert deaths <= 20
    assert "exit code 1" in world.notes("workergroup_backs_off")[-1].reason


@pytest.mark.parametrize("cycle_s", [1.0, 8.0, 15.0])
def test_creations_per_reservation_and_changes_of_direction_are_bounded(cycle_s: float) -> None:
    """Load that comes and goes: within inactivity_timeout nothing is made twice, beyond it once a cycle."""
    world = SmallWorld(replace(TESTED_PARAMETERS, inactivity_timeout=10.0))
    cycles = int(600 / cycle_s)
    for cycle in range(cycles):
        world.ask(cycle + 1)
        world.pass_time(cycle_s / 2 + world.boot_s)
        world.close(cycle + 1)
        world.pass_time(cycle_s / 2)
    creates = len(world.of(commands.Create))
    assert creates == (1 if cycle_s < 15 else creates)
    assert creates <= cycles
    turns = [
        isinstance(c, commands.Create) for c in world.commands if isinstance(c, (commands.Create, commands.Destroy))
    ]
    changes = sum(a != b for a, b in pairwise(turns))
    assert changes <= 2 * world.now / (10.0 + world.boot_s)


def test_a_fleet_that_does_not_answer_is_asked_again_at_bounded_intervals() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, inactivity_timeout=1.0))
    world.ask(1)
    world.pass_time(5)
    world.order_s = 1e9
    world.close(1)
    world.pass_time(3600)
    assert len(world.of(commands.Destroy)) <= 3600 / limits.ORDER_TIMEOUT_S + 1


def test_a_reservation_leads_to_one_creation_however_often_its_client_polls() -> None:
    world = SmallWorld(TESTED_PARAMETERS, boot_s=300.0)
    world.ask(1)
    world.pass_time(310)
    assert world.holders() == {1: 1}
    assert world.clients[1].calling > 30
    assert len(world.of(commands.Create)) == 1
