"""P1: a worker never holds two reservations, and one request is never given two workers unless the first is refuted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.commands import Grant
from nullworker.simulation.watch import Checker

if TYPE_CHECKING:
    from nullworker.core import events
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.world import World


class Exclusive(Checker):
    """Looks at each grant before it is answered (after `Evidence` took it down)."""

    promise = "P1"

    def __init__(self, world: World, evidence: Evidence) -> None:
        super().__init__(world)
        self.evidence = evidence
        self._last: dict[int, int] = {}  # request -> the worker that it was last given

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:  # noqa: ARG002 - a hook
        for command in decided:
            if isinstance(command, Grant):
                self._check(engine, command)

    def _check(self, engine: Engine, grant: Grant) -> None:
        evidence = self.evidence
        before = self._last.get(grant.request_idx)
        if before is not None and before != grant.worker_id:
            told = evidence.workers.get(before)
            first = told.promises.get(grant.request_idx) if told is not None else None
            process = self.world.process(before)
            dead = process is None or not process.alive or evidence.failed(before)
            self.require(
                dead or first is None or not evidence.binds(first),
                f"request {grant.request_idx} is given worker {grant.worker_id}, and {before} is promised to it",
            )
        self._last[grant.request_idx] = grant.worker_id
        instance = self.world.fleet.instances.get(grant.worker_id)
        most = instance.traits.sessions_max if instance is not None else 1
        others = {p.request_idx for p in evidence.open_promises(grant.worker_id)} - {grant.request_idx}
        told = evidence.workers[grant.worker_id]
        self.require(
            not told.exited, f"request {grant.request_idx} is given worker {grant.worker_id}, whose exit was announced"
        )
        others |= told.listed - {grant.request_idx}
        if others and engine.state.workers[grant.worker_id].workergroup.spec.occupancy is None:
            refused = evidence.workers[grant.worker_id].refused
            self.require(
                refused <= 1 or not self.world.calm,
                f"worker {grant.worker_id}, which is occupied, is asked again after {refused} refusals",
            )
            return
        self.require(
            len(others) < most,
            f"worker {grant.worker_id} is given to request {grant.request_idx} while it holds {sorted(others)}",
        )
