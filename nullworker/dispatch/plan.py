"""How many reservations a queue calls for: one pure function, with the reasons of its result.

    want = min(max, parallel_max, ceil((waiting + at work) / jobs_per_worker))

A reservation counts from the moment of its request. *At work* is what the broker reports in flight, but never more than
the held reservations can work on: further jobs in flight belong to consumers that are dead or not ours, and a new
reservation would find no job. An unknown is never taken for zero: without a fresh reading nothing is opened and nothing
withdrawn, and where the broker cannot tell what is in flight, reservations that must have taken a job by now count
instead.

All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nullworker.queues.base import Depth

#: The time in which a consumer is taken to take its first job, where a reading is late.
TAKE_S = 3.0


class Phase(enum.Enum):
    """The phase of a dispatcher's reservation."""

    ASKED = "asked"  # waits for a worker; may be withdrawn
    CREATING = "creating"  # a worker may hold it already; its answer is awaited
    HELD = "held"
    CLOSED = "closed"  # kept while a late reading may still show its job


#: The phases in which a worker holds the reservation, or may hold it.
HOLDING = frozenset((Phase.CREATING, Phase.HELD))
LIVE = frozenset((Phase.ASKED, Phase.CREATING, Phase.HELD))


@dataclass(slots=True)
class ReservationState:
    """One reservation, as far as the plan needs it."""

    phase: Phase
    asked_at_s: float
    held_at_s: float | None = None
    closed_at_s: float | None = None
    took_job: bool = False  # the queue became shorter; only where in flight is unknown


@dataclass(frozen=True, slots=True)
class Reading:
    """A depth, and when it was read: ``at_s``. Its numbers may be older by `Limits.lag_s`."""

    depth: Depth
    at_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows one queue, and how late its readings may be."""

    most: int
    jobs_per_worker: int = 1
    lag_s: float = 0.0  # how late the broker's numbers may be
    stale_after_s: float = 10.0
    claim_s: float = 30.0  # by then a consumer has taken a job; only where in flight is unknown
    end_idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class ReservationPlan:
    """What to do now, and why."""

    want: int
    have: int
    open: int = 0
    withdraw: int = 0
    reason: str = ""


def at_work(depth: Depth, reservations: Iterable[ReservationState], limits: Limits, now_s: float) -> int:
    """How many jobs our reservations work on.

    Args:
        depth: of the queue.
        reservations: all that are not forgotten.
        limits: of the queue.
        now_s: the time.
    """
    if depth.in_flight is None:
        held = [r for r in reservations if r.phase is Phase.HELD]
        return sum(r.took_job or now_s - (r.held_at_s or 0.0) >= limits.claim_s for r in held)
    return min(depth.in_flight, sum(r.phase in HOLDING for r in reservations) * limits.jobs_per_worker)


def want(reading: Reading, reservations: Sequence[ReservationState], limits: Limits, now_s: float) -> int:
    """How many reservations the reading calls for, before any shared cap.

    Args:
        reading: of the queue.
        reservations: all that are not forgotten.
        limits: of the queue.
        now_s: the time.
    """
    depth = reading.depth
    working = at_work(depth, reservations, limits, now_s)
    waiting = 0 if depth.paused else depth.waiting
    # A job that was taken since the reading, or shortly before a late one, may still be in it, as waiting or in flight.
    covering = sum(covers(r, reading, limits.lag_s) for r in reservations)
    beyond_ours = (depth.in_flight or 0) - working if depth.in_flight is not None else 0
    waiting = max(0, waiting - max(0, covering - beyond_ours))
    wanted = math.ceil((waiting + working) / limits.jobs_per_worker)
    if depth.parallel_max is not None:
        wanted = min(wanted, depth.parallel_max)
    return min(limits.most, wanted)


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

    The job was taken soon after the worker was held; a reservation that never was held had no job.

    Args:
        reservation: any; the answer is False for one that is not closed.
        reading: of the queue.
        lag_s: how late the broker's numbers may be.
    """
    if reservation.phase is not Phase.CLOSED or reservation.held_at_s is None or reservation.closed_at_s is None:
        return False
    taken_at_s = min(reservation.closed_at_s, reservation.held_at_s + TAKE_S)
    return taken_at_s + lag_s >= reading.at_s


def plan(
    reading: Reading | None,
    reservations: Sequence[ReservationState],
    limits: Limits,
    now_s: float,
    allowed: int | None = None,
) -> ReservationPlan:
    """What to open or withdraw.

    Args:
        reading: the last one; None: there is none.
        reservations: all that are not forgotten.
        limits: of the queue.
        now_s: the time.
        allowed: what a shared cap or a limit on money leaves to this queue; None: no such limit.
    """
    live = [r for r in reservations if r.phase in LIVE]
    if reading is None or not is_fresh(reading, limits, now_s):
        age = "none yet" if reading is None else f"{now_s - reading.at_s:.0f} s old"
        return ReservationPlan(len(live), len(live), reason=f"the reading is {age}: nothing is opened or withdrawn")
    depth = reading.depth
    wanted = want(reading, reservations, limits, now_s)
    capped = wanted if allowed is None else min(wanted, allowed)
    have = len(live)
    described = f"{depth.waiting} waiting, {'unknown' if depth.in_flight is None else depth.in_flight} in flight"
    if depth.paused:
        described += ", paused"
    if capped < wanted:
        described += f"; capped from {wanted}"
    if have < capped:
        return ReservationPlan(capped, have, open=capped - have, reason=described)
    asked = sum(r.phase is Phase.ASKED for r in live)
    return ReservationPlan(capped, have, withdraw=min(asked, have - capped), reason=described)
