"""What can be observed in a simulated world: one method for each kind of thing that happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nullworker.core import events
    from nullworker.core.commands import Command, Grant, Refuse
    from nullworker.core.engine import Engine
    from nullworker.simulation.clients import Client
    from nullworker.simulation.fleet import Instance
    from nullworker.simulation.process import Process, Session


class Call(Protocol):
    """A client's /route/ call. ``open_as`` is the request_idx under which the engine holds it open."""

    open_as: int

    @property
    def endpoint_id(self) -> int:
        """The endpoint that it asks for."""

    def answered(self, answer: Grant | Refuse | int) -> None:
        """The call was answered: a grant, a refusal, or (a request_idx) that it waits."""

    def broken(self) -> None:
        """The connection broke without an answer."""


class Hooks:
    """Does nothing; a subclass overrides what it wants to know."""

    # what happens to the engine
    def engine_started(self) -> None:
        """A fresh engine is about to be fed (again)."""

    def engine_killed(self) -> None:
        """The engine is no more."""

    def ledger_lost(self) -> None:
        """The next engine starts without all that was written down."""

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


#: The names of all hooks.
HOOKS = tuple(name for name in vars(Hooks) if not name.startswith("_"))
