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

    promise: str  # "P1" to "P16", "invariant", or "error" for an exception that escaped
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
class Variation:
    """What is otherwise than a seed draws it, from a moment on; until then the run is the same."""

    #: The engine is killed at this place, of all before, between and after the effects of its events.
    kill_at_place: int | None = None
    #: Chance is another from this time on,
    drawn_anew_at_s: float | None = None
    #: for each number of this.
    future: int = 0

    def vary(self, world: World, seed: int) -> None:
        """Has it happen in a world that has not begun."""
        world.driver.kill_at_place = self.kill_at_place
        world.truth.calm = world.truth.calm and self.kill_at_place is None
        if self.drawn_anew_at_s is not None:
            world.context.queue.at(self.drawn_anew_at_s, world.context.draw_anew, f"{seed} future {self.future}")


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
    places: int  # before, between and after the effects of the core's events
    journal: tuple[str, ...] = field(default=(), repr=False)
    journal_times: tuple[float, ...] = field(default=(), repr=False)  # the world's, of each line


def run(
    seed: int,
    scenario: str = "",
    reduction: Reduction | None = None,
    *,
    variation: Variation | None = None,
    journal: bool = False,
    check_every: int = 16,
) -> Result:
    """Runs a seed.

    Args:
        seed: of the world.
        scenario: its kind; "": the one whose turn it is.
        reduction: what is left out of it.
        variation: what is otherwise from a moment on.
        journal: keeps every event and command.
        check_every: events between two looks at the core's own invariants.

    Returns:
        What was found, and the figures.

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
    if variation is not None:
        variation.vary(world, seed)
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
        world.driver.places,
        journal=lines,
        journal_times=tuple(world.driver.journal_times),
    )
