"""P1: a worker never holds two reservations, and one request is never given two workers unless the first is refuted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.commands import Grant
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core import events
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.truth import Truth


class Exclusive(Checker):
    """Looks at each grant before it is answered (after `Evidence` took it down)."""

    promise = "P1"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
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
            known = evidence.workers.get(before)
            first = known.grants.get(grant.request_idx) if known is not None else None
            process = self.truth.process(before)
            dead = process is None or not process.alive or evidence.failed(before)
            self.require(
                dead or first is None or not evidence.binds(first),
                f"request {grant.request_idx} is given worker {grant.worker_id}, and {before} is promised to it",
            )
        self._last[grant.request_idx] = grant.worker_id
        instance = self.truth.instances.get(grant.worker_id)
        most = instance.kind.sessions_max if instance is not None else 1
        others = {p.request_idx for p in evidence.open_grants(grant.worker_id)} - {grant.request_idx}
        known = evidence.workers[grant.worker_id]
        self.require(
            not known.exited, f"request {grant.request_idx} is given worker {grant.worker_id}, whose exit was announced"
        )
        others |= known.listed - {grant.request_idx}
        if others and engine.state.workers[grant.worker_id].workergroup.spec.occupancy is None:
            refused = evidence.workers[grant.worker_id].refused
            self.require(
                refused <= 1 or not self.truth.calm,
                f"worker {grant.worker_id}, which is occupied, is asked again after {refused} refusals",
            )
            return
        self.require(
            len(others) < most,
            f"worker {grant.worker_id} is given to request {grant.request_idx} while it holds {sorted(others)}",
        )
