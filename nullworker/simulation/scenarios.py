"""What a seed draws from: named kinds of worlds. Each draws parameters, workers, clients and faults from its seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from nullworker.core.parameters import TESTED_PARAMETERS, Parameters, WorkergroupSpec
from nullworker.simulation import faults
from nullworker.simulation.clients import Job
from nullworker.simulation.plan import FLEET, Plan
from nullworker.simulation.process import WorkerKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.simulation.faults import Faults

NETWORK = ("loss", "duplicate", "delay", "answers_lost", "half_open")
CUTS = ("cut_clients", "cut_workers", "cut_sessions", "cut_fleet")
ENGINE = ("kill", "store_lag", "pause")
CLOCK = ("clock_forward", "clock_backward", "pause")
WORKERS = ("crash", "crash_young", "hang", "unhealthy", "restart", "never_ready", "flap", "mute", "nonsense", "stale")
FLEETS = ("slow", "refuse", "unclear", "appear_late", "misses", "ghosts", "ignored", "outage", "preempt",
          "preempt_all", "unannounced", "strays")  # fmt: skip
CLIENTS = ("vanish", "give_up", "use_late", "close_twice", "burst")
OPERATORS = ("change", "suspend", "update", "delete")
EVERYTHING = (*NETWORK, *CUTS, *ENGINE, *CLOCK, *WORKERS, *FLEETS, *CLIENTS, *OPERATORS, "forge")


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of world. ``faults`` are those that its seeds may draw."""

    name: str
    about: str
    faults: tuple[str, ...] = ()
    share: float = 0.5  # of the faults that a seed switches on
    parameters: Callable[[Random], Parameters] = lambda _: TESTED_PARAMETERS
    endpoints: int = 1
    stock_workers: bool = False  # without prompt reports, idempotent creates and checks of grants
    stock_clients: float = 0.3  # the share of unmodified SDKs
    uneven: bool = False  # costs and perfs differ
    learns: bool = False  # how many reservations a worker takes is not known beforehand
    clients: tuple[int, int] = (20, 80)
    in_turn: bool = True  # a seed that no scenario is named for may belong to it

    def plan(self, seed: int) -> Plan:
        """The world of one seed."""
        random = Random(f"{seed} {self.name}")
        endpoints = {n: self.parameters(random) for n in range(1, self.endpoints + 1)}
        chosen = faults.draw(Random(f"{seed} {self.name} faults"), self.faults, share=self.share)
        groups, kinds = self._groups(random, list(endpoints))
        boot_s = random.choice([(0.5, 2.0), (2.0, 10.0), (5.0, 60.0)])
        return Plan(
            endpoints=endpoints,
            groups=groups,
            kinds=kinds,
            jobs=self._jobs(Random(f"{seed} {self.name} jobs"), list(endpoints), chosen),
            faults=chosen,
            boot_s=boot_s,
            restart_s=(boot_s[0] / 3, boot_s[1] / 3),
        )

    def _groups(self, random: Random, endpoints: list[int]) -> tuple[list[WorkergroupSpec], dict[int, WorkerKind]]:
        groups, kinds = [], {}
        for endpoint_id in endpoints:
            for number in range(2 if self.uneven else 1):
                group_id = 10 * endpoint_id + number
                perf = random.choice([50.0, 100.0, 200.0]) if self.uneven else 100.0
                price = random.choice([0.2, 0.4, 1.0])
                groups.append(
                    WorkergroupSpec(
                        group_id,
                        endpoint_id,
                        FLEET,
                        perf=perf,
                        occupancy=None if self.learns else 1,
                        price_per_hour=price,
                        boot_timeout_s=120.0,
                        fallback_after_s=20.0 if price == 1.0 else 0.0,
                    )
                )
                null = not self.stock_workers
                kinds[group_id] = WorkerKind(prompt=null, repeats=null, checks_grants=null, perf=perf)
        return groups, kinds

    def _jobs(self, random: Random, endpoints: list[int], chosen: Faults) -> list[Job]:
        """Clients over the first part of the time, alone or in bursts; most hold for seconds, some for minutes."""
        count = random.randint(*self.clients)
        at = 1.0
        jobs: list[Job] = []
        mean_s = 480.0 / count
        while len(jobs) < count:
            at += random.expovariate(1 / mean_s)
            together = random.randint(3, 10) if chosen.burst and random.random() < chosen.burst else 1
            for _ in range(together):
                jobs.append(self._job(random, min(at, 590.0), random.choice(endpoints)))  # noqa: PERF401 - reads as told
        return jobs

    def _job(self, random: Random, at: float, endpoint_id: int) -> Job:
        hold_s = random.choice([random.uniform(0.1, 3), random.uniform(1, 30), random.uniform(20, 120)])
        cost = random.choice([50.0, 100.0, 200.0]) if self.uneven else 100.0
        lifetime_s = random.choice([10.0, 60.0])
        return Job(at, hold_s, endpoint_id, cost, random.random() < self.stock_clients, lifetime_s)


