"""Runs one seed of one scenario, and says what it found."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field, replace
from time import process_time
from typing import TYPE_CHECKING

from nullworker.core.invariants import InvariantBroken
from nullworker.simulation.checkers import all_checkers
from nullworker.simulation.event_queue import Stalled
from nullworker.simulation.observer import PromiseBroken
from nullworker.simulation.scenarios import SCENARIOS, scenario_of
from nullworker.simulation.world import World

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.simulation.plan import Plan

#: How many of the last events a failure shows.
HISTORY_LINES = 60


@dataclass(frozen=True, slots=True)
class Failure:
    """What was broken, and the line that repeats it."""

    promise: str  # "P1" to "P15", "invariant", or "error" for an exception that escaped
    message: str
    repeat: str
    history: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.message}\n  to repeat: {self.repeat}"


@dataclass(frozen=True, slots=True)
class Reduction:
    """What is left out of a seed's world, to find a short history: faults, clients (by their number), time."""

    faults: frozenset[str] = frozenset()
    clients: frozenset[int] = frozenset()
    until_s: float | None = None

    def apply(self, plan: Plan) -> Plan:
        """The plan with less in it."""
        jobs = [job for number, job in enumerate(plan.jobs, 1) if number not in self.clients]
        faults_end_s = plan.faults_end_s if self.until_s is None else min(plan.faults_end_s, self.until_s)
        return replace(
            plan,
            faults=plan.faults.without(self.faults),
            jobs=[job for job in jobs if job.arrives_at < faults_end_s],
            faults_end_s=faults_end_s,
        )

    def flags(self) -> str:
        """The same as flags of the command."""
        parts = [f"--without {name}" for name in sorted(self.faults)]
        if self.clients:
            parts.append(f"--without-clients {_ranges(self.clients)}")
        if self.until_s is not None:
            parts.append(f"--until {self.until_s:g}")
        return "".join(f" {part}" for part in parts)


def _ranges(numbers: Iterable[int]) -> str:
    """As a list such as 1-4,7."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    seed: int
    scenario: str
    failure: Failure | None
    simulated_s: float
    cpu_s: float
    events: int  # that the core handled
    steps: int  # things that happened in the world
    clients: int
    faults: tuple[str, ...]
    reduction: Reduction
    journal: tuple[str, ...] = field(default=(), repr=False)


def run(
    seed: int, scenario: str = "", reduction: Reduction | None = None, *, journal: bool = False, check_every: int = 16
) -> Result:
    """Runs a seed of a scenario ("": the one whose turn it is); ``journal`` keeps every event and command.

    Raises:
        KeyError: there is no such scenario.
    """
    chosen = SCENARIOS[scenario] if scenario else scenario_of(seed)
    reduction = reduction or Reduction()
    plan = reduction.apply(chosen.plan(seed))
    world = World(plan, seed, all_checkers)
    world.driver.check_every = check_every
    if journal:
        world.driver.journal_lines = []
    began = process_time()
    failure: Failure | None = None
    repeat = f"nullworker simulate --seed {seed} --scenario {chosen.name}{reduction.flags()}"
    try:
        world.run()
    except PromiseBroken as error:
        failure = Failure(error.promise, str(error), repeat)
    except Stalled as error:
        failure = Failure("P12", f"P12 broken at {world.now:.3f} s: {error}", repeat)
    except InvariantBroken as error:
        failure = Failure("invariant", f"invariant broken at {world.now:.3f} s: {error}", repeat)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__} at {world.now:.3f} s: {error} ({where.name}, line {where.lineno})"
        failure = Failure("error", message, repeat)
    lines = tuple(world.driver.journal_lines or ())
    if failure is not None:
        failure = replace(failure, history=lines[-HISTORY_LINES:])
    return Result(
        seed,
        chosen.name,
        failure,
        world.now,
        process_time() - began,
        world.driver.events,
        world.context.queue.done,
        len(world.clients),
        tuple(plan.faults.names()),
        reduction,
        journal=lines,
    )
