"""Ten thousand workers and a hundred thousand reservations in one simulated world, beside a tenth of both; and, by a
name of its own, a hundred thousand workers and a million reservations.

Engine, workers, fleet, network and clients are those in which the hunt for broken promises takes place; nothing goes
wrong here, and of the checkers those of P1 and P2 are on, which look at each grant and each end of a worker.

What else runs on the machine slows a world down, and a large one takes minutes: small ones are lived between its parts,
and the mean of both is compared.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec
from nullworker.simulation.checkers.evidence import Evidence
from nullworker.simulation.checkers.p01_exclusive import Exclusive
from nullworker.simulation.checkers.p02_no_kill import NoKill
from nullworker.simulation.clients import ClientStage, Job
from nullworker.simulation.faults import Faults
from nullworker.simulation.plan import FLEET, Plan
from nullworker.simulation.process import WorkerKind
from nullworker.simulation.world import World

if TYPE_CHECKING:
    from nullworker.simulation.observer import Checker
    from nullworker.simulation.truth import Truth

FEW, MANY, MOST = 1_000, 10_000, 100_000
RESERVATIONS = 10  # for each worker
#: Of the workers, so many are held on average.
UTILISATION = 0.9
BOOT_S = (10.0, 60.0)
SERVES_FROM_S = BOOT_S[1] + 5.0
HOLD_S = (1.0, 9.0)
PARTS = 4
RATIO_MAX = 1.5


class Cost(NamedTuple):
    """What one world took, or several like it."""

    done: int  # reservations that were held and ended
    steps: int  # things that happened
    events: int  # that the core handled
    cpu_s: float

    @property
    def step_us(self) -> float:
        return self.cpu_s / self.steps * 1e6

    @property
    def reservation_us(self) -> float:
        return self.cpu_s / self.done * 1e6


class Life:
    """One world, lived in parts: its workers boot, and then serve reservations until all are done."""

    def __init__(self, workers: int) -> None:
        plan = _plan(workers)
        self.world = World(plan, workers, _checkers)
        self.world.driver.check_every = sys.maxsize  # the core's own invariants take each table as a whole
        self.ends_at = plan.faults_end_s + HOLD_S[1] + 30.0
        self.cpu_s = self.wall_s = 0.0
        self.world.begin()

    def go_on(self, until: float) -> None:
        """Lives on until a time of the world."""
        began, cpu_began = time.perf_counter(), time.process_time()
        self.world.context.queue.run_until(until)
        self.cpu_s += time.process_time() - cpu_began
        self.wall_s += time.perf_counter() - began

    def cost(self) -> Cost:
        done = sum(client.stage is ClientStage.DONE for client in self.world.clients)
        return Cost(done, self.world.context.queue.done, self.world.driver.events, self.cpu_s)


def _plan(workers: int) -> Plan:
    random = Random(workers)
    mean_s = sum(HOLD_S) / 2 / (workers * UTILISATION)
    at = SERVES_FROM_S
    jobs = []
    for _ in range(RESERVATIONS * workers):
        at += random.expovariate(1 / mean_s)
        jobs.append(Job(at, random.uniform(*HOLD_S)))
    return Plan(
        endpoints={1: replace(TESTED_PARAMETERS, min_load=100.0 * workers, max_workers=workers)},
        groups=[WorkergroupSpec(1, 1, FLEET, occupancy=1, boot_timeout_s=120.0)],
        kinds={1: WorkerKind()},
        jobs=jobs,
        faults=Faults(),
        boot_s=BOOT_S,
        restart_s=BOOT_S,
        faults_end_s=at,
    )


def _checkers(truth: Truth) -> list[Checker]:
    evidence = Evidence(truth)
    return [evidence, Exclusive(truth, evidence), NoKill(truth, evidence)]


def _few() -> Cost:
    """A small world. What is left of it is collected, and what was there before is not looked at for that."""
    gc.freeze()
    life = Life(FEW)
    life.go_on(life.ends_at)
    cost = life.cost()
    del life
    gc.collect()
    return cost


def _side_by_side(workers: int) -> tuple[Life, Cost]:
    """A large world, and what the small ones between its parts took."""
    gc.collect()
    gc.disable()  # what it would cost depends on when it comes
    try:
        life = Life(workers)
        few = []
        for part in range(1, PARTS + 1):
            life.go_on(SERVES_FROM_S + (life.ends_at - SERVES_FROM_S) * part / PARTS)
            few.append(_few())
    finally:
        gc.enable()
        gc.unfreeze()
    return life, Cost(*map(sum, zip(*few, strict=True)))


def _compare(workers: int) -> dict[str, Any]:
    life, few = _side_by_side(workers)
    many, peak = life.cost(), len(life.world.fleet.instances)
    ratio = many.step_us / few.step_us
    return {
        "name": f"a world of {workers} workers",
        "workers": peak,
        "reservations": many.done,
        "simulated_s": life.world.now,
        "steps": many.steps,
        "core_events": many.events,
        "cpu_s": many.cpu_s,
        "wall_s": life.wall_s,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        f"step_at_{FEW}_us": few.step_us,
        f"step_at_{workers}_us": many.step_us,
        "ratio": ratio,
        f"reservation_at_{FEW}_us": few.reservation_us,
        f"reservation_at_{workers}_us": many.reservation_us,
        "reservation_ratio": many.reservation_us / few.reservation_us,
        "wanted": f"{RESERVATIONS * workers} reservations by {workers} workers, ratio at most {RATIO_MAX}",
        "met": ratio <= RATIO_MAX and many.done == RESERVATIONS * workers and peak == workers,
    }


async def scale() -> dict[str, Any]:
    """The cost of one step in a large world beside that in a small one."""
    return _compare(MANY)


async def scale_full() -> dict[str, Any]:
    """The same with the largest one. It takes many minutes and 2 GiB."""
    return _compare(MOST)


BENCHMARKS = {"scale": scale}
#: Run only if named.
BY_NAME_ALONE = {"scale-full": scale_full}
