"""One round of a dispatcher for one queue: a reading in; out, what to open, to withdraw and to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nullworker.demand.evidence import Evidence
from nullworker.demand.plan import plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.demand.limits import Limits
    from nullworker.demand.plan import Reading, ReservationPlan
    from nullworker.demand.reservations import ReservationState


@dataclass(frozen=True, slots=True)
class Decision:
    """What a round comes to."""

    plan: ReservationPlan
    end: list[ReservationState] = field(default_factory=list)  # held, and idle for long enough
    rescue: str = ""  # why one more is wanted than what waits calls for; "": it is not
    more: bool = False  # one is opened because none of ours takes what waits


class Demand:
    """The demand of one queue, reading by reading.

    Args:
        limits: of the queue.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.evidence = Evidence()

    def consider(
        self, reading: Reading, reservations: Sequence[ReservationState], now_s: float, allowed: int | None = None
    ) -> Decision:
        """One round.

        Args:
            reading: of the queue, later than the one before.
            reservations: all that are not forgotten; what each is seen to be at is noted in them.
            now_s: the time.
            allowed: what a shared limit leaves to this queue; None: no such limit.
        """
        self.evidence.add(reading, reservations, self.limits)
        rescue = self.evidence.rescue(self.limits, now_s)
        standstill = self.evidence.standstill
        at_least = standstill.at_least(reservations, self.limits, now_s)
        decided = plan(reading, reservations, self.limits, now_s, allowed, rescue, self.evidence.working, at_least)
        end = self.evidence.idle(reservations, self.limits, now_s)
        if at_least > decided.want and not end:
            in_the_way = standstill.in_the_way(reservations, self.limits, now_s)
            end = [] if in_the_way is None else [in_the_way]
        return Decision(decided, end, rescue, more=decided.open > 0 and at_least > decided.have)
