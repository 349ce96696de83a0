"""P16: a workergroup with a `fallback_after_s` grows only when the cheaper ones have been unable for that long."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.core import events, limits
from nullworker.core.commands import Create, Note
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.core.parameters import WorkergroupSpec
    from nullworker.simulation.checkers.evidence import Evidence
    from nullworker.simulation.truth import Truth


@dataclass(slots=True)
class _Failures:
    """Those of one workergroup, by the engine's clock in seconds."""

    first_at: float = math.inf  # since one of its workers got ready that was ordered after the last
    last_at: float = -math.inf


class CheaperFirst(Checker):
    """Notes when workers of each workergroup failed and got ready, and looks at each creation of a dearer one."""

    promise = "P16"

    def __init__(self, truth: Truth, evidence: Evidence) -> None:
        super().__init__(truth)
        self.evidence = evidence
        self._failures: dict[int, _Failures] = {}
        self._deleted: set[int] = set()

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:  # noqa: ARG002 - a hook
        if isinstance(event, events.WorkergroupDeleted):
            self._deleted.add(event.workergroup_id)
        for command in decided:
            if isinstance(command, Note):
                self._note(command)
            elif isinstance(command, Create) and not self.evidence.was_ordered(command.worker_id):
                self._look(command)

    def _note(self, note: Note) -> None:
        known = self.evidence.workers.get(note.worker_id)
        if known is None:
            return
        failures = self._failures.setdefault(known.workergroup_id, _Failures())
        if note.kind == "worker_failed":
            if self.truth.clock - failures.last_at >= limits.UNABLE_FORGOTTEN_S:
                failures.first_at = math.inf
            failures.first_at = min(failures.first_at, self.truth.clock)
            failures.last_at = self.truth.clock
        elif note.kind == "worker_ready" and known.created_at > failures.last_at:
            failures.first_at = math.inf

    def _look(self, create: Create) -> None:
        mine = self.truth.workergroups.get(create.workergroup_id)
        if mine is None or not mine.fallback_after_s:
            return
        for other in cheaper_than(self.truth, mine):
            if other.workergroup_id not in self._deleted:
                failing_s = self.truth.clock - self._failures.get(other.workergroup_id, _Failures()).first_at
                self.require(
                    failing_s >= mine.fallback_after_s,
                    f"worker {create.worker_id} is of workergroup {mine.workergroup_id}, and the cheaper "
                    f"{other.workergroup_id} fails for {max(0.0, failing_s):g} s of {mine.fallback_after_s:g}",
                )


def cheaper_than(truth: Truth, mine: WorkergroupSpec) -> list[WorkergroupSpec]:
    """The workergroups of the same endpoint that cost less for their perf."""
    others = (group for group in truth.workergroups.values() if group.endpoint_id == mine.endpoint_id)
    return [other for other in others if _price(other) < _price(mine)]


def _price(group: WorkergroupSpec) -> float:
    return group.price_per_hour / group.perf
