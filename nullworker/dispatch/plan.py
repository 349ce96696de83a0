"""How many reservations a queue wants: the one formula, pure, with its reasons.

    want = min(max, parallel_max, ceil((waiting + at work) / jobs_per_worker))

What is asked for, being created or held counts from the instant at which it was asked for. *At work* is what the broker
says is in flight, but never more than the reservations could be at: what is in flight beyond them belongs to a consumer
that is dead or not ours, and a new reservation would find nothing to take. An unknown is never a zero: with no fresh
reading nothing is opened and nothing withdrawn, and where the broker cannot tell what is in flight, reservations that
must have taken a job by now stand in for it.

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

#: A consumer takes its first job within this, as far as a late reading is concerned.
TAKE_S = 3.0


class Phase(enum.Enum):
    """Where a reservation of the dispatcher's is."""

    ASKED = "asked"  # waits for a worker; may be withdrawn
    CREATING = "creating"  # a worker may hold it already; is waited for
    HELD = "held"
    CLOSED = "closed"  # kept while it covers for what a late reading shows


#: The phases in which a worker is held, or may be.
HOLDING = frozenset((Phase.CREATING, Phase.HELD))
LIVE = frozenset((Phase.ASKED, Phase.CREATING, Phase.HELD))


@dataclass(slots=True)
class Slot:
    """One reservation as the plan sees it."""

    phase: Phase
    asked_at_s: float
    held_at_s: float | None = None
    closed_at_s: float | None = None
    took_job: bool = False  # seen by the queue becoming shorter; only where in flight is unknown


@dataclass(frozen=True, slots=True)
class Reading:
    """A depth, and when its numbers were true: ``at_s``, less what `Limits.lag_s` allows for."""

    depth: Depth
    at_s: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows one queue, and how far its readings are to be believed."""

    most: int
    jobs_per_worker: int = 1
    lag_s: float = 0.0  # how late the broker's numbers may be
    stale_after_s: float = 10.0
    claim_s: float = 30.0  # by then a held consumer has taken a job; only where in flight is unknown
    end_idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done now, and why."""

    want: int
    have: int
    open: int = 0
    withdraw: int = 0
    reason: str = ""


def at_work(depth: Depth, slots: Iterable[Slot], limits: Limits, now_s: float) -> int:
    """How many jobs our reservations are at."""
    if depth.in_flight is None:
        held = [s for s in slots if s.phase is Phase.HELD]
        return sum(s.took_job or now_s - (s.held_at_s or 0.0) >= limits.claim_s for s in held)
    return min(depth.in_flight, sum(s.phase in HOLDING for s in slots) * limits.jobs_per_worker)


def want(reading: Reading, slots: Sequence[Slot], limits: Limits, now_s: float) -> int:
    """How many reservations the reading calls for, before any shared cap."""
    depth = reading.depth
    working = at_work(depth, slots, limits, now_s)
    waiting = 0 if depth.paused else depth.waiting
    # A job that was taken since, or shortly before a late reading, may still be in it: as waiting, or as in flight.
    covering = sum(covers(s, reading, limits.lag_s) for s in slots)
    beyond_ours = (depth.in_flight or 0) - working if depth.in_flight is not None else 0
    waiting = max(0, waiting - max(0, covering - beyond_ours))
    wanted = math.ceil((waiting + working) / limits.jobs_per_worker)
    if depth.parallel_max is not None:
        wanted = min(wanted, depth.parallel_max)
    return min(limits.most, wanted)


def is_fresh(reading: Reading | None, limits: Limits, now_s: float) -> bool:
    """Whether a reading may be acted upon."""
    return reading is not None and now_s - reading.at_s <= limits.stale_after_s


def covers(slot: Slot, reading: Reading, lag_s: float) -> bool:
    """Whether the job of a closed reservation may be in the reading as one that waits.

    It was taken soon after the worker was held. What never was held has had no job.
    """
    if slot.phase is not Phase.CLOSED or slot.held_at_s is None or slot.closed_at_s is None:
        return False
    taken_at_s = min(slot.closed_at_s, slot.held_at_s + TAKE_S)
    return taken_at_s + lag_s >= reading.at_s


def plan(
    reading: Reading | None, slots: Sequence[Slot], limits: Limits, now_s: float, allowed: int | None = None
) -> Plan:
    """What to open or withdraw.

    Args:
        reading: the last one; None: there is none.
        slots: all reservations that were asked for and are not forgotten.
        limits: what is allowed.
        now_s: the time.
        allowed: what a shared cap or a limit on money leaves to this queue; None: no such limit.
    """
    live = [s for s in slots if s.phase in LIVE]
    if reading is None or not is_fresh(reading, limits, now_s):
        age = "none yet" if reading is None else f"{now_s - reading.at_s:.0f} s old"
        return Plan(len(live), len(live), reason=f"the reading is {age}: nothing is opened or withdrawn")
    depth = reading.depth
    wanted = want(reading, slots, limits, now_s)
    capped = wanted if allowed is None else min(wanted, allowed)
    have = len(live)
    told = f"{depth.waiting} waiting, {'unknown' if depth.in_flight is None else depth.in_flight} in flight"
    if depth.paused:
        told += ", paused"
    if capped < wanted:
        told += f"; capped from {wanted}"
    if have < capped:
        return Plan(capped, have, open=capped - have, reason=told)
    asked = sum(s.phase is Phase.ASKED for s in live)
    return Plan(capped, have, withdraw=min(asked, have - capped), reason=told)
