"""P13: every decision is recorded with its cause in numbers; their sum explains the fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events
from nullworker.core.commands import Create, Destroy, Note
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.truth import Truth


class Reasons(Checker):
    """Each worker in the engine's tables was created by a command, and each that left them was destroyed or failed."""

    promise = "P13"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._explained: set[int] = set()
        self._ending: set[int] = set()

    def engine_started(self) -> None:
        self._explained = set()
        self._ending = set()

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        number = engine.state.event_number
        for command in decided:
            self.require(command.reason, f"{type(command).__name__} gives no reason")
            kind = type(command).__name__
            self.require(command.event_number == number, f"{kind} names event {command.event_number}, not {number}")
            if isinstance(command, Create):
                self._explained.add(command.worker_id)
            elif isinstance(command, Destroy) or (isinstance(command, Note) and command.kind == "worker_failed"):
                self._ending.add(command.worker_id)
        if isinstance(event, events.Restored):
            self._explained.update(worker.worker_id for worker in event.workers)
        for worker_id in engine.state.changed_workers:
            if worker_id in engine.state.workers:
                self.require(worker_id in self._explained, f"worker {worker_id} is there, and nothing says why")
            else:
                self.require(worker_id in self._ending, f"worker {worker_id} is there no longer, and nothing says why")
