"""Tells every checker what happens in the world. A checker overrides what it wants to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core import events
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.box import Call
    from nullworker.simulation.clients import Client
    from nullworker.simulation.fleet import Instance
    from nullworker.simulation.process import Process, Session
    from nullworker.simulation.world import World


class PromiseBroken(AssertionError):  # noqa: N818 - it reads as what it is
    """A promise was broken in the simulated world; ``promise`` is its number ("P2")."""

    def __init__(self, promise: str, message: str, at: float) -> None:
        super().__init__(f"{promise} broken at {at:.3f} s: {message}")
        self.promise = promise
        self.message = message
        self.at = at


class Checker:
    """Watches one promise. Every method may raise `PromiseBroken`, through `broken`."""

    promise = ""

    def __init__(self, world: World) -> None:
        self.world = world

    def broken(self, message: str) -> PromiseBroken:
        """The error to raise."""
        return PromiseBroken(self.promise, message, self.world.now)

    def require(self, holds: object, message: str) -> None:
        """Raises unless it holds."""
        if not holds:
            raise self.broken(message)

    # what happens to the engine
    def engine_started(self) -> None:
        """A fresh engine is about to be fed (again)."""

    def engine_killed(self) -> None:
        """The engine is no more."""

    def engine_pauses(self) -> None:
        """The engine is about to stand still."""

    def asked(self, request_idx: int, endpoint_id: int, call: Call) -> None:
        """A client's call is about to be handled."""

    def hung_up(self, request_idx: int) -> None:
        """The engine is about to be told that a waiter's connection broke."""

    def told(self, message: events.WorkerReported | events.RequestsFinished, process: Process, snapshot: int) -> None:
        """A worker's message is about to be handled; ``snapshot`` numbers its process's reports."""

    def told_of_exit(self, worker_id: int) -> None:
        """The engine is about to be told that an instance ended."""

    def told_of_list(self, asked_at: float, shown: tuple[tuple[int, str], ...]) -> None:
        """A fleet's list is about to be handled."""

    def about_to_forge(self) -> None:
        """The next event is forged."""

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        """The engine handled an event; nothing of what it decided has been done yet."""

    def ordered(self, verb: str, worker_id: int, endpoint_id: int) -> None:
        """An order goes out to the fleet."""

    # what happens in the world
    def session_opened(self, process: Process, session: Session) -> None:
        """A worker really opened a session."""

    def session_closed(self, process: Process, session: Session, why: str) -> None:
        """A session really ended: ended, expired, crashed, restarted, stopped, destroyed or pre-empted."""

    def instance_made(self, instance: Instance) -> None:
        """An instance really came into being."""

    def instance_removed(self, instance: Instance) -> None:
        """An instance really is no more."""

    def held(self, client: Client) -> None:
        """A client holds its reservation."""

    def client_over(self, client: Client) -> None:
        """A client is done, one way or another."""

    def at_rest(self) -> None:
        """All faults are over, every client is done, and the world had time to settle."""


class Watch(Checker):
    """All checkers as one; each is called for what it overrides."""

    def __init__(self, world: World, checkers: list[Checker]) -> None:
        super().__init__(world)
        self.checkers = checkers
        for name in _HOOKS:
            setattr(self, name, _together([getattr(c, name) for c in checkers if _overrides(c, name)]))


_HOOKS = tuple(
    name for name in vars(Checker) if not name.startswith("_") and name not in ("promise", "broken", "require")
)


def _overrides(checker: Checker, name: str) -> bool:
    return getattr(type(checker), name) is not getattr(Checker, name)


def _together(calls: list[Callable[..., None]]) -> Callable[..., None]:
    if len(calls) == 1:
        return calls[0]

    def together(*arguments: object) -> None:
        for call in calls:
            call(*arguments)

    return together