def _any(random: Random) -> Parameters:
    """Any legal parameter set that a small world can live with."""
    return Parameters(
        min_load=random.choice([0.0, 0.0, 0.0, 1.0, 100.0, 250.0]),
        target_util=random.choice([1.0, 1.0, 0.9, 0.6]),
        cold_mult=random.choice([0.0, 1.0, 1.0, 2.0]),
        cold_workers=random.choice([0, 0, 0, 1, 2]),
        min_cold_load=random.choice([0.0, 0.0, 150.0]),
        max_workers=random.choice([3, 6, 12, 20]),
        max_queue_time=random.choice([0.0, 1.0, 30.0]),
        target_queue_time=random.choice([0.0, 0.5, 10.0]),
        inactivity_timeout=random.choice([None, 0.5, 3.0, 10.0, 10.0, 45.0, -1.0]),
    )


def _roomy(random: Random) -> Parameters:
    """As `_any`, with room for everyone."""
    return replace(_any(random), max_workers=200)


def _exact(random: Random) -> Parameters:
    """One reservation, one worker; the rest is free."""
    return replace(
        TESTED_PARAMETERS,
        max_workers=200,
        target_queue_time=random.choice([0.0, 0.5, 5.0]),
        max_queue_time=random.choice([0.0, 0.5, 1.0]),
        inactivity_timeout=random.choice([None, 0.5, 5.0, 10.0, 30.0]),
    )


def _small(random: Random) -> Parameters:
    """Fewer workers than clients."""
    return replace(TESTED_PARAMETERS, max_workers=random.randint(1, 4))


SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("calm", "nothing goes wrong, and the parameters are exact", parameters=_exact),
        Scenario("calm-stock", "nothing goes wrong with the unmodified framework and SDK", parameters=_exact,
                 stock_workers=True, stock_clients=1.0),
        Scenario("calm-any", "nothing goes wrong, under any parameters", parameters=_roomy),
        Scenario("calm-learns", "nothing goes wrong; how many a worker takes is learnt", parameters=_roomy,
                 learns=True, stock_workers=True),
        Scenario("calm-uneven", "nothing goes wrong; costs and perfs differ", parameters=_roomy, uneven=True),
        Scenario("queue", "more clients than workers, and clients that leave", (*CLIENTS, "forge"),
                 parameters=_small, clients=(40, 120)),
        Scenario("network", "messages late, lost, doubled, and links cut", (*NETWORK, *CUTS)),
        Scenario("network-stock", "the same with the unmodified framework and SDK", (*NETWORK, *CUTS, "stale"),
                 stock_workers=True, stock_clients=1.0),
        Scenario("restarts", "the engine is killed between any two effects", (*ENGINE, *NETWORK), share=0.6,
                 parameters=_exact),
        Scenario("restarts-only", "the engine is killed, and nothing else goes wrong", ("kill", "store_lag"), share=1.0,
                 parameters=_exact),
        Scenario("ledger-lost", "the engine is killed, and what it had written down may be lost",
                 ("kill", "ledger_lost", "store_lag", "delay", "loss", "misses", "crash", "vanish", "slow"),
                 share=0.7, parameters=_any, in_turn=False),
        Scenario("ledger-lost-stock", "the same with the unmodified framework and SDK",
                 ("kill", "ledger_lost", "store_lag", "delay", "loss", "misses", "crash", "vanish", "slow"),
                 share=0.7, parameters=_any, stock_workers=True, stock_clients=1.0, in_turn=False),
        Scenario("clock", "the clock jumps, the process stands still", (*CLOCK, "delay", "mute")),
        Scenario("workers", "workers crash, hang, fail their health check, restart", WORKERS),
        Scenario("workers-stock", "the same with the unmodified framework", WORKERS, stock_workers=True),
        Scenario("fleet", "the fleet is slow, refuses, fails, lies, pre-empts", FLEETS, parameters=_any),
        Scenario("spot", "instances are taken away, one by one and all at once",
                 ("preempt", "preempt_all", "unannounced", "misses"), share=0.8, parameters=_exact),
        Scenario("operators", "parameters change on the way, endpoints come and go", (*OPERATORS, *CLIENTS),
                 parameters=_any, endpoints=2),
        Scenario("uneven", "costs and perfs differ, several workergroups", (*CLIENTS, "crash", "refuse", "change"),
                 share=0.3, parameters=_any, uneven=True),
        Scenario("learns", "how many a worker takes is learnt, under faults", (*NETWORK, *CLIENTS, "crash", "kill"),
                 share=0.3, parameters=_any, learns=True, stock_workers=True),
        Scenario("everything", "all of it at once", EVERYTHING, share=0.25, parameters=_any, endpoints=2),
        Scenario("everything-stock", "all of it with the unmodified framework and SDK", EVERYTHING, share=0.25,
                 parameters=_any, stock_workers=True, stock_clients=1.0),
    )
}  # fmt: skip


def scenario_of(seed: int) -> Scenario:
    """The scenario that a seed belongs to when none is named: they take turns."""
    names = [name for name, scenario in SCENARIOS.items() if scenario.in_turn]
    return SCENARIOS[names[seed % len(names)]]
