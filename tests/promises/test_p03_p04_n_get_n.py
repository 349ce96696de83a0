"""P3: N reservations get N workers, each within `target_queue_time` and one start-up; no step from N to N+1 stalls.
P4: with `target_util` 1, `min_load` 0 and cost = perf they get exactly N.

The table is over the parameter sets that people have tried for null workers: Vast's defaults, both queue times zero,
and the ones that are recommended. docs/scaling.md explains the figures.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from nullworker.core import events
from nullworker.core.parameters import TESTED_PARAMETERS, Parameters
from nullworker.testing.small_world import ENDPOINT, HOLD_S, POLL_S, TICK_S, SmallWorld

N = 16
#: From one client's call to the next one's: hand-overs, ticks and polls between target_queue_time and the boot.
SLACK_S = 1.0
SETS = [(0.9, 30.0, 10.0), (1.0, 30.0, 10.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.5)]
COSTS = [100.0, 200.0, 37.0, 0.0]


def small_world(
    target_util: float, max_queue_time: float, target_queue_time: float, occupancy: int | None
) -> SmallWorld:
    parameters = Parameters(
        min_load=0.0,
        cold_mult=0.0,
        cold_workers=0,
        max_workers=64,
        target_util=target_util,
        max_queue_time=max_queue_time,
        target_queue_time=target_queue_time,
    )
    return SmallWorld(parameters, occupancy=occupancy)


def most(target_util: float, cost: float) -> int:
    """Workers that the load alone wants: cost 200 on perf 100 is a second worker for each, 0.9 an extra one in nine."""
    return max(N, math.ceil(N * cost / 100.0 / target_util - 1e-9))


@pytest.mark.promise("P3")
@pytest.mark.promise("P4")
@pytest.mark.parametrize(("target_util", "max_queue_time", "target_queue_time"), SETS)
@pytest.mark.parametrize("cost", COSTS)
class TestNGetN:
    def test_at_once(self, target_util: float, max_queue_time: float, target_queue_time: float, cost: float) -> None:
        world = small_world(target_util, max_queue_time, target_queue_time, occupancy=1)
        for idx in range(1, N + 1):
            world.ask(idx, cost)
        world.pass_time(target_queue_time + world.boot_s + SLACK_S)
        assert sorted(world.holders()) == list(range(1, N + 1))
        assert len(set(world.holders().values())) == N
        world.pass_time(120)
        assert world.peak == most(target_util, cost)

    def test_one_by_one(self, target_util: float, max_queue_time: float, target_queue_time: float, cost: float) -> None:
        world = small_world(target_util, max_queue_time, target_queue_time, occupancy=1)
        for idx in range(1, N + 1):
            world.ask(idx, cost)
            world.pass_time(target_queue_time + world.boot_s + SLACK_S)
            assert sorted(world.holders()) == list(range(1, idx + 1)), f"the step from {idx - 1} to {idx} stalled"
        assert world.peak == most(target_util, cost)

    def test_where_occupancy_must_be_learnt_from_refusals(
        self, target_util: float, max_queue_time: float, target_queue_time: float, cost: float
    ) -> None:
        """An occupied worker that looks free by its queue time is asked at most once for each that comes."""
        world = small_world(target_util, max_queue_time, target_queue_time, occupancy=None)
        for idx in range(1, N + 1):
            world.ask(idx, cost)
            # It may be sent in vain, and ask again a tick later, to each that is not known to be full yet: one.
            world.pass_time(target_queue_time + world.boot_s + SLACK_S + 2 * TICK_S)
            assert sorted(world.holders()) == list(range(1, idx + 1)), f"the step from {idx - 1} to {idx} stalled"
        assert max(client.refusals for client in world.clients.values()) <= 2
        assert sum(client.refusals for client in world.clients.values()) <= N


@pytest.mark.promise("P4")
@pytest.mark.parametrize("count", range(1, N + 1))
@pytest.mark.parametrize("at_once", [True, False])
def test_exactly_n_workers_for_n_reservations_and_never_one_more(count: int, at_once: bool) -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    for idx in range(1, count + 1):
        world.ask(idx)
        if not at_once:
            world.pass_time(4)
    world.pass_time(60)
    assert len(world.holders()) == world.peak == world.running() == count


@pytest.mark.promise("P4")
def test_a_hand_over_creates_nothing() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    for idx in range(1, 5):
        world.ask(idx)
    world.pass_time(5)
    for idx in range(5, 50):
        world.close(idx - 4)
        world.pass_time(0.2)
        world.ask(idx)
        world.pass_time(0.2)
    assert world.peak == 4


@pytest.mark.promise("P3")
@pytest.mark.parametrize("lost", [1, 8])
def test_a_worker_that_dies_on_its_way_up_is_made_up_for(lost: int) -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    for idx in range(1, 9):
        world.ask(idx)
    world.pass_time(1)
    for worker_id in range(1, lost + 1):
        world.kill(worker_id)
    world.pass_time(1 + HOLD_S + POLL_S + 2 * world.boot_s)
    assert sorted(world.holders()) == list(range(1, 9))


@pytest.mark.promise("P3")
def test_an_endpoint_whose_cap_is_raised_serves_those_who_wait() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=2))
    for idx in range(1, 6):
        world.ask(idx)
    world.pass_time(30)
    assert sorted(world.holders()) == [1, 2]
    world.send(events.EndpointPut(ENDPOINT, "null", TESTED_PARAMETERS))
    world.pass_time(world.boot_s + HOLD_S + POLL_S)
    assert sorted(world.holders()) == [1, 2, 3, 4, 5]
