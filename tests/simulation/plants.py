"""Changes the core's syntax tree: finds a function by its name, and in it a piece of code by its own tree."""

from __future__ import annotations

import ast
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.simulation.mutations import Change, Mutation

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "nullworker" / "core"
DEMAND = ROOT / "nullworker" / "demand"


class Unplantable(ValueError):  # noqa: N818 - it reads as what it is
    """A bug cannot be planted any more: what it changes is not there, once. Adjust `mutations`."""


class Place(NamedTuple):
    """Where a change applies."""

    module: str  # "nullworker.core.routing"
    path: Path


def place_of(change: Change, package: Path = CORE) -> Place:
    """The module of a package that the change's function is in.

    Raises:
        Unplantable: there is no such function in the package, or there are several.
    """
    wanted, _, name = change.function.rpartition(":")
    found = [place for place, functions in _index(package) if name in functions and wanted in ("", place.path.stem)]
    if len(found) != 1:
        modules = ", ".join(place.module for place in found) or "no module"
        raise Unplantable(f"function {change.function} is in {modules}, and must be in one")
    return found[0]


def planted_trees(mutation: Mutation, package: Path = CORE) -> dict[Place, ast.Module]:
    """The modules of a package that a bug changes, with the bug in them.

    Raises:
        Unplantable: a change does not apply.
    """
    trees: dict[Place, ast.Module] = {}
    for change in mutation.changes:
        try:
            place = place_of(change, package)
            tree = trees.setdefault(place, ast.parse(place.path.read_text()))
            _plant(tree, change)
        except Unplantable as error:
            raise Unplantable(f"{mutation.name}: {error}") from None
    return trees


def places() -> tuple[Place, ...]:
    """All modules of the core."""
    return tuple(place for place, _ in _index(CORE))


@lru_cache
def _index(package: Path) -> tuple[tuple[Place, frozenset[str]], ...]:
    """All modules of a package, and the functions in each."""
    index = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        names = frozenset(name for name, _ in functions_of(ast.parse(path.read_text())))
        index.append((Place(module, path), names))
    return tuple(index)


def functions_of(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions and methods of a module, by name ("Class.method")."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield f"{node.name}.{member.name}", member


def _plant(tree: ast.Module, change: Change) -> None:
    name = change.function.rpartition(":")[2]
    function = next(node for found, node in functions_of(tree) if found == name)
    old, new = ast.parse(change.old).body, ast.parse(change.new).body
    expression = isinstance(old[0], ast.Expr) and len(old) == 1 and len(new) <= 1
    replaced = _replace_statements(function, old, new)
    if not replaced and expression and new and isinstance(new[0], ast.Expr):
        swap = _Swap(old[0].value, new[0].value)  # type: ignore[attr-defined]  # both are expressions
        swap.visit(function)
        replaced = swap.count
    if replaced != 1:
        raise Unplantable(f"in {change.function} this occurs {replaced} times, and must once: {change.old}")
    ast.fix_missing_locations(tree)


def _replace_statements(function: ast.FunctionDef, old: Sequence[ast.stmt], new: Sequence[ast.stmt]) -> int:
    """Replaces a run of statements; how often it stands in the function (it is replaced if once)."""
    found = [
        (block, first)
        for node in ast.walk(function)
        for field in ("body", "orelse", "finalbody")
        if isinstance(block := getattr(node, field, None), list)
        for first in range(len(block) - len(old) + 1)
        if all(_same(block[first + number], statement) for number, statement in enumerate(old))
    ]
    if len(found) == 1:
        block, first = found[0]
        block[first : first + len(old)] = list(new) or [ast.Pass()]
    return len(found)


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.expr, new: ast.expr) -> None:
        self._old, self._new = old, new
        self.count = 0

    def visit(self, node: ast.AST) -> ast.AST:
        if _same(node, self._old):
            self.count += 1
            return self._new
        return super().generic_visit(node)


def _same(one: ast.AST, other: ast.AST) -> bool:
    return type(one) is type(other) and ast.dump(one) == ast.dump(other)
