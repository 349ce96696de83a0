"""Where a walk begins: worlds in which some moves have been made already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.simulation.exhaustive import model
from nullworker.simulation.exhaustive.moves import Move, apply
from nullworker.simulation.exhaustive.world import World

if TYPE_CHECKING:
    from nullworker.simulation.exhaustive.scope import Scope

ROOTS: dict[str, tuple[Move, ...]] = {
    "empty": (),
    "free": (
        ("ask",),
        ("done", 1),
        ("report", 1),
        ("use", 1),
        ("report", 1),
        ("finish", 1),
        ("tell", 1),
        ("report", 1),
    ),
    "held": (("ask",), ("done", 1), ("report", 1), ("use", 1), ("report", 1)),
    #: A worker has a session of which its client and the engine have not heard.
    "unheard": (("ask",), ("done", 1), ("report", 1), ("use_unheard", 1)),
    "two": (
        ("ask",),
        ("ask",),
        ("done", 1),
        ("done", 2),
        ("report", 1),
        ("report", 2),
        ("use", 1),
        ("use", 2),
        ("report", 1),
        ("report", 2),
    ),
    #: An instance that bears the engine's mark, and that it never made.
    "unknown": (("unknown",),),
    #: A worker was stopped and started again, and a report of its first process is still under way.
    "again": (
        ("ask",),
        ("done", 1),
        ("report", 1),
        ("use", 1),
        ("report", 1),
        ("finish", 1),
        ("tell", 1),
        ("report", 1),
        ("beat_late", 1),
        ("until", "stop"),
        ("done", 1),
        ("ask",),
        ("done", 1),
        ("report", 1),
        ("use", 2),
        ("report", 1),
    ),
}


def _fitting(scope: Scope, move: Move) -> Move:
    return ("beat", *move[1:]) if move[0] == "report" and not scope.numbered else move


def at_root(scope: Scope, name: str, lines: list[str] | None = None) -> World:
    """A world in which what leads to a root has happened.

    Args:
        scope: the world's.
        name: of the root.
        lines: a journal of what happens is added to these; None: it is not kept.
    """
    world = World(scope, lines)
    for move in ROOTS[name]:
        if move[0] == "until":
            _until(world, move[1])
        elif move[0] == "unknown":
            world.set_instance(
                model.Instance(model.UNKNOWN_ID, model.READY, boot=1, made_at=world.now, heard_at=world.now)
            )
        else:
            apply(world, _fitting(scope, move))
    world.newcomers = scope.clients
    return world


def _until(world: World, verb: str) -> None:
    """Time passes until the engine orders this of a worker."""
    while not any(verb in instance.orders for instance in world.instances.values()):
        apply(world, ("wait",))
