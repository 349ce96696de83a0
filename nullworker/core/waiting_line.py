"""The reservations that wait for a worker of one endpoint, first come first served, and the sums over them.

A waiter is *active* while a worker is wanted for it: its client has asked lately. It is *overdue* when it has waited
for `target_queue_time`. Entries of the two heaps may be out of date: they are looked at when they come up.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nullworker.core.reservation import Reservation


@dataclass(slots=True, eq=False)
class WaitingLine:
    """Who waits, in the order of ``request_idx``."""

    target_queue_time_s: float
    waiting: dict[int, Reservation] = field(default_factory=dict)
    active_count: int = 0
    active_cost: float = 0.0
    overdue_count: int = 0
    overdue_cost: float = 0.0
    #: Active waiters that are not overdue yet.
    in_time: dict[int, Reservation] = field(default_factory=dict)
    #: A heap of (first asked at, request_idx) of those.
    overdue_next: list[tuple[float, int]] = field(default_factory=list)
    #: A heap of request_idx.
    order: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.waiting)

    def add(self, reservation: Reservation, now: float) -> None:
        """Lets it wait, at the place that its request_idx gives."""
        self.waiting[reservation.request_idx] = reservation
        if not (reservation.absent or reservation.unseen):
            self._count(reservation, now)
        if not reservation.absent:
            heapq.heappush(self.order, reservation.request_idx)

    def remove(self, reservation: Reservation) -> None:
        """It waits no longer."""
        del self.waiting[reservation.request_idx]
        self._discount(reservation)
        if not self.waiting:
            self.order.clear()

    def set_target(self, target_queue_time_s: float, now: float) -> None:
        """`target_queue_time` has changed: who is overdue is found again."""
        self.target_queue_time_s = target_queue_time_s
        waiters = list(self.waiting.values())
        for waiter in waiters:
            self.remove(waiter)
        for waiter in waiters:
            self.add(waiter, now)

    def _count(self, reservation: Reservation, now: float) -> None:
        reservation.counted = True
        self.active_count += 1
        self.active_cost += reservation.cost
        reservation.overdue = now - reservation.asked_at >= self.target_queue_time_s
        if reservation.overdue:
            self.overdue_count += 1
            self.overdue_cost += reservation.cost
        else:
            self.in_time[reservation.request_idx] = reservation
            heapq.heappush(self.overdue_next, (reservation.asked_at, reservation.request_idx))

    def _discount(self, reservation: Reservation) -> None:
        if not reservation.counted:
            return
        reservation.counted = False
        self.active_count -= 1
        self.active_cost -= reservation.cost
        if reservation.overdue:
            self.overdue_count -= 1
            self.overdue_cost -= reservation.cost
        else:
            del self.in_time[reservation.request_idx]
        if not self.active_count:  # sums of floats drift; where nothing is left to sum, the sum is known
            self.active_cost = self.overdue_cost = 0.0
            self.overdue_next.clear()

    def set_overdue(self, reservation: Reservation) -> None:
        """It has waited for `target_queue_time`."""
        reservation.overdue = True
        del self.in_time[reservation.request_idx]
        self.overdue_count += 1
        self.overdue_cost += reservation.cost

    def next_overdue(self) -> Reservation | None:
        """The waiter that is overdue next."""
        while self.overdue_next:
            reservation = self.in_time.get(self.overdue_next[0][1])
            if reservation is not None:
                return reservation
            heapq.heappop(self.overdue_next)
        return None

    def set_absent(self, reservation: Reservation) -> None:
        """It has not asked for so long that it counts as absent: it is granted nothing, and nothing is made for it."""
        reservation.absent = True
        self._discount(reservation)

    def set_returned(self, reservation: Reservation, now: float) -> None:
        """It asked again after having been absent, or unseen since a restart: it has its old place."""
        if reservation.absent:
            heapq.heappush(self.order, reservation.request_idx)
        reservation.absent = reservation.unseen = False
        if not reservation.counted:
            self._count(reservation, now)

    def first(self) -> Reservation | None:
        """The waiter at the head of those that can take a grant now."""
        while self.order:
            reservation = self.waiting.get(self.order[0])
            if reservation is not None and not reservation.absent:
                return reservation
            heapq.heappop(self.order)
        return None
