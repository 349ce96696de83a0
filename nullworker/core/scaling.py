"""How many workers an endpoint needs, who is created for it, and who goes.

Definitions (docs/scaling.md has them with examples). For an endpoint: held H is the cost of sessions and grants,
waiting Q the cost of waiters. A waiter is *pressed* when nothing is active, or when the estimated wait (H+Q)/perf of
the active, or its own age, has reached `target_queue_time`. *Needed* is active capacity of max(`min_load`,
H + pressed Q) / `target_util`, and a free or coming place for each pressed waiter. *Cold* is total capacity of
max(`min_cold_load`, `cold_mult` x active load), and `cold_workers` workers in all.

Recruiting happens after any event, trimming only when nothing but time has passed: what was asked or granted a moment
ago is never decided over in the same round.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core import limits
from nullworker.core.commands import Create, Start
from nullworker.core.endpoints import EndpointState
from nullworker.core.timers import Timer
from nullworker.core.verdicts import stop
from nullworker.core.workers import State, Turn, Worker

if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Iterator

    from nullworker.core.ledger import Ledger
    from nullworker.core.pool import Group, Pool

#: Sums of floats are compared with this much slack, relative to their size.
_SLACK = 1e-9


class Need(NamedTuple):
    """What the parameters and the demand want of an endpoint, in perf units and in places."""

    load: float  # max(min_load, H + pressed Q)
    active_perf: float  # load / target_util
    places: int  # pressed waiters, each of whom wants a free or coming place
    cold_perf: float  # total capacity wanted
    cold_workers: int


def need(pool: Pool) -> Need:
    """What is wanted of the endpoint now."""
    parameters = pool.parameters
    if pool.deleted or parameters.state is EndpointState.STOPPED:
        return Need(0.0, 0.0, 0, 0.0, 0)
    pressed, pressed_cost = _pressed(pool)
    load = max(parameters.min_load, pool.held_cost + pressed_cost)
    cold_perf = max(parameters.min_cold_load, parameters.cold_mult * load)
    return Need(load, load / parameters.target_util, pressed, cold_perf, parameters.cold_workers)


def _pressed(pool: Pool) -> tuple[int, float]:
    """How many waiters are pressed, and their cost."""
    if not pool.wanting:
        return 0, 0.0
    if pool.ready_perf <= 0:
        return pool.wanting, pool.waiting_cost
    if (pool.held_cost + pool.waiting_cost) / pool.ready_perf >= pool.parameters.target_queue_time:
        return pool.wanting, pool.waiting_cost
    return pool.aged, pool.aged_cost


def _short(have: float, want: float) -> bool:
    return have < want - _SLACK * max(1.0, want)


def _lacks_active(pool: Pool, wanted: Need) -> bool:
    if _short(pool.ready_perf + pool.booting_perf, wanted.active_perf):
        return True
    return wanted.places > pool.slots and not pool.unbounded


def _lacks_cold(pool: Pool, wanted: Need) -> bool:
    total_perf = pool.ready_perf + pool.booting_perf + pool.inactive_perf
    return _short(total_perf, wanted.cold_perf) or pool.staying < wanted.cold_workers


def recruit(ledger: Ledger, pool: Pool) -> None:
    """Starts and creates workers until the need is met or a limit is."""
    if pool.deleted or pool.parameters.state is not EndpointState.ACTIVE:
        return
    if pool.unheard and ledger.now < ledger.quiet_until:
        return  # after a restart: those we knew have not all spoken yet
    wanted = need(pool)
    while _lacks_active(pool, wanted):
        if not _activate(ledger, pool, wanted) and not _create(ledger, pool, wanted, spare=False):
            return
    while _lacks_cold(pool, wanted):
        if not _create(ledger, pool, wanted, spare=True):
            return


def _activate(ledger: Ledger, pool: Pool, wanted: Need) -> bool:
    for worker in reversed(pool.inactive.values()):
        if not worker.retire and worker.owned:
            worker.attempts, worker.retry_at, worker.order_at, worker.answered_at = 0, None, ledger.now, None
            worker.spare = False
            ledger.out.append(Start(worker.worker_id, _why(pool, wanted, "active"), ledger.cause))
            ledger.turn(worker, Turn.START)
            return True
    return False


def _create(ledger: Ledger, pool: Pool, wanted: Need, *, spare: bool) -> bool:
    if pool.existing >= pool.parameters.max_workers:
        return False
    group = _cheapest(ledger, pool)
    if group is None:
        return False
    worker_id = ledger.next_worker_id
    ledger.next_worker_id += 1
    reason = _why(pool, wanted, "cold" if spare else "active")
    worker = ledger.add_worker(group, worker_id, State.ASKED)
    worker.spare = spare
    ledger.out.append(Create(worker_id, group.spec.workergroup_id, reason, ledger.cause))
    return True


def _cheapest(ledger: Ledger, pool: Pool) -> Group | None:
    """The workergroup with the lowest price for its perf, of those that may grow now."""
    best: Group | None = None
    for group in pool.groups.values():
        spec = group.spec
        if group.ready_since is not None and ledger.now - group.ready_since >= limits.PROVEN_AFTER_S:
            group.failures = 0
        if (
            group.deleted
            or ledger.now < group.next_try_at
            or (group.failures >= limits.FAILURES_BEFORE_ONE_AT_A_TIME and group.booting > 0)
            or (spec.max_workers is not None and group.workers >= spec.max_workers)
        ):
            continue
        if best is None or spec.price_per_hour / spec.perf < best.spec.price_per_hour / best.spec.perf:
            best = group
    return best


def _why(pool: Pool, wanted: Need, kind: str) -> str:
    have = pool.ready_perf + pool.booting_perf
    if kind == "active" and _short(have, wanted.active_perf):
        return (
            f"active perf {have:g} of {wanted.active_perf:g} wanted: load {wanted.load:g} (held {pool.held_cost:g}, "
            f"{wanted.places} pressed waiters) at target_util {pool.parameters.target_util:g}"
        )
    if kind == "active":
        return f"{pool.slots} free or coming places for {wanted.places} pressed waiters"
    total_perf = have + pool.inactive_perf
    return (
        f"total perf {total_perf:g} of {wanted.cold_perf:g} wanted cold, "
        f"{pool.staying} workers of cold_workers {wanted.cold_workers}"
    )


# ------------------------------------------------------------------------------------------------------------- trimming


def plan_trim(ledger: Ledger, pool: Pool) -> None:
    """Sees to it that the endpoint is trimmed when its longest free worker is due (in a tick if overdue)."""
    due = _trim_due(pool)
    if due is None:
        return
    due = max(due, ledger.now + limits.TICK_S if due <= ledger.now else due, ledger.quiet_until)
    if pool.trim_at is None or due < pool.trim_at:
        pool.trim_at = due
        ledger.timers.set(due, Timer.TRIM, pool.endpoint_id)


def _trim_due(pool: Pool, *, after: float = float("-inf")) -> float | None:
    """When the next worker comes up for trimming whose time is later than ``after``.

    Looks at the first few, and after them at the last: where so many are due and needed, so are those in between.
    """
    idle = (_idle_until(pool, worker) for worker in _first_and_last(pool.idle))
    inactive = (_inactive_until(pool, worker) for worker in _first_and_last(pool.inactive))
    dues = [next((due for due in due_times if due > after), None) for due_times in (idle, inactive)]
    return min((due for due in dues if due is not None), default=None)


def _idle_until(pool: Pool, worker: Worker) -> float:
    if worker.spare or pool.parameters.state is EndpointState.STOPPED or _over_cap(pool):
        return worker.free_since
    return worker.free_since + pool.parameters.idle_s


def _inactive_until(pool: Pool, worker: Worker) -> float:
    if pool.keeping > pool.parameters.max_workers:
        return worker.state_since
    return worker.state_since + pool.parameters.idle_s


def _over_cap(pool: Pool) -> bool:
    """Whether `max_workers` was lowered by so much that free workers go for it: inactive ones go before them."""
    return pool.keeping - pool.counts[State.INACTIVE] > pool.parameters.max_workers


def trim(ledger: Ledger, pool: Pool) -> None:
    """Stops or destroys free workers that are due and not needed, and inactive ones beyond the cold floor."""
    pool.trim_at = None
    if pool.parameters.state is EndpointState.SUSPENDED:
        return
    if ledger.now < ledger.quiet_until:
        plan_trim(ledger, pool)
        return
    wanted = need(pool)
    released = 0
    for worker in _first(pool.idle, limits.TRIM_ROUND):
        if _idle_until(pool, worker) > ledger.now:
            break
        if not worker.doubt and _spare_of(pool, worker, wanted):
            released += 1
            _release(ledger, pool, worker, wanted)
    for worker in _first(pool.inactive, limits.TRIM_ROUND):
        if _inactive_until(pool, worker) > ledger.now:
            break
        if pool.parameters.state is not EndpointState.STOPPED and not _cold_wants(pool, worker, wanted):
            released += 1
            over = pool.keeping > pool.parameters.max_workers
            text = _cap_text(pool) if over else _cold_text(wanted)
            ledger.destroy(worker, f"inactive for {ledger.now - worker.state_since:.1f} s, and {text}")
    # Each release touches the endpoint, which plans the next look at those who are due already.
    due = _trim_due(pool, after=ledger.now) if not released else None
    if due is not None and (pool.trim_at is None or due < pool.trim_at):
        pool.trim_at = due
        ledger.timers.set(due, Timer.TRIM, pool.endpoint_id)


def _first(table: OrderedDict[int, Worker], most: int) -> list[Worker]:
    return list(islice(table.values(), most))


def _first_and_last(table: OrderedDict[int, Worker]) -> Iterator[Worker]:
    return chain(islice(table.values(), limits.TRIM_ROUND), islice(reversed(table.values()), 1))


def _spare_of(pool: Pool, worker: Worker, wanted: Need) -> bool:
    """Whether the need is still met without this free worker."""
    if pool.parameters.state is EndpointState.STOPPED or _over_cap(pool):
        return True
    if pool.parameters.keeps_last and pool.active + pool.booting <= 1:
        return False
    share = worker.share
    if share is None or _short(pool.ready_perf + pool.booting_perf - share.ready_perf, wanted.active_perf):
        return False
    if not wanted.places:
        return True
    return pool.unbounded - share.unbounded > 0 or wanted.places <= pool.slots - share.slots


def goes_at(pool: Pool, worker: Worker) -> float | None:
    """When this free worker is up for going if nobody needs it before; None: what is wanted now wants it to stay."""
    return _idle_until(pool, worker) if _spare_of(pool, worker, need(pool)) else None


def _cold_wants(pool: Pool, worker: Worker, wanted: Need) -> bool:
    if pool.keeping > pool.parameters.max_workers:
        return False
    total_perf = pool.ready_perf + pool.booting_perf + pool.inactive_perf - worker.perf_expected
    return _short(total_perf, wanted.cold_perf) or pool.staying - 1 < wanted.cold_workers


def _cap_text(pool: Pool) -> str:
    return f"{pool.keeping} workers are over max_workers {pool.parameters.max_workers}"


def _cold_text(wanted: Need) -> str:
    return f"cold perf {wanted.cold_perf:g} and cold_workers {wanted.cold_workers} are met without it"


def _release(ledger: Ledger, pool: Pool, worker: Worker, wanted: Need) -> None:
    idle_s = ledger.now - worker.free_since
    if pool.parameters.state is EndpointState.STOPPED:
        stop(ledger, worker, "its endpoint is stopped")
        return
    if _over_cap(pool):
        ledger.destroy(worker, f"free, and {_cap_text(pool)}")
        return
    if worker.spare:
        why = "made to be kept inactive"
    else:
        why = f"free for {idle_s:.1f} s (inactivity_timeout {pool.parameters.idle_s:g} s)"
    why += f", and active perf {wanted.active_perf:g} is met without it"
    if _cold_wants(pool, worker, wanted):
        stop(
            ledger,
            worker,
            f"{why}; kept inactive for cold perf {wanted.cold_perf:g}, cold_workers {wanted.cold_workers}",
        )
    else:
        ledger.destroy(worker, why)
