"""P9: what bears our mark is known or destroyed in bounded time, nothing else is touched, and every grant ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nullworker.core import commands, events, limits
from nullworker.core.causes import Cause
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.small_world import FLEET, Box, SmallWorld

pytestmark = pytest.mark.promise("P9")

LIST_PERIOD_S = 30.0


def live(world: SmallWorld, seconds: float) -> None:
    """Lets time pass while the fleet is asked for its list now and then, as an engine does."""
    end = world.now + seconds
    while world.now < end:
        world.pass_time(LIST_PERIOD_S)
        world.list_fleet()


def test_an_unknown_instance_is_destroyed_after_a_grace_period() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.boxes[77] = Box(77, running=True)
    live(world, limits.LIST_LAG_S - LIST_PERIOD_S)
    assert world.of(commands.Destroy) == []
    live(world, 3 * LIST_PERIOD_S)
    assert world.boxes == {}
    assert world.of(commands.Destroy)[0].cause is Cause.UNKNOWN_INSTANCE


def test_the_id_of_an_unknown_instance_is_never_given_to_another() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.boxes[77] = Box(77, running=True)
    world.list_fleet()
    world.ask(1)
    world.pass_time(5)
    assert world.holders() == {1: 78}


def test_what_is_destroyed_without_success_is_destroyed_again_until_it_is_gone() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, inactivity_timeout=1.0))
    world.ask(1)
    world.pass_time(5)
    world.order_s = 1e9  # the fleet says yes and does nothing
    world.close(1)
    world.pass_time(1800)
    orders = world.of(commands.Destroy)
    assert 5 <= len(orders) <= 1800 / limits.ORDER_TIMEOUT_S + 1
    world.order_s = 0.1
    live(world, limits.ORDER_TIMEOUT_S + 60)
    assert world.boxes == {}
    assert world.engine.state.workers == {}


def test_a_creation_whose_answer_was_lost_is_found_by_the_list() -> None:
    world = SmallWorld(TESTED_PARAMETERS, order_s=1e9)
    world.ask(1)
    world.pass_time(1)
    world.send(events.InstanceFailed(1, "create", "the answer was lost", definite=False))
    world.boxes[1] = Box(1, running=True, boots=1, ready=True)
    world.pass_time(1)
    world.list_fleet()
    world.report(1)
    world.pass_time(1)
    assert world.holders() == {1: 1}
    assert len(world.of(commands.Create)) == 1


def test_no_order_ever_goes_to_what_we_did_not_make() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    joined = world.join(500)
    world.ask(1)
    world.pass_time(1)
    assert world.holders() == {1: 500}, "it is routed to"
    world.close(1)
    live(world, 600)
    joined.error = "it broke"
    world.report(500)
    world.send(events.EndpointDeleted(1, force=True))
    world.pass_time(60)
    orders = [c for c in world.commands if isinstance(c, (commands.Start, commands.Stop, commands.Destroy))]
    assert [order for order in orders if order.worker_id == 500] == []
    assert world.engine.state.workers == {}, "it is merely forgotten"


@pytest.mark.parametrize("vanishes_after_s", [0.0, 1.0])
def test_an_unused_grant_ends_in_bounded_time(vanishes_after_s: float) -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(vanishes_after_s)
    world.vanish(1)
    live(world, world.boot_s + limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    assert world.engine.state.reservations == {}
    live(world, 90)
    assert world.boxes == {}, "after which its worker goes"
    assert world.of(commands.Destroy)[0].fleet == FLEET
