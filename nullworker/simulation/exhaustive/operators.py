"""What an operator does to the small world's endpoint: other parameters, a rolling update, its deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.core.events import EndpointDeleted, EndpointPut, WorkersUpdated
from nullworker.simulation.exhaustive.scope import DELETED, ENDPOINT, GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.exhaustive.world import World

_PUTS = ("suspended", "stopped", "capped", "cold")


def possible(world: World, faults: tuple[str, ...], found: list[tuple[Any, ...]]) -> None:
    """Adds what the operator can do next.

    Args:
        world: where it is done.
        faults: what may go wrong, or be done by an operator, on this path from here.
        found: the moves are added to these.
    """
    if world.put == DELETED:
        return
    if world.put:
        found.append(("put", ""))
    found += [("put", name) for name in _PUTS if name in faults and name != world.put]
    if "updated" in faults:
        found.append(("update",))
    if DELETED in faults:
        found += [("delete", False), ("delete", True)]


def _put(world: World, name: str) -> None:
    if name:
        world.fault()
    world.put, world.endpoint = name, world.scope.as_put[name]
    world.handle(EndpointPut(ENDPOINT, "small", world.endpoint))


def _update(world: World) -> None:
    world.fault()
    world.handle(WorkersUpdated(GROUP))


def _delete(world: World, force: bool) -> None:
    world.fault()
    world.put = DELETED
    world.handle(EndpointDeleted(ENDPOINT, force))


DO: dict[str, Callable[..., None]] = {"put": _put, "update": _update, "delete": _delete}
