"""A hundred thousand workers and a million reservations in one simulated world, beside a hundredth of both.

Engine, workers, fleet, network and clients are those in which the hunt for broken promises takes place; nothing goes
wrong here, and of the checkers those of P1 and P2 are on, which look at each grant and each end of a worker.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from nullworker.core.endpoints import TESTED_PARAMETERS, Workergroup
from nullworker.simulation.checkers.evidence import Evidence
from nullworker.simulation.checkers.p01_exclusive import Exclusive
from nullworker.simulation.checkers.p02_no_kill import NoKill
from nullworker.simulation.clients import Job, Stage
from nullworker.simulation.faults import Faults
from nullworker.simulation.process import Traits
from nullworker.simulation.world import FLEET, Plan, World

if TYPE_CHECKING:
    from nullworker.simulation.watch import Checker

FEW, MANY = 1_000, 100_000
RESERVATIONS = 10  # for each worker
#: Of the workers, so many are held on average.
UTILISATION = 0.9
BOOT_S = (10.0, 60.0)
HOLD_S = (1.0, 9.0)
FEW_ROUNDS = 5
RATIO_MAX = 1.5


class Run(NamedTuple):
    """What one world took."""

    done: int  # reservations that were held and ended
    peak: int  # workers that were there at once
    steps: int  # things that happened in the world
    events: int  # that the core handled
    cpu_s: float
    wall_s: float
    simulated_s: float

    @property
    def step_us(self) -> float:
        return self.cpu_s / self.steps * 1e6


def live(workers: int) -> Run:
    """One world: its workers boot, and then serve reservations until all are done."""
    random = Random(workers)
    mean_s = sum(HOLD_S) / 2 / (workers * UTILISATION)
    at = BOOT_S[1] + 5.0
    jobs = []
    for _ in range(RESERVATIONS * workers):
        at += random.expovariate(1 / mean_s)
        jobs.append(Job(at, random.uniform(*HOLD_S)))
    plan = Plan(
        endpoints={1: replace(TESTED_PARAMETERS, min_load=100.0 * workers, max_workers=workers)},
        groups=[Workergroup(1, 1, FLEET, occupancy=1, boot_timeout_s=120.0)],
        traits={1: Traits()},
        jobs=jobs,
        faults=Faults(),
        boot_s=BOOT_S,
        restart_s=BOOT_S,
        trouble_s=at,
    )
    world = World(plan, workers, _checkers)
    world.box.check_every = sys.maxsize  # the core's own invariants take each table as a whole
    gc.collect()
    gc.freeze()
    gc.disable()  # what it would cost depends on when it comes
    began, cpu_began = time.perf_counter(), time.process_time()
    try:
        world.begin()
        world.agenda.run_until(plan.trouble_s + HOLD_S[1] + 30.0)
        cpu_s, wall_s = time.process_time() - cpu_began, time.perf_counter() - began
    finally:
        gc.enable()
        gc.unfreeze()
    done = sum(client.stage is Stage.DONE for client in world.clients)
    return Run(done, len(world.fleet.instances), world.agenda.done, world.box.events, cpu_s, wall_s, world.now)


def _checkers(world: World) -> list[Checker]:
    evidence = Evidence(world)
    return [evidence, Exclusive(world, evidence), NoKill(world, evidence)]


async def scale() -> dict[str, Any]:
    """The large world, and the cost of one step in it beside the cost in the small one."""
    few = min((live(FEW) for _ in range(FEW_ROUNDS)), key=lambda run: run.cpu_s)
    many = live(MANY)
    ratio = many.step_us / few.step_us
    return {
        "name": f"a world of {MANY} workers",
        "workers": many.peak,
        "reservations": many.done,
        "simulated_s": many.simulated_s,
        "steps": many.steps,
        "core_events": many.events,
        "wall_s": many.wall_s,
        "core_events_per_cpu_s": many.events / many.cpu_s,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        f"step_at_{FEW}_us": few.step_us,
        f"step_at_{MANY}_us": many.step_us,
        "ratio": ratio,
        "wanted": f"{RESERVATIONS * MANY} reservations by {MANY} workers, ratio at most {RATIO_MAX}",
        "met": ratio <= RATIO_MAX and many.done == RESERVATIONS * MANY and many.peak == MANY,
    }


BENCHMARKS = {"scale": scale}
