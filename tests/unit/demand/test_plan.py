"""What a queue wants: the formula, and when nothing is done."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nullworker.demand.depth import Depth
from nullworker.demand.limits import Limits
from nullworker.demand.plan import Reading, ReservationPlan, plan, want
from nullworker.demand.reservations import Belief, Phase, ReservationState

NOW = 1_000.0


def reading(waiting: int = 0, in_flight: int | None = 0, age_s: float = 0.0, **more: Any) -> Reading:
    return Reading(Depth(waiting, in_flight, 1.7e9 - age_s, **more), NOW - age_s)


def held(seconds: float = 100.0, **known: Any) -> ReservationState:
    return ReservationState(Phase.HELD, NOW - seconds - 1, NOW - seconds, **known)


def working(seconds: float = 100.0) -> ReservationState:
    return held(seconds, jobs=1)


def asked() -> ReservationState:
    return ReservationState(Phase.ASKED, NOW - 1)


def creating() -> ReservationState:
    return ReservationState(Phase.CREATING, NOW - 1)


def closed(seconds_ago: float, held_s: float = 10.0, jobs: int = 0) -> ReservationState:
    return ReservationState(Phase.CLOSED, NOW - 100, NOW - seconds_ago - held_s, NOW - seconds_ago, jobs)


def test_one_reservation_for_each_job_that_waits_or_is_in_flight() -> None:
    assert want(reading(5, 2), [working(), working()], Limits(16), NOW) == 7


def test_never_more_than_the_maximum() -> None:
    assert want(reading(500, 2), [working(), working()], Limits(16), NOW) == 16


@pytest.mark.parametrize(("waiting", "per_worker", "wanted"), [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (8, 4, 2)])
def test_jobs_per_worker_divides_the_work(waiting: int, per_worker: int, wanted: int) -> None:
    assert want(reading(waiting), [], Limits(16, per_worker), NOW) == wanted


def test_those_who_are_at_work_do_their_share_of_what_waits() -> None:
    """Two reservations that are to do four jobs each need no help with the other six."""
    assert want(reading(6, 2), [working(), working()], Limits(16, 4), NOW) == 2


def test_serialising_keys_cap_what_is_wanted() -> None:
    assert want(reading(50, parallel_max=3), [], Limits(16), NOW) == 3


def test_one_that_is_stuck_takes_no_place_of_those_that_may_run_at_a_time() -> None:
    queue = reading(4, 1, parallel_max=2)
    assert plan(queue, [held(jobs=1), held(done_at_s=1, is_stuck=True)], Limits(16), NOW).open == 1


def test_a_paused_queue_wants_what_is_in_flight_and_no_more() -> None:
    assert want(reading(50, 2, paused=True), [working(), working()], Limits(16), NOW) == 2


def test_what_is_in_flight_beyond_our_reservations_is_no_demand() -> None:
    """Its consumer is dead, or not ours: a new reservation would find nothing to take."""
    assert want(reading(0, 3), [], Limits(16), NOW) == 0
    assert want(reading(2, 3), [working()], Limits(16), NOW) == 3
    assert plan(reading(0, 5), [working()], Limits(16), NOW) == ReservationPlan(1, 1, reason="0 waiting, 5 in flight")


@pytest.mark.parametrize("in_flight", [0, 10, None])
def test_one_that_has_taken_no_job_is_there_for_one_that_waits(in_flight: int | None) -> None:
    """Ten jobs of others are in flight, and ours loads a model for five minutes: it is at none of those."""
    assert plan(reading(1, in_flight), [held(290)], Limits(16), NOW).open == 0
    assert plan(reading(2, in_flight), [held(290)], Limits(16), NOW).open == 1


def test_what_its_consumer_has_left_is_demand() -> None:
    decided = plan(reading(0, 0, abandoned=1), [], Limits(16), NOW)
    assert (decided.open, decided.reason) == (1, "0 waiting, 0 in flight, 1 abandoned")


def test_one_that_is_done_is_there_for_the_next() -> None:
    assert plan(reading(1, 0), [held(done_at_s=NOW)], Limits(16), NOW).open == 0


def test_one_that_may_have_taken_a_job_unseen_is_at_one_if_so_many_are_in_flight() -> None:
    unseen = held(31, moved=True)
    assert unseen.belief(Limits(16), NOW) is Belief.UNKNOWN
    assert plan(reading(1, 1), [unseen], Limits(16, claim_s=30), NOW).open == 1
    assert plan(reading(1, 0), [unseen], Limits(16, claim_s=30), NOW).open == 0
    assert plan(reading(1, None), [unseen], Limits(16, claim_s=30), NOW).open == 1
    assert plan(reading(1, 1), [held(29, moved=True)], Limits(16, claim_s=30), NOW).open == 0


def test_one_that_an_earlier_dispatcher_held_may_be_at_a_job() -> None:
    assert plan(reading(1, 1), [held(1, is_adopted=True)], Limits(16), NOW).open == 1


def test_one_that_an_earlier_dispatcher_held_may_be_at_as_many_jobs_as_it_may_take() -> None:
    """One of them was seen since; the others were taken before."""
    limits = Limits(16, jobs_per_worker=3)
    assert plan(reading(1, 3), [held(jobs=1, is_adopted=True)], limits, NOW).open == 1
    assert plan(reading(1, 1), [held(jobs=1)], limits, NOW).open == 0


def test_a_late_number_shows_later_what_was_taken() -> None:
    """Held for longer than ``claim_s``; but the reading is older than that, and its job is the one that waits."""
    loading = held(35, moved=True)
    assert loading.belief(Limits(16), NOW) is Belief.UNKNOWN
    assert loading.belief(Limits(16, lag_s=10), NOW) is Belief.LOADING


def test_no_more_are_at_work_than_are_in_flight() -> None:
    assert plan(reading(1, 0), [working()], Limits(16), NOW).open == 0
    assert plan(reading(1, 1), [working()], Limits(16), NOW).open == 1


def test_one_is_sent_for_what_nobody_is_at() -> None:
    decided = plan(reading(0, 1), [], Limits(16), NOW, rescue="it is left")
    assert (decided.open, decided.reason) == (1, "0 waiting, 1 in flight; it is left")
    assert plan(reading(0, 1), [], Limits(0), NOW, rescue="it is left").open == 0


def test_one_whose_worker_is_about_to_confirm_may_be_at_work() -> None:
    """The consumer may have its job before the dispatcher hears that the worker is held."""
    assert plan(reading(1, 1), [creating(), asked()], Limits(16), NOW).withdraw == 0


def test_where_in_flight_is_unknown_those_who_have_taken_a_job_stand_in() -> None:
    assert want(reading(3, None), [working(1), working(1)], Limits(16), NOW) == 5


def test_one_just_held_may_not_have_taken_its_job_and_does_not_stand_in() -> None:
    assert want(reading(3, None), [working(1), held(20, moved=True)], Limits(16, claim_s=30), NOW) == 4


def test_a_slow_loader_is_no_reason_for_another() -> None:
    """In flight is unknown, and the queue has not moved: one job, one reservation, for ten times ``claim_s``."""
    assert want(reading(1, None), [held(299)], Limits(16, claim_s=30), NOW) == 1
    assert want(reading(1, None), [held(450), held(149)], Limits(16, claim_s=30), NOW) == 2


def test_what_is_asked_for_counts_from_the_instant_of_asking() -> None:
    assert plan(reading(4), [asked(), asked()], Limits(16), NOW).open == 2


def test_no_reading_opens_and_withdraws_nothing() -> None:
    decided = plan(None, [asked(), held()], Limits(16), NOW)
    assert (decided.open, decided.withdraw) == (0, 0)


def test_a_stale_reading_opens_and_withdraws_nothing() -> None:
    limits = Limits(16, stale_after_s=10)
    assert plan(reading(9, age_s=9), [asked()], limits, NOW).open == 8
    decided = plan(reading(9, age_s=11), [asked()], limits, NOW)
    assert (decided.open, decided.withdraw) == (0, 0)
    assert plan(reading(0, age_s=11), [asked()], limits, NOW).withdraw == 0


def test_what_is_no_longer_wanted_is_withdrawn_while_it_waits() -> None:
    assert plan(reading(0, 1), [asked(), asked(), working()], Limits(16), NOW).withdraw == 2


def test_one_that_a_worker_is_about_to_confirm_is_not_withdrawn() -> None:
    assert plan(reading(0, 0), [creating()], Limits(16), NOW).withdraw == 0


def test_a_job_taken_and_done_since_the_reading_is_not_opened_for_again() -> None:
    assert plan(reading(1, 0, age_s=2), [closed(1, held_s=0.5)], Limits(16), NOW).open == 0


def test_one_that_closed_before_the_reading_covers_nothing() -> None:
    assert plan(reading(1), [closed(1)], Limits(16), NOW).open == 1


def test_a_late_broker_is_covered_for_while_it_may_show_the_job_as_waiting() -> None:
    limits = Limits(16, lag_s=60)
    assert plan(reading(1), [closed(30)], limits, NOW).open == 0
    assert plan(reading(1), [closed(61)], limits, NOW).open == 1


def test_a_job_that_was_taken_longer_ago_than_the_broker_is_late_does_not_cover() -> None:
    """Hours of work end: what waits now is another job, and gets a reservation at once."""
    assert plan(reading(1), [closed(1, held_s=7200, jobs=1)], Limits(16, lag_s=60), NOW).open == 1


def test_a_job_that_no_number_has_shown_to_be_taken_is_covered_for_until_its_end() -> None:
    """A consumer waited for an hour, took the job as it came, and ended: late numbers show it as waiting now."""
    limits = Limits(16, lag_s=60)
    assert plan(reading(1), [closed(30, held_s=3600)], limits, NOW).open == 0
    assert plan(reading(1), [closed(61, held_s=3600)], limits, NOW).open == 1


def test_what_a_late_broker_still_shows_in_flight_is_the_job_that_was_covered_for() -> None:
    assert plan(reading(1, 1), [closed(5, jobs=1)], Limits(16, lag_s=60), NOW).open == 1


def test_a_reservation_that_never_was_held_covers_nothing() -> None:
    withdrawn = ReservationState(Phase.CLOSED, NOW - 5, None, NOW - 1)
    assert plan(reading(1), [withdrawn], Limits(16, lag_s=60), NOW).open == 1


def test_covering_takes_nothing_from_the_maximum() -> None:
    decided = plan(reading(100, 0, age_s=1), [closed(0.5), closed(0.5)], Limits(2), NOW)
    assert decided.open == 2


def test_a_shared_limit_caps_and_says_so() -> None:
    decided = plan(reading(5), [], Limits(16), NOW, allowed=2)
    assert (decided.open, decided.want) == (2, 2)
    assert "capped from 5" in decided.reason


def test_a_limit_that_came_down_withdraws_waiting_requests_and_nothing_else() -> None:
    decided = plan(reading(5), [held(), creating(), asked(), asked()], Limits(16), NOW, allowed=1)
    assert (decided.open, decided.withdraw) == (0, 2)


RESERVATIONS = st.lists(
    st.builds(
        ReservationState,
        st.sampled_from(Phase),
        st.just(NOW - 50),
        st.none() | st.floats(NOW - 50, NOW),
        st.none() | st.floats(NOW - 50, NOW),
        st.integers(0, 3),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@given(
    waiting=st.integers(0, 10_000),
    in_flight=st.none() | st.integers(0, 1_000),
    reservations=RESERVATIONS,
    limits=st.builds(Limits, st.integers(0, 64), st.integers(1, 9), st.sampled_from([0.0, 60.0])),
    age_s=st.floats(0, 100),
    allowed=st.none() | st.integers(0, 64),
)
def test_never_more_open_than_the_maximum_and_never_a_held_one_withdrawn(
    waiting: int,
    in_flight: int | None,
    reservations: list[ReservationState],
    limits: Limits,
    age_s: float,
    allowed: int | None,
) -> None:
    decided = plan(reading(waiting, in_flight, age_s), reservations, limits, NOW, allowed)
    live = sum(s.phase is not Phase.CLOSED for s in reservations)
    assert live + decided.open <= max(live, min(limits.most, math.inf if allowed is None else allowed))
    assert 0 <= decided.withdraw <= sum(s.phase is Phase.ASKED for s in reservations)
    assert decided.open == 0 or decided.withdraw == 0


@given(waiting=st.integers(0, 50), at_work=st.integers(0, 50), dead=st.integers(0, 5))
def test_once_steady_there_are_as_many_as_wait_or_are_at_work(waiting: int, at_work: int, dead: int) -> None:
    """Whatever dead consumers have left in flight."""
    reservations = [working() for _ in range(at_work)]
    decided = plan(reading(waiting, at_work + dead), reservations, Limits(1000), NOW)
    assert (decided.want, decided.open) == (waiting + at_work, waiting)


@pytest.mark.parametrize(
    ("waiting", "reservations", "said"),
    [
        (3, [closed(5, jobs=1), closed(6, jobs=1), closed(7, jobs=1)], "3 of these may be done"),
        (3, [closed(5, jobs=1), closed(200, jobs=1)], "1 of these may be done"),
        (3, [closed(200, jobs=1)], ""),
        (0, [closed(5, jobs=1)], ""),
    ],
)
def test_what_late_numbers_keep_from_being_opened_is_said(
    waiting: int, reservations: list[ReservationState], said: str
) -> None:
    """Else "3 waiting, want 0" stood there for a minute, with no word why."""
    reason = plan(reading(waiting), reservations, Limits(16, lag_s=60), NOW).reason
    assert said in reason
    assert ("the broker's numbers are up to 60 s late" in reason) is bool(said)


def test_numbers_that_are_current_are_not_called_late() -> None:
    assert "late" not in plan(reading(3), [closed(5, jobs=1)], Limits(16), NOW).reason
