"""What a seed draws: a broker, jobs, consumers and faults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from nullworker.demand.plan import Limits
from nullworker.simulation.queueing.broker import Returns, Traits

#: A world's jobs arrive within this time.
ARRIVALS_S = 900.0


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """A world, all of it drawn beforehand."""

    seed: int
    traits: Traits
    limits: Limits
    arrivals: tuple[tuple[float, float], ...]  # when, and how long each job takes
    boot_s: float = 20.0  # from the request of a reservation until a worker holds it, where none is free
    kept_s: float = 10.0  # for so long a free worker can be held at once
    load_s: float = 5.0  # from then until its consumer asks for a job
    patience_s: float | None = None  # a consumer that finds no job ends after this; None: it stays until it is ended
    many_jobs: bool = False  # a consumer does one job after the other, until it finds none
    poll_s: float = 1.0
    deaths: tuple[float, ...] = ()  # when one of our consumers that is at a job dies, with its worker
    restarts: tuple[float, ...] = ()  # when the dispatcher is killed and started again
    others: tuple[tuple[float, float, float], ...] = ()  # other people's consumers: from when, until when, job length
    unread: tuple[tuple[float, float], ...] = field(default=())  # the queue cannot be read from, until


def draw(seed: int) -> QueuePlan:
    """The world of a seed."""
    random = Random(f"queue {seed}")
    traits = _traits(random)
    claim_s = random.choice([10.0, 30.0])
    patience_s = random.choice([None, 5.0, 30.0])
    limits = Limits(
        most=random.choice([2, 4, 8, 16]),
        lag_s=traits.lag_s,
        claim_s=claim_s,
        end_idle_s=random.choice([5.0, 20.0]) if patience_s is None else random.choice([None, 20.0]),
        lease_s=traits.lease_s,
    )
    load_s = random.choice([0.2, 5.0, 60.0, 200.0])
    if not traits.counts_in_flight:
        limits = replace(limits, claim_s=max(claim_s, 1.5 * load_s))  # as its users are told
    lengths = random.choice([(0.2, 2.0), (5.0, 30.0), (100.0, 1000.0)])
    deaths = random.random() < 0.5
    return QueuePlan(
        seed=seed,
        traits=traits,
        limits=limits,
        arrivals=_arrivals(random, lengths),
        boot_s=random.choice([2.0, 20.0, 60.0]),
        kept_s=random.choice([1.0, 10.0, 60.0]),
        load_s=load_s,
        patience_s=patience_s,
        many_jobs=random.random() < 0.3,
        poll_s=random.choice([0.3, 1.0, 5.0]),
        deaths=tuple(sorted(random.uniform(10, 2000) for _ in range(random.randint(1, 4)))) if deaths else (),
        restarts=tuple(random.uniform(10, 900) for _ in range(random.choice([0, 0, 0, 1, 3]))),
        others=_others(random, lengths) if traits.late_ack and random.random() < 0.3 else (),
        unread=_unread(random) if random.random() < 0.2 else (),
    )


def _traits(random: Random) -> Traits:
    lease_s = random.choice([None, 5.0, 30.0, 120.0])
    returns = Returns.BROKER if lease_s is None else random.choice(list(Returns))
    late_ack = random.random() < 0.75
    return Traits(
        lease_s=lease_s,
        returns=returns,
        late_ack=late_ack,
        # What only consumers bring back, and no broker counts, is lost to any dispatcher.
        counts_in_flight=late_ack and (returns is Returns.CONSUMER or random.random() < 0.85),
        tells_abandoned=random.random() < 0.5,
        lag_s=random.choice([0.0, 0.0, 0.0, 30.0]),
    )


def _arrivals(random: Random, lengths: tuple[float, float]) -> tuple[tuple[float, float], ...]:
    moments: list[float] = []
    for _ in range(random.randint(1, 3)):
        kind = random.choice(["one", "burst", "stream"])
        at = random.uniform(0, ARRIVALS_S)
        if kind == "one":
            moments.append(at)
        elif kind == "burst":
            moments += [at] * random.randint(2, 12)
        else:
            gap_s = random.choice([0.5, 5.0, 60.0])
            moments += [at + n * random.uniform(0.5, 1.5) * gap_s for n in range(random.randint(5, 30))]
    return tuple(sorted((at, random.uniform(*lengths)) for at in moments))


def _others(random: Random, lengths: tuple[float, float]) -> tuple[tuple[float, float, float], ...]:
    found = []
    for _ in range(random.randint(1, 4)):
        since = random.uniform(0, ARRIVALS_S)
        found.append((since, since + random.uniform(10, 500), random.uniform(*lengths)))
    return tuple(found)


def _unread(random: Random) -> tuple[tuple[float, float], ...]:
    since = random.uniform(0, ARRIVALS_S)
    return ((since, since + random.uniform(1, 60)),)
