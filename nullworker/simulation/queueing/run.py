"""The world of a seed, from beginning to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.simulation.queueing.checkers import Broken, broken, settle_s
from nullworker.simulation.queueing.plan import ARRIVALS_S, QueuePlan, draw
from nullworker.simulation.queueing.world import QueueWorld

if TYPE_CHECKING:
    from collections import Counter

#: A world is run for so long after the last job has come, at most, and until all are done.
END_S = 200_000.0
STEP_S = 500.0
#: And for so long after that, for reservations to end.
QUIET_S = 400.0


@dataclass(frozen=True, slots=True)
class QueueOutcome:
    """What a world came to."""

    plan: QueuePlan
    broken: tuple[Broken, ...]
    opened: int  # reservations
    seen: Counter[str]  # how often each thing occurred
    simulated_s: float
    rounds: tuple[tuple[float, str], ...] = ()  # when, and what was read, believed and decided; if asked for


def run_seed(seed: int, *, tells: bool = False) -> QueueOutcome:
    """Runs the world of a seed; ``tells`` keeps its rounds."""
    return run_plan(draw(seed), tells=tells)


def run_plan(plan: QueuePlan, *, tells: bool = False) -> QueueOutcome:
    """As `run_seed`, of a plan."""
    world = QueueWorld(plan, tells=tells)
    end = ARRIVALS_S
    while end < END_S:
        world.run_until(end)
        all_came = len(world.history.jobs) == len(plan.arrivals)
        if all_came and world.broker.is_empty and all(j.done_at or j.lost for j in world.history.jobs):
            break
        end += STEP_S
    world.run_until(
        world.now + QUIET_S + (plan.stall_s if plan.stalls else 0.0) + (settle_s(plan) if plan.stays else 0.0)
    )
    return QueueOutcome(
        plan, tuple(broken(world)), world.history.opened, world.history.seen, world.now, tuple(world.rounds)
    )
