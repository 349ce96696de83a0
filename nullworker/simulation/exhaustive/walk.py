"""Breadth first through all states that a scope's world can be in, to a depth or a number of states."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nullworker.core import invariants
from nullworker.simulation.event_queue import Stalled
from nullworker.simulation.exhaustive.fingerprint import fingerprint
from nullworker.simulation.exhaustive.moves import apply, moves
from nullworker.simulation.exhaustive.promises import Broken
from nullworker.simulation.exhaustive.roots import at_root
from nullworker.simulation.exhaustive.scope import ALWAYS
from nullworker.simulation.exhaustive.settle import settle
from nullworker.simulation.exhaustive.world import World

if TYPE_CHECKING:
    from nullworker.simulation.exhaustive.moves import Move
    from nullworker.simulation.exhaustive.scope import Scope


def promise_of(error: Exception) -> tuple[str, str]:
    """Which promise an exception says to be broken, and how."""
    if isinstance(error, Broken):
        return error.promise, error.message
    if isinstance(error, Stalled):
        return "P12", str(error)
    if isinstance(error, invariants.InvariantBroken):
        return "invariant", str(error)
    return "error", f"{type(error).__name__}: {error}"


@dataclass(slots=True)
class Found:
    """A state that breaks a promise, and the moves that lead to it."""

    promise: str
    message: str
    root: str
    path: list[Move]


@dataclass(slots=True)
class Walk:
    """What a walk went through."""

    scope: Scope
    states: int = 0
    transitions: int = 0
    depth: int = 0  # complete to this
    settled: int = 0  # states that were seen to come to rest
    settling_moves: int = 0  # made for that
    cpu_s: float = 0.0
    found: Found | None = None
    is_complete: bool = False  # there was nothing beyond
    seen: set[str] = field(default_factory=set)

    @property
    def unseen(self) -> list[str]:
        """What must be seen sometimes, and was not."""
        return [each for each in (*ALWAYS, *self.scope.sometimes) if each not in self.seen]


class _Tree:
    """All states that were found, each as its parent and the number of the move that led to it."""

    def __init__(self) -> None:
        self.parents = array("l")
        self.numbers = array("B")

    def add(self, parent: int, number: int) -> None:
        self.parents.append(parent)
        self.numbers.append(number)

    def path(self, node: int) -> list[int]:
        path = [node]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path[::-1]


class Walker:
    """Walks one scope."""

    def __init__(self, scope: Scope, states_max: int, settles: int) -> None:
        self.scope = scope
        self.settles = settles
        self._settled: set[int] = set()
        self.states_max = states_max
        self.world = World(scope)
        self.result = Walk(scope)
        self._visited: set[int] = set()
        self._tree = _Tree()
        self._stack: list[tuple[int, Any]] = []  # the nodes on the way to the one in hand, with their snapshots
        self._roots: list[Any] = []

    def run(self, depth_max: int = 1_000) -> Walk:
        """Walks until a promise is broken, or so deep, or through so many states."""
        started = time.process_time()
        result = self.result
        try:
            first, last = 0, self._begin()
            if result.found is not None:
                return result
            while first < last and result.depth < depth_max:
                for node in range(first, last):
                    if len(self._visited) >= self.states_max:
                        return result
                    if not self._expand(node):
                        return result
                result.depth += 1
                first, last = last, len(self._tree.parents)
            result.is_complete = first == last
        finally:
            result.states = len(self._visited)
            result.cpu_s = time.process_time() - started
            result.seen = {_word(each) for each in self.world.seen}
        return result

    def _begin(self) -> int:
        for name in self.scope.roots:
            try:
                world = at_root(self.scope, name)
            except Exception as error:  # the core's, whatever it is
                self.result.found = Found(*promise_of(error), name, [])
                break
            world.seen = self.world.seen
            self._roots.append((name, world.save()))
            self._visited.add(fingerprint(world))
            self._tree.add(-len(self._roots), 0)
        return len(self._roots)

    def _go_to(self, node: int) -> Any:
        """The world becomes that of the node; returns its snapshot."""
        tree, stack = self._tree, self._stack
        path = []
        at = node
        on_stack = {known: depth for depth, (known, _) in enumerate(stack)}
        while at >= 0 and at not in on_stack:
            path.append(at)
            at = tree.parents[at]
        if at < 0:
            stack.clear()
            self.world.load(self._roots[-at - 1][1])
            root = path.pop()
            stack.append((root, self._roots[-at - 1][1]))
        else:
            del stack[on_stack[at] + 1 :]
            self.world.load(stack[-1][1])
        for step in reversed(path):
            apply(self.world, moves(self.world)[tree.numbers[step]])
            stack.append((step, self.world.save()))
        return stack[-1][1]

    def _expand(self, node: int) -> bool:
        world, visited, tree, result = self.world, self._visited, self._tree, self.result
        snapshot = self._go_to(node)
        for number, move in enumerate(moves(world)):
            result.transitions += 1
            try:
                apply(world, move)
                key = fingerprint(world)
                if key not in visited:
                    visited.add(key)
                    tree.add(node, number)
                    invariants.check(world.engine)
                    if self.settles and len(visited) % self.settles == 0:
                        result.settled += 1
                        result.settling_moves += settle(world, self._settled)
            except Exception as error:
                self._broken(node, number, error)
                return False
            world.load(snapshot)
        return True

    def _broken(self, node: int, number: int, error: Exception) -> None:
        path = self._tree.path(node)
        numbers = [*[self._tree.numbers[step] for step in path[1:]], number]
        name, snapshot = self._roots[-self._tree.parents[path[0]] - 1]
        self.world.load(snapshot)
        found = []
        for each in numbers:
            found.append(moves(self.world)[each])
            if len(found) < len(numbers):
                apply(self.world, found[-1])
        self.result.found = Found(*promise_of(error), name, found)


def _word(seen: Any) -> str:
    if isinstance(seen, str):
        return seen
    first, second = seen
    return f"{getattr(first, '__name__', first)} {getattr(second, 'value', second)}"


def walk(scope: Scope, states_max: int, settles: int = 1, depth_max: int = 1_000) -> Walk:
    """Walks one scope.

    Args:
        scope: what to walk through.
        states_max: after so many states it ends.
        settles: of so many states, one is followed until all is at rest; 0: none is.
        depth_max: after so many moves it ends.
    """
    return Walker(scope, states_max, settles).run(depth_max)
