"""P2: scaling never stops or destroys a worker that holds a reservation or has been granted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.commands import Destroy, Stop
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core import events
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.truth import Truth


class NoKill(Checker):
    """Looks at each stop and destroy as it is decided."""

    promise = "P2"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:  # noqa: ARG002 - a hook
        for command in decided:
            if isinstance(command, (Stop, Destroy)):
                self._check(command)

    def _check(self, command: Stop | Destroy) -> None:
        worker_id = command.worker_id
        known = self.evidence.workers.get(worker_id)
        if known is None or known.endpoint_id in self.evidence.forced or self.evidence.believed_dead(worker_id):
            return
        process = self.truth.process(worker_id)
        if process is None or not process.alive:
            return
        sessions = [idx for idx, session in process.sessions.items() if not session.by_old_grant]
        verb = type(command).__name__.lower()
        self.require(not sessions, f"{verb} of worker {worker_id}, which holds {sessions}: {command.reason}")
        granted = [
            promise.request_idx
            for promise in self.evidence.open_grants(worker_id)
            if promise.usable_until > self.truth.now and not promise.confirmed and not promise.used
        ]
        self.require(not granted, f"{verb} of worker {worker_id}, which is granted to {granted}: {command.reason}")
