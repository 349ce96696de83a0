"""What the conformance kit has the places of fleets do wrong, and which of it a result says was not tried."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nullworker.fleets.base import EndsSoon
from nullworker.testing.fleets import PlaceFaults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.testing.fleets import FleetCheckResult
    from nullworker.testing.memory_fleet import MemoryWorld


def not_given(result: FleetCheckResult) -> set[str]:
    """The faults for which the kit was given no way; each check that was left out is for one."""
    return {each.rpartition("PlaceFaults.")[2].rstrip(")") for each in result.left_out}


def memory_faults(world: MemoryWorld) -> PlaceFaults:
    """All of them, in the memory fleet's world."""

    @contextlib.asynccontextmanager
    async def lost_answer(*_: object) -> AsyncIterator[None]:
        world.fail("create", after_effect=True)
        yield

    @contextlib.asynccontextmanager
    async def silence(*_: object) -> AsyncIterator[None]:
        with world.silent():
            yield

    @contextlib.asynccontextmanager
    async def kept(*_: object) -> AsyncIterator[None]:
        world.fail("destroy", definite=False)
        yield

    @contextlib.asynccontextmanager
    async def unstarted(*_: object) -> AsyncIterator[None]:
        with world.standing():
            yield

    async def ends_soon(_fleet: object, mark: str, worker_id: int) -> None:
        world.give_notice(mark, EndsSoon(worker_id, 30.0, "the machine is taken back"))

    async def moved(_fleet: object, mark: str, worker_id: int) -> None:
        world.instances[mark, worker_id].address = "elsewhere:1"

    def count(mark: str) -> int:
        return sum(whose.startswith(mark) for whose, _ in world.instances)

    return PlaceFaults(lost_answer, silence, kept, unstarted, ends_soon, moved, count)
