"""Plants the bugs of `mutations` in the core and hunts for them: ``python -m tests.simulation.mutants [NAME]...``.

A bug is planted as its module is imported, in a core and a simulator that are loaded again: no file is changed.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.plants import planted_trees

if TYPE_CHECKING:
    import ast
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import CodeType, ModuleType

    from tests.simulation.plants import Place

    #: Planted by name, or as the trees of the modules that it changes; None: there is none.
    Bug = Mutation | Mapping[Place, ast.Module] | None

CAUGHT = Path(__file__).with_name("caught.json")
SEEDS_MAX = 500
_LOADED_ANEW = ("nullworker.core", "nullworker.demand", "nullworker.simulation")


class _Planted(SourceFileLoader):
    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, self.path, "exec", dont_inherit=True)


class Planter(MetaPathFinder):
    """Imports modules with a bug in them, from syntax trees; put it at the beginning of `sys.meta_path`."""

    def __init__(self, trees: Mapping[Place, ast.Module]) -> None:
        self._trees = {place.module: (str(place.path), tree) for place, tree in trees.items()}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self._trees:
            return None
        where, tree = self._trees[fullname]
        return importlib.util.spec_from_file_location(fullname, where, loader=_Planted(fullname, where, tree))


@contextmanager
def planted(bug: Bug) -> Iterator[Callable[..., Any]]:
    """`nullworker.simulation.run.run` over a core with the bug in it; ``None`` plants none."""
    trees = planted_trees(bug) if isinstance(bug, Mutation) else bug
    finders = [] if trees is None else [Planter(trees)]
    kept = _forget()
    sys.meta_path[:0] = finders
    try:
        yield importlib.import_module("nullworker.simulation.run").run
    finally:
        for finder in finders:
            sys.meta_path.remove(finder)
        _forget()
        sys.modules.update(kept)
        for name in _LOADED_ANEW:
            if name in kept:
                setattr(sys.modules["nullworker"], name.rpartition(".")[2], kept[name])


def _forget() -> dict[str, ModuleType]:
    """Takes what bugs are planted in and the simulators out of the loaded modules."""
    within = tuple(f"{name}." for name in _LOADED_ANEW)
    mine = [name for name in sys.modules if name in _LOADED_ANEW or name.startswith(within)]
    return {name: sys.modules.pop(name) for name in mine}


def hunt(bug: Bug, first: int, count: int) -> dict[str, Any] | None:
    """Runs seeds as `test_seeds` does, with the bug in the core; what caught it first, or None."""
    with planted(bug) as run:
        for seed in range(first, first + count):
            result = run(seed)
            if result.failure is not None:
                message = result.failure.message.splitlines()[0]
                return {
                    "promise": result.failure.promise,
                    "scenario": result.scenario,
                    "seed": seed,
                    "message": message[:200],
                }
    return None


def _hunt(mutation: Mutation) -> tuple[str, dict[str, Any] | None]:
    return mutation.name, hunt(mutation, 1, SEEDS_MAX)


def main(names: Sequence[str]) -> int:
    """Hunts for all (or those named), and keeps what caught each; the exit code says whether one got away."""
    found: dict[str, Any] = json.loads(CAUGHT.read_text()) if names and CAUGHT.exists() else {}
    chosen = [mutation for mutation in MUTATIONS if not names or mutation.name in names]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, (name, caught) in enumerate(pool.map(_hunt, chosen), 1):
            found[name] = caught
            told = "NOT CAUGHT" if caught is None else f"{caught['promise']}, {caught['scenario']} {caught['seed']}"
            print(f"{number}/{len(chosen)} {name}: {told}", flush=True)
            kept = {mutation.name: found[mutation.name] for mutation in MUTATIONS if mutation.name in found}
            CAUGHT.write_text(json.dumps(kept, indent=2) + "\n")
    return int(any(caught is None for caught in found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
