"""What a seed draws: a broker, jobs, consumers and faults."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from nullworker.demand.limits import Limits
from nullworker.demand.reservations import UNMOVED_CLAIMS
from nullworker.simulation.queueing.broker import Lie, Returns, Traits

#: A world's jobs arrive within this time.
ARRIVALS_S = 900.0
STALLED_LEASES = 2.5
STALLED_CLAIMS = 2 * UNMOVED_CLAIMS


@dataclass(frozen=True, slots=True)
class ForeignConsumer:
    """A consumer that is not ours."""

    since: float
    until: float
    length_s: float  # of each of its jobs
    dies: bool  # at its end, with the job it has; else it finishes that


@dataclass(frozen=True, slots=True)
class Lying:
    """The broker shows a wrong number for a while."""

    since: float
    until: float
    lie: Lie
    is_told: bool  # the adapter knows, and says that the reading is not exact


@dataclass(frozen=True, slots=True)
class QueuePlan:
    """A world, all of it drawn beforehand. Spans are (since, until)."""

    seed: int
    traits: Traits
    limits: Limits
    arrivals: tuple[tuple[float, float], ...]  # when, and how long each job takes
    boot_s: float = 20.0  # from the request of a reservation until a worker holds it, where none is free
    confirm_s: float = 0.1  # until the worker's answer is here
    kept_s: float = 10.0  # for so long a free worker can be held at once
    load_s: float = 5.0  # until its consumer asks for a job
    patience_s: float | None = None  # a consumer that finds no job ends after this; None: it stays until it is ended
    many_jobs: bool = False  # a consumer does one job after the other, until it finds none
    stays: bool = False  # a consumer does one job and does not end: `Limits.max_idle_hold_s` is set
    prefetch: int = 0  # a consumer takes so many jobs more than it is at
    poll_s: float = 1.0
    kills: frozenset[int] = frozenset()  # jobs in the middle of which our first consumer dies, with its worker
    stalls: frozenset[int] = frozenset()  # jobs in the middle of which it stands still for longer than the lease
    restarts: tuple[float, ...] = ()  # when the dispatcher is killed and started again
    others: tuple[ForeignConsumer, ...] = ()
    unread: tuple[tuple[float, float], ...] = ()  # the queue cannot be read
    paused: tuple[tuple[float, float], ...] = ()
    lies: tuple[Lying, ...] = field(default=())

    @property
    def stall_s(self) -> float:
        """How long a consumer that stands still does so: its lease runs out, and the dispatcher must notice."""
        return STALLED_LEASES * (self.traits.lease_s or 0.0) + STALLED_CLAIMS * self.limits.claim_s


def draw(seed: int) -> QueuePlan:
    """The world of a seed."""
    random = Random(f"queue {seed}")
    traits = _traits(random)
    claim_s = random.choice([10.0, 30.0])
    patience_s = random.choice([None, 5.0, 30.0])
    many_jobs = random.random() < 0.3
    limits = Limits(
        most=random.choice([2, 4, 8, 16]),
        jobs_per_worker=random.choice([1, 1, 3]) if many_jobs else 1,
        lag_s=traits.lag_s,
        claim_s=claim_s,
        end_idle_s=random.choice([5.0, 20.0]) if patience_s is None else random.choice([None, 20.0]),
        lease_s=traits.lease_s,
    )
    load_s = random.choice([0.2, 5.0, 60.0, 200.0])
    if not traits.counts_in_flight:
        limits = replace(limits, claim_s=max(claim_s, 1.5 * load_s))  # as its users are told
    lengths = random.choice([(0.2, 2.0), (5.0, 30.0), (100.0, 1000.0)])
    arrivals = _arrivals(random, lengths)
    is_kept = traits.counts_in_flight or traits.returns is Returns.BROKER  # what a dead consumer took beforehand
    plan = QueuePlan(
        seed=seed,
        traits=traits,
        limits=limits,
        arrivals=arrivals,
        boot_s=random.choice([2.0, 20.0, 60.0]),
        confirm_s=random.choice([0.05, 1.0, 5.0]),
        kept_s=random.choice([1.0, 10.0, 60.0]),
        load_s=load_s,
        patience_s=patience_s,
        many_jobs=many_jobs,
        prefetch=random.choice([1, 4]) if is_kept and random.random() < 0.15 else 0,
        poll_s=random.choice([1.0, 2.0, 5.0]),
    )
    return _with_stays(_with_faults(random, plan, lengths))


def _with_stays(plan: QueuePlan) -> QueuePlan:
    """Consumers that do not end, in some of the worlds where the queue tells that a job is over.

    One that is in flight without a live consumer says for ever that one of them may be at it.
    """
    random, traits = Random(f"queue stays {plan.seed}"), plan.traits
    tells = traits.counts_in_flight and (traits.returns is Returns.BROKER or traits.tells_abandoned)
    can = tells and not (traits.lag_s or plan.many_jobs or plan.prefetch or plan.stalls)
    if not can or random.random() >= 0.3:
        return plan
    return replace(plan, stays=True, limits=replace(plan.limits, max_idle_hold_s=random.choice([2.0, 20.0, 60.0])))


def _with_faults(random: Random, plan: QueuePlan, lengths: tuple[float, float]) -> QueuePlan:
    traits, jobs = plan.traits, len(plan.arrivals)
    kills = random.choices(range(1, jobs + 1), k=random.randint(1, 3)) if random.random() < 0.4 else []
    if kills and random.random() < 0.5:
        kills.append(jobs)  # the last one: nothing else is in the queue
    stalls = [random.randint(1, jobs)] if traits.lease_s is not None and random.random() < 0.1 else []
    return replace(
        plan,
        kills=frozenset(kills),
        stalls=frozenset(stalls),
        restarts=tuple(random.uniform(10, 900) for _ in range(random.choice([0, 0, 0, 1, 3]))),
        others=_others(random, lengths) if random.random() < 0.25 else (),
        unread=(_span(random, 60.0),) if random.random() < 0.15 else (),
        paused=(_span(random, 300.0),) if random.random() < 0.1 else (),
        lies=(_lying(random),) if random.random() < 0.15 else (),
    )


def _traits(random: Random) -> Traits:
    lease_s = random.choice([None, 5.0, 30.0, 120.0])
    returns = Returns.BROKER if lease_s is None else random.choice(list(Returns))
    late_ack = random.random() < 0.75
    # What only consumers bring back, and is not counted, is lost to any dispatcher.
    counts = late_ack and (returns is Returns.CONSUMER or random.random() < 0.85)
    return Traits(
        lease_s=lease_s,
        returns=returns,
        late_ack=late_ack,
        counts_in_flight=counts,
        tells_abandoned=random.random() < 0.5,
        lag_s=random.choice([0.0, 0.0, 0.0, 30.0]),
        parallel_max=random.choice([1, 3]) if counts and random.random() < 0.1 else None,
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


def _others(random: Random, lengths: tuple[float, float]) -> tuple[ForeignConsumer, ...]:
    found = []
    for _ in range(random.randint(1, 4)):
        since, until = _span(random, 500.0)
        found.append(ForeignConsumer(since, until, random.uniform(*lengths), dies=random.random() < 0.3))
    return tuple(found)


def _lying(random: Random) -> Lying:
    since, until = _span(random, 200.0)
    return Lying(since, until, random.choice(list(Lie)), is_told=random.random() < 0.5)


def _span(random: Random, longest_s: float) -> tuple[float, float]:
    since = random.uniform(0, ARRIVALS_S)
    return since, since + random.uniform(1.0, longest_s)
