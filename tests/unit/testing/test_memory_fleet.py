"""The fleet in memory keeps the rules of a fleet, and breaks those it is told to."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import Fleet, FleetError, Instance, InstanceState, PlaceFree
from nullworker.testing.fleets import check_fleet, plain_spec
from nullworker.testing.memory_fleet import MemoryFleet, MemoryWorld
from tests.kit.fleet_faults import memory_faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.testing.fleet_kit import OnExit, OnNotice

MARK = "mark"


async def opened(world: MemoryWorld, exits: list[tuple[int, str]] | None = None) -> MemoryFleet:
    noted = exits if exits is not None else []
    return await MemoryFleet.open({"world": world}, MARK, lambda *exit_: noted.append(exit_))


async def test_it_passes_the_conformance_kit() -> None:
    """Every check runs, and none is left out."""
    world = MemoryWorld()

    async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
        return await MemoryFleet.open({"world": world}, mark, on_exit, on_notice)

    async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
        world.crash(mark, worker_id)

    @contextlib.asynccontextmanager
    async def shortage(_fleet: Fleet, _mark: str) -> AsyncIterator[None]:
        world.be_short("There is no room.")
        yield
        world.be_short("")

    faults = memory_faults(world)
    result = await check_fleet(make_fleet, crash=crash, shortage=shortage, faults=faults, quiet_s=0)
    assert result.left_out == ()
    assert world.instances == {}


async def test_it_needs_a_world() -> None:
    with pytest.raises(FleetError, match="MemoryWorld"):
        await MemoryFleet.open({}, MARK, lambda *_: None)


async def test_a_refused_verb_is_not_done_and_says_so() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    world.fail("create")
    with pytest.raises(FleetError) as raised:
        await fleet.create(plain_spec(1))
    assert raised.value.definite
    assert world.state(MARK, 1) is None
    await fleet.create(plain_spec(1))
    assert world.state(MARK, 1) is InstanceState.RUNNING


async def test_a_verb_whose_answer_is_lost_is_done_and_says_that_it_does_not_know() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    await fleet.create(plain_spec(1))
    world.fail("destroy", after_effect=True)
    with pytest.raises(FleetError) as raised:
        await fleet.destroy(1)
    assert not raised.value.definite
    assert world.state(MARK, 1) is None


async def test_a_verb_whose_request_is_lost_is_not_done_and_says_that_it_does_not_know() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    world.fail("create", definite=False, message="The line is down.")
    with pytest.raises(FleetError, match=r"^The line is down\.$") as raised:
        await fleet.create(plain_spec(1))
    assert not raised.value.definite
    assert world.state(MARK, 1) is None


async def test_a_fault_can_be_for_one_worker_and_several_times() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    world.fail("create", worker_id=2, times=2)
    await fleet.create(plain_spec(1))
    for _ in range(2):
        with pytest.raises(FleetError):
            await fleet.create(plain_spec(2))
    await fleet.create(plain_spec(2))
    assert world.calls == [("create", 1), ("create", 2), ("create", 2), ("create", 2)]


async def test_a_held_verb_is_done_when_it_is_released() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    world.hold("create")
    tasks = [asyncio.create_task(fleet.create(plain_spec(worker_id))) for worker_id in (1, 2)]
    await world.wait_called("create", 2)
    assert world.instances == {}
    world.release("create")
    await asyncio.gather(*tasks)
    assert {worker_id for _, worker_id in world.instances} == {1, 2}


async def test_a_slow_verb_waits_with_the_sleep_it_was_given() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    world = MemoryWorld(sleep=sleep)
    fleet = await opened(world)
    world.slow("stop", 30.0)
    await fleet.create(plain_spec(1))
    await fleet.stop(1)
    world.slow("stop", 0)
    await fleet.stop(1)
    assert slept == [30.0]


async def test_a_lie_is_in_the_list_and_nowhere_else() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    await fleet.create(plain_spec(1))
    await fleet.create(plain_spec(2))
    world.lie(MARK, 1, None)
    world.lie(MARK, 2, InstanceState.STOPPED)
    world.lie(MARK, 9, InstanceState.RUNNING)
    assert [(each.worker_id, each.state) for each in await fleet.list()] == [
        (2, InstanceState.STOPPED),
        (9, InstanceState.RUNNING),
    ]
    world.be_honest()
    assert await fleet.list() == [Instance(1, InstanceState.RUNNING), Instance(2, InstanceState.RUNNING)]


async def test_a_list_can_fail() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    world.fail("list")
    with pytest.raises(FleetError):
        await fleet.list()
    assert await fleet.list() == []


async def test_a_crash_is_announced_and_a_loss_is_not() -> None:
    world = MemoryWorld()
    exits: list[tuple[int, str]] = []
    fleet = await opened(world, exits)
    await fleet.create(plain_spec(1))
    await fleet.create(plain_spec(2))
    world.crash(MARK, 1, "killed by signal 9 (SIGKILL)")
    world.crash(MARK, 1)
    world.lose(MARK, 2)
    assert exits == [(1, "killed by signal 9 (SIGKILL)")]
    assert await fleet.list() == [Instance(1, InstanceState.EXITED, "killed by signal 9 (SIGKILL)")]


async def test_a_fault_for_a_verb_that_no_fleet_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="reboot"):
        MemoryWorld().fail("reboot")


async def test_a_notice_reaches_the_fleets_that_are_open_under_the_mark() -> None:
    world = MemoryWorld()
    told: list[object] = []
    fleet = await MemoryFleet.open({"world": world}, MARK, lambda *_: None, told.append)
    world.give_notice(MARK, PlaceFree())
    world.give_notice("another", PlaceFree())
    await fleet.close()
    world.give_notice(MARK, PlaceFree())
    assert told == [PlaceFree()]


async def test_the_end_of_a_log_is_what_the_world_has() -> None:
    world = MemoryWorld()
    fleet = await opened(world)
    await fleet.create(plain_spec(1))
    world.instances[MARK, 1].log = b"all that it printed"
    assert await fleet.read_log(1, 7) == b"printed"
