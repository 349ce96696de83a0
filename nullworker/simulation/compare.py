"""Tables: this engine beside its rivals on one trace; and one trace under many sets of parameters."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from nullworker.simulation.outcome import feasible_s
from nullworker.simulation.rival_run import RivalRun
from nullworker.simulation.rivals import rivals
from nullworker.simulation.study import OWN, Setting, Study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from random import Random

    from nullworker.core.parameters import Parameters
    from nullworker.simulation.outcome import Outcome
    from nullworker.simulation.traces import Job

SETS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """All policies on one trace; ``bound_s`` are those of a schedule that knows all arrivals (`feasible_s`)."""

    trace: str
    jobs: int
    bound_s: float
    outcomes: list[Outcome]

    def rows(self, price_per_hour: float = 0.0) -> list[dict[str, Any]]:
        """One row a policy; ``over_bound`` is its worker-seconds over the bound's."""
        return [outcome.row(self.bound_s, price_per_hour) for outcome in self.outcomes]

    def beaten_by(self) -> list[str]:
        """Policies that are better on waits and cost at once, without killing a job or leaving one."""
        own = self.outcomes[0]
        return [
            other.policy
            for other in self.outcomes[1:]
            if not other.killed
            and not other.unserved
            and other.wait_s(0.95) < own.wait_s(0.95)
            and other.worker_s < own.worker_s
        ]


def compare(
    trace: str,
    jobs: Sequence[Job],
    parameters: Parameters,
    start_up_s: float,
    rng: Callable[[], Random],
    begins: Callable[[str], object] = lambda _policy: None,
) -> Comparison:
    """Runs this engine and every rival on ``jobs``.

    ``rng`` makes a fresh Random for each; ``begins`` is told each policy's name, for some take minutes.
    """
    begins(OWN)
    study = Study(jobs, Setting(parameters, start_up_s))
    outcomes = [study.run()]
    bound_s = feasible_s(study.windows, start_up_s)
    for rule in rivals():
        begins(rule.name)
        outcomes.append(RivalRun(jobs, rule, start_up_s, parameters.max_workers, rng()).run())
    return Comparison(trace, len(jobs), bound_s, outcomes)


def sets_of(
    parameters: Parameters, axes: Mapping[str, Sequence[float]]
) -> Iterator[tuple[dict[str, float], Parameters]]:
    """Every combination of the axes' values, over ``parameters``.

    Raises:
        ValueError: there are over SETS_MAX.
        ParameterError: a value is out of its bounds.
    """
    count = 1
    for values in axes.values():
        count *= len(values)
    if count > SETS_MAX:
        raise ValueError(f"These are {count} sets of parameters, and {SETS_MAX} is the most.")
    whole = {"cold_workers", "max_workers"}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        typed: dict[str, Any] = {name: int(value) if name in whole else value for name, value in chosen.items()}
        yield chosen, replace(parameters, **typed)


def sweep(
    jobs: Sequence[Job], setting: Setting, axes: Mapping[str, Sequence[float]]
) -> list[tuple[dict[str, float], Outcome, bool]]:
    """Runs each set; returns (set, outcome, whether it is on the frontier of p95 wait and worker-seconds)."""
    runs = [
        (
            chosen,
            Study(
                jobs, replace(setting, parameters=parameters), ", ".join(f"{k}={v:g}" for k, v in chosen.items())
            ).run(),
        )
        for chosen, parameters in sets_of(setting.parameters, axes)
    ]
    return [(chosen, outcome, not any(_beats(other, outcome) for _, other in runs)) for chosen, outcome in runs]


def _beats(one: Outcome, other: Outcome) -> bool:
    """Whether ``one`` is at least as good on both counts and better on one."""
    ours, theirs = (one.wait_s(0.95), one.worker_s), (other.wait_s(0.95), other.worker_s)
    return ours[0] <= theirs[0] and ours[1] <= theirs[1] and ours != theirs
