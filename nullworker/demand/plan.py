"""How many reservations a queue calls for: one pure function, with the reasons of its result.

    want = min(max, parallel_max, ceil((waiting + abandoned + at work) / jobs_per_worker))

*At work* are the jobs that our held reservations are seen to be at, or may be at (`Belief`). A reservation that has
taken no job yet is there for one that waits, and counts from the moment of its request; what is in flight beyond ours
belongs to other consumers, and a new reservation would find no job. An unknown is never taken for zero: without a fresh
reading nothing is opened and nothing withdrawn.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.demand.reservations import HOLDING, LIVE, Belief, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nullworker.demand.depth import Depth
    from nullworker.demand.limits import Limits
    from nullworker.demand.reservations import ReservationState

#: The time in which a consumer is taken to take its first job, where a reading is late.
TAKE_S = 3.0


@dataclass(frozen=True, slots=True)
class Reading:
    """A depth, and when it was read: ``at_s``. Its numbers may be older by `Limits.lag_s`."""

    depth: Depth
    at_s: float


@dataclass(frozen=True, slots=True)
class ReservationPlan:
    """What to do now, and why."""

    want: int
    have: int
    open: int = 0
    withdraw: int = 0
    reason: str = ""


def pool(depth: Depth) -> int:
    """How many jobs a consumer that comes could take, now or as soon as it has brought them back."""
    return 0 if depth.paused else depth.waiting + (depth.abandoned or 0)


def at_work(reading: Reading, reservations: Iterable[ReservationState], limits: Limits, now_s: float) -> int:
    """How many jobs our reservations work on.

    Args:
        reading: of the queue.
        reservations: all that are not forgotten.
        limits: of the queue.
        now_s: the time.
    """
    depth = reading.depth
    holding = [r for r in reservations if r.phase in HOLDING]
    seen = sum([r.jobs for r in holding])
    unseen = sum(
        limits.jobs_per_worker - r.jobs
        for r in holding
        if r.jobs < limits.jobs_per_worker
        and not r.is_stuck  # `want` counts it
        and r.belief(limits, now_s) is not Belief.DONE
        and r.is_unsure(limits, now_s)
    )
    return seen + unseen if depth.in_flight is None else min(seen + unseen, depth.in_flight)


def want(
    reading: Reading,
    reservations: Sequence[ReservationState],
    limits: Limits,
    now_s: float,
    working: int | None = None,
) -> int:
    """How many reservations the reading calls for, before any shared cap.

    Args:
        reading: of the queue.
        reservations: all that are not forgotten.
        limits: of the queue.
        now_s: the time.
        working: what `at_work` says; None: it is asked.
    """
    depth = reading.depth
    if working is None:
        working = at_work(reading, reservations, limits, now_s)
    # A job that was taken and done since the moment that the reading shows is still in it: it waits, or is in flight if
    # it was seen to be taken.
    covered_waiting = covered_in_flight = stuck = 0
    for reservation in reservations:
        if reservation.phase is not Phase.CLOSED:
            stuck += reservation.is_stuck
        elif covers(reservation, reading, limits.lag_s):
            if reservation.was_seen:
                covered_in_flight += 1
            else:
                covered_waiting += 1
    beyond_ours = max(0, depth.in_flight - working) if depth.in_flight is not None else 0
    waiting = max(0, pool(depth) - covered_waiting - max(0, covered_in_flight - beyond_ours))
    wanted = math.ceil((waiting + working) / limits.jobs_per_worker)
    if depth.parallel_max is not None:
        wanted = min(wanted, depth.parallel_max)
    return min(limits.most, wanted + stuck)


def is_fresh(reading: Reading | None, limits: Limits, now_s: float) -> bool:
    """Whether a reading is recent enough to act on.

    Args:
        reading: the last one; None: there is none.
        limits: of the queue.
        now_s: the time.
    """
    return reading is not None and now_s - reading.at_s <= limits.stale_after_s


def covers(reservation: ReservationState, reading: Reading, lag_s: float) -> bool:
    """Whether a reading may still show the job of a closed reservation as waiting.

    If an earlier reading has shown that it was taken, it was taken soon after the worker was held; else at any time
    until the end. One that never was held had no job.

    Args:
        reservation: any; the answer is False for one that is not closed.
        reading: of the queue.
        lag_s: how late the broker's numbers may be.
    """
    if reservation.phase is not Phase.CLOSED or reservation.held_at_s is None or reservation.closed_at_s is None:
        return False
    taken_at_s = reservation.closed_at_s
    if reservation.was_seen:
        taken_at_s = min(taken_at_s, reservation.held_at_s + TAKE_S)
    return taken_at_s + lag_s >= reading.at_s


def plan(
    reading: Reading | None,
    reservations: Sequence[ReservationState],
    limits: Limits,
    now_s: float,
    allowed: int | None = None,
    rescue: str = "",
    working: int | None = None,
    at_least: int = 0,
) -> ReservationPlan:
    """What to open or withdraw.

    Args:
        reading: the last one; None: there is none.
        reservations: all that are not forgotten.
        limits: of the queue.
        now_s: the time.
        allowed: what a shared cap or a limit on money leaves to this queue; None: no such limit.
        rescue: why one reservation is wanted though the reading calls for none; "" for none.
        working: as for `want`.
        at_least: how many there should be because none of ours takes what waits.
    """
    live = [r for r in reservations if r.phase in LIVE]
    if reading is None or not is_fresh(reading, limits, now_s):
        age = "none yet" if reading is None else f"{now_s - reading.at_s:.0f} s old"
        return ReservationPlan(len(live), len(live), reason=f"the reading is {age}: nothing is opened or withdrawn")
    wanted = want(reading, reservations, limits, now_s, working)
    described = _described(reading.depth)
    if limits.lag_s and wanted < min(limits.most, pool(reading.depth)):
        done = sum(covers(r, reading, limits.lag_s) for r in reservations)
        if done:
            described += f"; {done} of these may be done, as the broker's numbers are up to {limits.lag_s:g} s late"
    if rescue:
        wanted, described = min(wanted + 1, limits.most), f"{described}; {rescue}"
    if at_least > wanted:
        wanted, described = min(at_least, limits.most), f"{described}; none of ours takes what waits: more are sent"
    capped = wanted if allowed is None else min(wanted, allowed)
    have = len(live)
    if capped < wanted:
        described += f"; capped from {wanted}"
    if have < capped:
        return ReservationPlan(capped, have, open=capped - have, reason=described)
    if have == capped:
        return ReservationPlan(capped, have, reason=described)
    asked = sum([r.phase is Phase.ASKED for r in live])
    # One that a worker is about to confirm may have its job by now, and is not there for what waits.
    unheard = min(sum([r.phase is Phase.CREATING for r in live]), reading.depth.in_flight or 0)
    withdraw = max(0, min(asked, have - capped - unheard))
    return ReservationPlan(capped, have, withdraw=withdraw, reason=described)


def _described(depth: Depth) -> str:
    words = f"{depth.waiting} waiting, {'unknown' if depth.in_flight is None else depth.in_flight} in flight"
    if depth.abandoned:
        words += f", {depth.abandoned} abandoned"
    return words + (", paused" if depth.paused else "")
