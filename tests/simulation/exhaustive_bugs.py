"""Hunts the planted bugs by a walk through all states: ``python -m tests.simulation.exhaustive_bugs [NAME]...``.

Each bug is planted as `mutants` does it, and each scope is walked through so many states; what found it in the fewest
steps is kept in exhaustive_caught.json, which docs/exhaustive.md shows.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.mutants import planted
from tests.simulation.mutations import MUTATIONS, SHOWN_BY_JOURNAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.mutants import Bug

CAUGHT = Path(__file__).with_name("exhaustive_caught.json")
#: It needs two workergroups, and a walk's world has one.
NOT_HUNTED = "a stand-in does not wait"
ALL = tuple(bug for bug in (*MUTATIONS, *SHOWN_BY_JOURNAL) if bug.name != NOT_HUNTED)
#: States of each scope; and of these, one in so many is followed until all is at rest.
STATES_MAX = 8_000
SETTLES = 4


def hunt(bug: Bug, scopes: Sequence[str] = (), states_max: int = STATES_MAX) -> dict[str, Any] | None:
    """What finds the bug first; None: nothing does.

    Args:
        bug: what is planted; None: nothing.
        scopes: where to look; all of them, if none is named.
        states_max: of each scope.
    """
    with planted(bug):
        walk = importlib.import_module("nullworker.simulation.exhaustive.walk").walk
        every = importlib.import_module("nullworker.simulation.exhaustive.scope").SCOPES
        for name in scopes or every:
            walked = walk(every[name], states_max, SETTLES)
            found = walked.found
            if found is not None:
                return {
                    "promise": found.promise,
                    "scope": name,
                    "steps": len(found.path),
                    "states": walked.states,
                    "message": found.message.splitlines()[0][:200],
                }
    return None


def main(names: Sequence[str]) -> int:
    """Hunts all (or those named) and keeps what was found; the exit code is 0."""
    kept: dict[str, Any] = json.loads(CAUGHT.read_text()) if CAUGHT.exists() else {}
    for mutation in ALL:
        if names and mutation.name not in names:
            continue
        started = time.process_time()
        kept[mutation.name] = caught = hunt(mutation)
        told = "not found" if caught is None else f"{caught['promise']}, {caught['scope']}, {caught['steps']} steps"
        print(f"{mutation.name}: {told} ({time.process_time() - started:.0f} s)", flush=True)
        CAUGHT.write_text(json.dumps({m.name: kept[m.name] for m in ALL if m.name in kept}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
