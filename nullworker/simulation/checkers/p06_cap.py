"""P6: never more than `max_workers`, counting those being created and creates whose answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import events
from nullworker.core.commands import Create
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.truth import Truth


class Cap(Checker):
    """Looks at each creation as it is decided, against what the fleet really has or is about to have."""

    promise = "P6"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        self._most: dict[int, int] = {}  # what the engine was told
        self._ledger_was_lost = False

    def ledger_lost(self) -> None:
        self._ledger_was_lost = True

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if isinstance(event, events.EndpointPut):
            self._most[event.endpoint_id] = event.parameters.max_workers
        creates = [command for command in decided if isinstance(command, Create)]
        if not creates:
            return
        truth, workers = self.truth, self.evidence.workers
        asked_now = {command.worker_id for command in creates}
        for endpoint_id in {workers[command.worker_id].endpoint_id for command in creates}:
            there = asked_now | set(truth.coming) | set(truth.instances)
            if self._ledger_was_lost:  # what no list had shown when the engine was started, belongs to no endpoint
                there &= asked_now | engine.state.workers.keys()
            counted = [
                worker_id
                for worker_id in there
                if worker_id in workers
                and workers[worker_id].endpoint_id == endpoint_id
                and not (workers[worker_id].absent and worker_id not in asked_now)
            ]
            most = self._most[endpoint_id]
            self.require(
                len(counted) <= most,
                f"endpoint {endpoint_id} has {len(counted)} workers with the new ones, and max_workers is {most}",
            )
