"""What waits while none of ours takes it, where consumers may stay after their job."""

from __future__ import annotations

from typing import Any

import pytest

from nullworker.demand.depth import Depth
from nullworker.demand.limits import Limits
from nullworker.demand.plan import Reading
from nullworker.demand.reservations import LIVE, UNMOVED_CLAIMS, Phase, ReservationState
from nullworker.demand.round import Decision, Demand

#: A job that waits for 20 s beside one of ours is taken by none of them.
LIMITS = Limits(16, claim_s=10.0, max_idle_hold_s=20.0)


class Dispatcher:
    """Opens and ends what is decided, at once; ``boot_s`` after that a worker holds what was opened."""

    def __init__(self, limits: Limits = LIMITS, boot_s: float = 3.0) -> None:
        self.demand = Demand(limits)
        self.reservations: list[ReservationState] = []
        self.now_s = 0.0
        self.boot_s = boot_s
        self.ended_at_s: list[float] = []

    def hold(self, count: int) -> None:
        self.reservations += [ReservationState(Phase.HELD, self.now_s, self.now_s) for _ in range(count)]

    @property
    def live(self) -> int:
        return sum(r.phase in LIVE for r in self.reservations)

    def read(self, waiting: int, in_flight: int | None = 0, **more: Any) -> Decision:
        """A second later."""
        self.now_s += 1
        for r in self.reservations:
            if r.phase is Phase.ASKED and self.now_s >= r.asked_at_s + self.boot_s:
                r.phase, r.held_at_s = Phase.HELD, self.now_s
        depth = Depth(waiting, in_flight, 1.7e9 + self.now_s, **more)
        decision = self.demand.consider(Reading(depth, self.now_s), self.reservations, self.now_s)
        self.reservations += [ReservationState(Phase.ASKED, self.now_s) for _ in range(decision.plan.open)]
        asked = [r for r in self.reservations if r.phase is Phase.ASKED]
        for r in [*decision.end, *asked[len(asked) - decision.plan.withdraw :]]:
            r.phase, r.closed_at_s = Phase.CLOSED, self.now_s
            self.demand.evidence.closed(r)
        self.ended_at_s += [self.now_s] * len(decision.end)
        self.reservations = [r for r in self.reservations if r.phase is not Phase.CLOSED]
        return decision

    def opened_at_s(self, until_s: float, waiting: int, in_flight: int | None = 0, **more: Any) -> list[float]:
        """When more were opened, of readings that are all alike."""
        found = []
        while self.now_s < until_s:
            if self.read(waiting, in_flight, **more).plan.open:
                found.append(self.now_s)
        return found


def test_what_waits_gets_another_worker_if_none_of_ours_takes_it() -> None:
    dispatcher = Dispatcher()
    dispatcher.hold(1)
    assert dispatcher.opened_at_s(30, 1) == [21]
    assert dispatcher.live == 2


def test_the_reason_says_so_until_that_has_come_and_it_is_not_withdrawn() -> None:
    dispatcher = Dispatcher()
    dispatcher.hold(2)
    assert dispatcher.opened_at_s(21, 1) == [21]
    for _ in range(2):
        decision = dispatcher.read(1)
        assert (decision.plan.want, decision.plan.withdraw, decision.plan.open) == (3, 0, 0)
        assert "none of ours takes what waits" in decision.plan.reason


def test_it_is_withdrawn_if_the_job_is_taken_before_it_comes() -> None:
    dispatcher = Dispatcher()
    dispatcher.hold(1)
    dispatcher.opened_at_s(21, 1)
    assert dispatcher.read(0, 1).plan.withdraw == 1


@pytest.mark.parametrize(
    ("limits", "reading"),
    [
        (Limits(16, claim_s=10.0), {}),  # all consumers end after their job
        (Limits(16, claim_s=10.0, max_idle_hold_s=20.0, lag_s=30.0), {}),
        (LIMITS, {"in_flight": None}),
        (LIMITS, {"in_flight": 1}),  # it may be ours that is at it
        (LIMITS, {"paused": True}),
    ],
)
def test_where_it_is_not_known_that_ours_stand_still_none_is_sent_for_it(
    limits: Limits, reading: dict[str, Any]
) -> None:
    dispatcher = Dispatcher(limits)
    dispatcher.hold(1)
    assert dispatcher.read(1, **reading).plan.open == 0
    assert dispatcher.opened_at_s(10 * UNMOVED_CLAIMS - 1, 1, **reading) == []  # then it may be at a job unseen


