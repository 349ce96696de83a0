"""P4: with `target_util` 1, `min_load` 0 and cost = perf, exactly N active workers for N reservations, never N+1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.commands import Create, Destroy, Start, Stop
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core import events
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.truth import Truth


class NoWaste(Checker):
    """In a world without faults: a worker is only made or started for somebody who has none."""

    promise = "P4"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._on: dict[int, set[int]] = {endpoint_id: set() for endpoint_id in truth.plan.endpoints}
        self._endpoint_of: dict[int, int] = {}

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:  # noqa: ARG002 - a hook
        if not self.truth.calm:
            return
        for command in decided:
            if isinstance(command, Create):
                endpoint_id = engine.state.workergroups[command.workergroup_id].spec.endpoint_id
                self._endpoint_of[command.worker_id] = endpoint_id
                self._more(endpoint_id, command.worker_id, command.reason)
            elif isinstance(command, Start):
                self._more(self._endpoint_of[command.worker_id], command.worker_id, command.reason)
            elif isinstance(command, (Stop, Destroy)):
                self._on[self._endpoint_of[command.worker_id]].discard(command.worker_id)

    def _more(self, endpoint_id: int, worker_id: int, reason: str) -> None:
        on = self._on[endpoint_id]
        on.add(worker_id)
        parameters = self.truth.plan.endpoints[endpoint_id]
        exact = parameters.target_util == 1.0 and not parameters.min_load and not parameters.cold_workers
        if not exact or parameters.min_cold_load or parameters.cold_mult > 1 or self.truth.uneven:
            return
        wanting = sum(client.wants and client.job.endpoint_id == endpoint_id for client in self.truth.clients)
        # A session that has just ended is known to the engine with the worker's next report.
        ending = sum(
            1
            for instance in self.truth.instances.values()
            if instance.worker_id in on and instance.process is not None and instance.process.untold_ends
        )
        self.require(
            len(on) <= wanting + ending,
            f"worker {worker_id} is the {len(on)}th for {wanting} who want one: {reason}",
        )
