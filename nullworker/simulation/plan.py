"""All that a simulated world is made of, drawn from a seed by a scenario (`scenarios`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nullworker.core.parameters import Parameters, WorkergroupSpec
    from nullworker.simulation.clients import Job
    from nullworker.simulation.faults import Faults
    from nullworker.simulation.process import WorkerKind

#: The name of the one fleet.
FLEET = "simulated"


@dataclass(frozen=True, slots=True)
class Plan:
    """One world."""

    endpoints: Mapping[int, Parameters]
    groups: Sequence[WorkergroupSpec]
    kinds: Mapping[int, WorkerKind]  # by workergroup
    jobs: Sequence[Job]
    faults: Faults
    boot_s: tuple[float, float]  # shortest and longest
    restart_s: tuple[float, float]
    faults_end_s: float = 600.0  # after this nothing goes wrong and no client comes

    def kind_of(self, group: WorkergroupSpec | None) -> WorkerKind:
        """What kind of workers a workergroup has; None: any."""
        return self.kinds[group.workergroup_id] if group is not None else next(iter(self.kinds.values()))
