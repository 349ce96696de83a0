"""Tells every checker what happens in the world. A checker overrides what it wants to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.simulation.hooks import HOOKS, Hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nullworker.simulation.truth import Truth


class PromiseBroken(AssertionError):  # noqa: N818 - it reads as what it is
    """A promise was broken in the simulated world; ``promise`` is its number ("P2")."""

    def __init__(self, promise: str, message: str, at: float) -> None:
        super().__init__(f"{promise} broken at {at:.3f} s: {message}")
        self.promise = promise
        self.message = message
        self.at = at


class Checker(Hooks):
    """Watches one promise. Every hook may raise `PromiseBroken`, through `broken` or `require`."""

    promise = ""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth

    def broken(self, message: str) -> PromiseBroken:
        """The error to raise."""
        return PromiseBroken(self.promise, message, self.truth.now)

    def require(self, holds: object, message: str) -> None:
        """Raises unless it holds."""
        if not holds:
            raise self.broken(message)


class Observer(Hooks):
    """All checkers as one; each is called for what it overrides."""

    def observe_with(self, checkers: Sequence[Checker]) -> None:
        """From now on these are told."""
        for name in HOOKS:
            setattr(self, name, _together([getattr(c, name) for c in checkers if _overrides(c, name)]))


def _overrides(checker: Checker, name: str) -> bool:
    return getattr(type(checker), name) is not getattr(Hooks, name)


def _together(calls: list[Callable[..., None]]) -> Callable[..., None]:
    if len(calls) == 1:
        return calls[0]

    def together(*arguments: object) -> None:
        for call in calls:
            call(*arguments)

    return together
