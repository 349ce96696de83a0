"""Draws mutants: of all changes that are possible in the core, some, by a seed."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from functools import lru_cache
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from tests.simulation.plants import Place, Unplantable, functions_of, places
from tools.mutation.operators import Step, steps

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Checks the core and is no part of what it does: a weaker check cannot be noticed while the core is sound.
NOT_DRAWN = frozenset({"nullworker.core.invariants"})


class Mutant(NamedTuple):
    """One mistake. Its ``name`` says all that it takes to find it again, whatever else changes in its module."""

    module: str  # without "nullworker.core."
    function: str
    kind: str
    before: str
    after: str
    occurrence: int  # of the same change in the function, from 1 on

    @property
    def name(self) -> str:
        """Unique among all mutants."""
        changed = f"{self.before} → {self.after or '(removed)'}"
        return f"{self.module}:{self.function}: {changed}" + (f" ({self.occurrence})" if self.occurrence > 1 else "")

    def planted(self) -> dict[Place, ast.Module]:
        """The tree of its module with the mistake in it.

        Raises:
            Unplantable: the code that it changes is not there any more.
        """
        for place in places():
            if place.module.removeprefix("nullworker.core.") == self.module:
                tree = ast.parse(place.path.read_text())
                for mutant, step in _mutants_of(place, tree):
                    if mutant == self:
                        step.apply()
                        return {place: ast.fix_missing_locations(tree)}
        raise Unplantable(f"not there any more: {self.name}")


def draw(seed: int, count: int) -> list[Mutant]:
    """So many mutants: the modules take turns, and in each all kinds of mistakes are equally likely.

    Args:
        seed: draws the same mutants from the same code.
        count: how many; fewer, if there are no more.
    """
    rng = Random(seed)
    kinds: dict[str, dict[str, list[Mutant]]] = defaultdict(lambda: defaultdict(list))
    for mutant in every_mutant():
        kinds[mutant.module][mutant.kind].append(mutant)
    drawn: list[Mutant] = []
    while kinds and len(drawn) < count:
        for module in rng.sample(sorted(kinds), len(kinds)):
            kind = rng.choice(sorted(kinds[module]))
            left = kinds[module][kind]
            drawn.append(left.pop(rng.randrange(len(left))))
            if not left:
                del kinds[module][kind]
            if not kinds[module]:
                del kinds[module]
    return drawn[:count]


def every_mutant() -> list[Mutant]:
    """All mutants of the core, in the order of its modules."""
    return [
        mutant
        for place in places()
        if place.module not in NOT_DRAWN
        for mutant, _ in _mutants_of(place, ast.parse(place.path.read_text()))
    ]


def _mutants_of(place: Place, tree: ast.Module) -> Iterator[tuple[Mutant, Step]]:
    module = place.module.removeprefix("nullworker.core.")
    for name, function in functions_of(tree):
        seen: Counter[tuple[str, str]] = Counter()
        for step in steps(function, _fields()):
            seen[step.before, step.after] += 1
            number = seen[step.before, step.after]
            yield Mutant(module, name, step.kind, step.before, step.after, number), step


@lru_cache
def _fields() -> dict[str, str]:
    """For a field or property of a class, the next of the same type. Names of several are left out."""
    owners: Counter[str] = Counter()
    following: dict[str, str] = {}
    for place in places():
        for node in ast.parse(place.path.read_text()).body:
            if not isinstance(node, ast.ClassDef):
                continue
            types: dict[str, list[str]] = defaultdict(list)
            for member in node.body:
                if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    types[ast.unparse(member.annotation)].append(member.target.id)
                elif isinstance(member, ast.FunctionDef) and member.returns and _is_property(member):
                    types[ast.unparse(member.returns)].append(member.name)
            for names in types.values():
                owners.update(names)
                following.update(
                    {one: other for one, other in zip(names, names[1:] + names[:1], strict=True) if one != other}
                )
    return {name: other for name, other in following.items() if owners[name] == 1}


def _is_property(member: ast.FunctionDef) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in member.decorator_list)
