"""Plants bugs in `nullworker.demand` and hunts for them: ``python -m tests.simulation.queueing_mutants [NAME]...``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.mutants import planted
from tests.simulation.plants import DEMAND, planted_trees
from tests.simulation.queueing_mutations import QUEUEING_MUTATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.simulation.mutations import Mutation

CAUGHT = Path(__file__).with_name("queueing_caught.json")
SEEDS_MAX = 250
#: Of bugs that take a rarer world: the seeds that showed them first.
RARE = {
    "one that passes over what waits is still loading": 51595,
    "an adopted one stands for what waits for ever": 4455,
    "where there is no room those stay that take nothing": 78360,
    "late numbers never show that a job is over": 339,
}


def hunt(mutation: Mutation | None, first: int, count: int) -> dict[str, Any] | None:
    """Runs seeds of the dispatcher's simulator with the bug in it; what caught it first, or None."""
    with planted(None if mutation is None else planted_trees(mutation, DEMAND)):
        run_seed = importlib.import_module("nullworker.simulation.queueing.run").run_seed
        for seed in range(first, first + count):
            broken = run_seed(seed).broken
            if broken:
                return {"seed": seed, "message": broken[0].what[:200]}
    return None


def main(names: Sequence[str]) -> int:
    """Hunts for all (or those named), and keeps what caught each; the exit code says whether one got away."""
    found: dict[str, Any] = json.loads(CAUGHT.read_text()) if names and CAUGHT.exists() else {}
    chosen = [mutation for mutation in QUEUEING_MUTATIONS if not names or mutation.name in names]
    for number, mutation in enumerate(chosen, 1):
        caught = found[mutation.name] = hunt(mutation, RARE.get(mutation.name, 1), SEEDS_MAX)
        told = "NOT CAUGHT" if caught is None else f"seed {caught['seed']}: {caught['message']}"
        print(f"{number}/{len(chosen)} {mutation.name}: {told}", flush=True)
        kept = {known.name: found[known.name] for known in QUEUEING_MUTATIONS if known.name in found}
        CAUGHT.write_text(json.dumps(kept, indent=2) + "\n")
    return int(any(caught is None for caught in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