def test_one_that_waits_for_a_place_of_the_brokers_is_none_that_stands_still() -> None:
    """All three are taken by others' consumers."""
    dispatcher = Dispatcher()
    dispatcher.hold(3)
    assert dispatcher.opened_at_s(300, 4, 3, parallel_max=3) == []


def test_an_outage_and_a_job_that_is_taken_begin_it_again() -> None:
    dispatcher = Dispatcher()
    dispatcher.hold(2)
    assert dispatcher.opened_at_s(20, 2) == []
    dispatcher.demand.evidence.interrupt()
    assert dispatcher.opened_at_s(40, 2) == []
    dispatcher.read(1)
    assert dispatcher.opened_at_s(60, 1) == []
    assert dispatcher.opened_at_s(70, 1)


def test_one_that_changes_nothing_is_followed_by_the_next_after_twice_as_long() -> None:
    """As one that loads for very long, or that takes its jobs from another queue."""
    dispatcher = Dispatcher()
    dispatcher.hold(1)
    opened = dispatcher.opened_at_s(1000, 1)
    assert opened == [21, 21 + 3 + 40, 21 + 3 + 40 + 3 + 80, 21 + 3 + 40 + 3 + 80 + 3 + 160, 310 + 3 + 320]


def test_where_those_that_are_sent_take_jobs_twice_as_many_follow() -> None:
    dispatcher = Dispatcher()
    dispatcher.hold(10)
    waiting, sent = 10, []
    for _ in range(200):
        decision = dispatcher.read(waiting)
        if decision.more:
            sent.append(decision.plan.open)
        elif any(r.held_at_s == dispatcher.now_s for r in dispatcher.reservations):
            waiting = max(0, waiting - sent[-1])  # within this second, and it is done
    assert (waiting, sent) == (0, [1, 2, 4, 3])


def test_at_the_most_that_are_allowed_one_that_stands_still_is_ended_for_the_next() -> None:
    dispatcher = Dispatcher(Limits(2, claim_s=10.0, max_idle_hold_s=20.0))
    dispatcher.hold(2)
    assert dispatcher.opened_at_s(102, 2) == [102]
    assert dispatcher.ended_at_s == [1 + 10 * UNMOVED_CLAIMS]
    assert dispatcher.live == 2


def test_so_it_is_below_a_shared_limit() -> None:
    dispatcher = Dispatcher()
    dispatcher.hold(1)
    demand, ended = dispatcher.demand, []
    for at_s in range(1, 110):
        reading = Reading(Depth(1, 0, 1.7e9 + at_s), at_s)
        ended += [at_s] * len(demand.consider(reading, dispatcher.reservations, at_s, allowed=1).end)
    assert ended == [101]


@pytest.mark.parametrize("in_flight", [1, 5])
def test_none_is_ended_while_anything_is_in_flight(in_flight: int) -> None:
    dispatcher = Dispatcher(Limits(2, claim_s=10.0, max_idle_hold_s=20.0))
    dispatcher.hold(2)
    dispatcher.opened_at_s(1000, 5, in_flight)
    assert dispatcher.ended_at_s == []


@pytest.mark.parametrize("load_s", [25, 99, 330, 930])
def test_one_that_loads_for_longer_than_was_said_comes_to_its_job(load_s: int) -> None:
    """Though it, or those in its place, are ended meanwhile: the next has twice as long."""
    dispatcher = Dispatcher(Limits(1, claim_s=10.0, max_idle_hold_s=20.0))
    dispatcher.hold(1)
    while not any(
        r.held_at_s is not None and dispatcher.now_s - r.held_at_s >= load_s for r in dispatcher.reservations
    ):
        dispatcher.read(1)
        assert dispatcher.now_s < 4 * load_s + 200
