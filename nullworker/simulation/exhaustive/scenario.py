"""A broken promise as a journal that `nullworker replay` runs, with the moves and the broken promise as remarks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from nullworker.simulation.exhaustive.moves import apply
from nullworker.simulation.exhaustive.promises import Broken
from nullworker.simulation.exhaustive.roots import at_root
from nullworker.simulation.exhaustive.settle import settle
from nullworker.simulation.exhaustive.walk import promise_of

if TYPE_CHECKING:
    from nullworker.simulation.exhaustive.scope import Scope
    from nullworker.simulation.exhaustive.walk import Found


def scenario(scope: Scope, found: Found) -> list[str]:
    """The lines of the journal; at the last the promise is broken.

    Args:
        scope: of the walk.
        found: what it found.
    """
    lines: list[str] = [f"# {scope.name} ({scope.about}), from the root {found.root}"]
    with contextlib.suppress(Exception):
        world = at_root(scope, found.root, lines)
        for move in found.path:
            lines.append(f"# {said(move)}")
            apply(world, move)
        lines.append("# the faults end")
        settle(world, set())
    lines.append(f"# {found.promise} is broken: {' '.join(found.message.split())}")
    return lines


def still_breaks(scope: Scope, found: Found) -> bool:
    """Whether the same moves break the same promise with the core as it is loaded now."""
    try:
        world = at_root(scope, found.root)
        for move in found.path:
            apply(world, move)
        settle(world, set())
    except Exception as error:
        return promise_of(error)[0] == found.promise or isinstance(error, Broken)
    return False


def said(move: tuple[object, ...]) -> str:
    """A move for people: its name, and the numbers of requests and workers."""
    return " ".join(str(part) for part in move)
