"""P1: a worker never holds two reservations, and a request is never given two workers unless the first is refuted."""

from __future__ import annotations

from random import Random

import pytest

from nullworker.core import commands, events, limits
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.small_world import ENDPOINT, SmallWorld

pytestmark = pytest.mark.promise("P1")


@pytest.mark.parametrize("seed", range(5))
def test_in_any_coming_and_going_a_worker_has_one_holder_and_a_holder_one_worker(seed: int) -> None:
    world, random = SmallWorld(TESTED_PARAMETERS), Random(seed)
    for idx in range(1, 200):
        world.ask(idx)
        world.pass_time(random.uniform(0, 1))
        for held in list(world.holders()):
            if random.random() < 0.1:
                world.close(held)
        held_by = [idx for box in world.boxes.values() for idx in box.sessions]
        assert len(held_by) == len(set(held_by))
        assert all(len(box.sessions) <= 1 for box in world.boxes.values())
    assert all(client.refusals == 0 for client in world.clients.values()), (
        "no client was sent to a worker that refused it"
    )


def test_asked_again_a_request_is_answered_with_the_same_worker() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(5)
    world.send(events.Asked(ENDPOINT, 1, 100.0))
    first, *others = world.of(commands.Grant)
    assert [grant.worker_id for grant in others] == [first.worker_id]


def test_an_unused_grant_binds_its_worker_until_it_has_run_out_and_the_worker_said_what_it_holds() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(1)
    world.vanish(1)  # its connection hangs half open: it is answered, and never goes to the worker
    world.pass_time(1.2)
    (granted,) = world.of(commands.Grant)
    granted_at = world.now
    world.ask(2)
    world.pass_time(limits.GRANT_TTL_S)
    assert world.holders() == {2: 2}, "the second request got a worker of its own"
    world.pass_time(limits.GRANT_REPORT_S)
    assert world.notes("grant_expired")[0].request_idx == 1
    while not world.engine.state.workers[granted.worker_id].grantable:
        world.pass_time(1)
    assert world.now - granted_at > limits.GRANT_TTL_S + limits.RESEND_S, "an older report may be on its way until then"
    world.ask(3)
    world.pass_time(0.1)
    assert world.holders() == {2: 2, 3: granted.worker_id}, "and the first worker serves again"


def test_a_request_whose_worker_died_gets_another_and_never_a_second_living_one() -> None:
    world = SmallWorld(TESTED_PARAMETERS, hop_s=1.0)
    world.ask(1)
    world.pass_time(2.5)  # granted, and its client is on its way
    world.kill(1)
    world.pass_time(10)
    assert world.holders() == {1: 2}
    assert [grant.worker_id for grant in world.of(commands.Grant)] == [1, 2]
