"""What several readings in a row tell."""

from __future__ import annotations

from typing import Any

import pytest

from nullworker.demand.depth import Depth
from nullworker.demand.evidence import FUTILE_FREE, FUTILE_MAX_S, Evidence
from nullworker.demand.limits import Limits
from nullworker.demand.plan import Reading, plan
from nullworker.demand.reservations import UNMOVED_CLAIMS, Phase, ReservationState

LIMITS = Limits(16, end_idle_s=5.0)


def reading(at_s: float, waiting: int = 0, in_flight: int | None = 0, **more: Any) -> Reading:
    return Reading(Depth(waiting, in_flight, 1.7e9 + at_s, **more), at_s)


def held(since_s: float) -> ReservationState:
    return ReservationState(Phase.HELD, since_s - 1, since_s)


def ended(history: Evidence, count: int, held_s: float = 0.1) -> None:
    for _ in range(count):
        history.closed(ReservationState(Phase.CLOSED, 0, 1, 1 + held_s))


class TestJobsTaken:
    @pytest.mark.parametrize("in_flight", [None, 0])
    def test_a_queue_that_became_shorter_shows_who_has_taken_a_job(self, in_flight: int | None) -> None:
        history, reservations = Evidence(), [held(2.0), held(1.0), held(3.0)]
        history.add(reading(4, 5, in_flight), reservations, LIMITS)
        history.add(reading(5, 3, None if in_flight is None else 2), reservations, LIMITS)
        assert [s.jobs for s in reservations] == [1, 1, 0]

    def test_more_in_flight_shows_it_where_arrivals_hide_it(self) -> None:
        history, reservations = Evidence(), [held(2.0), held(1.0), held(3.0)]
        history.add(reading(4, 5, 7), reservations, LIMITS)
        history.add(reading(5, 6, 8), reservations, LIMITS)
        assert [s.jobs for s in reservations] == [0, 1, 0]

    def test_so_does_as_many_in_flight_after_one_was_done(self) -> None:
        history, reservations = Evidence(), [held(2.0), held(1.0)]
        reservations[1].jobs = 1
        history.add(reading(4, 5, 1), reservations, LIMITS)
        ended = reservations.pop()
        ended.phase, ended.closed_at_s = Phase.CLOSED, 4.5
        history.closed(ended)
        history.add(reading(5, 5, 1), reservations, LIMITS)
        assert [s.jobs for s in reservations] == [1]

    def test_a_queue_that_became_longer_shows_nothing_for_certain(self) -> None:
        history, reservations = Evidence(), [held(2.0)]
        history.add(reading(4, 5, None), reservations, LIMITS)
        history.add(reading(5, 8, None), reservations, LIMITS)
        assert (reservations[0].jobs, reservations[0].moved) == (0, True)

    def test_one_that_did_not_move_shows_that_none_was_taken(self) -> None:
        history, reservations = Evidence(), [held(2.0)]
        for at_s in range(4, 400):
            history.add(reading(at_s, 5, None), reservations, LIMITS)
        assert (reservations[0].jobs, reservations[0].moved) == (0, False)

    def test_less_in_flight_than_ours_were_at_shows_that_some_are_done(self) -> None:
        history, reservations = Evidence(), [held(2.0), held(1.0)]
        history.add(reading(4, 2, 0), reservations, LIMITS)
        history.add(reading(5, 0, 2), reservations, LIMITS)
        history.add(reading(9, 0, 1), reservations, LIMITS)
        assert [(s.jobs, s.done_at_s) for s in reservations] == [(1, None), (0, 9)]

    def test_late_numbers_do_not_show_that(self) -> None:
        history, reservations, late = Evidence(), [held(2.0)], Limits(16, lag_s=60)
        history.add(reading(4, 1, 0), reservations, late)
        history.add(reading(5, 0, 0), reservations, late)
        assert reservations[0].jobs == 1

    def test_one_that_may_have_a_job_already_is_the_least_likely_to_have_taken_it(self) -> None:
        """Else the one that took it counts as free, and no other is opened for the next job."""
        adopted, loading = held(1.0), held(3.0)
        adopted.is_adopted = True
        history = Evidence()
        history.add(reading(4, 1, None), [adopted, loading], LIMITS)
        history.add(reading(5, 0, None), [adopted, loading], LIMITS)
        assert (adopted.jobs, loading.jobs) == (0, 1)

    def test_one_that_passed_jobs_over_has_not_taken_the_next_either(self) -> None:
        passing, loading, history = held(1.0), held(3.0), Evidence()
        passing.done_at_s = 2.0
        history.add(reading(4, 2, 0), [passing, loading], LIMITS)
        history.add(reading(40, 2, 0), [passing, loading], LIMITS)
        history.add(reading(41, 1, 1), [passing, loading], LIMITS)
        assert (passing.jobs, loading.jobs) == (0, 1)

    def test_a_job_that_is_in_flight_no_more_was_taken_by_one_that_has_ended(self) -> None:
        history, reservations = Evidence(), [held(2.0)]
        history.add(reading(4, 1, 0), reservations, LIMITS)
        ended(history, 1)
        history.add(reading(5, 0, 0), reservations, LIMITS)
        assert (reservations[0].jobs, reservations[0].done_at_s) == (0, None)

    def test_what_a_late_number_shows_was_taken_by_one_that_ended_meanwhile(self) -> None:
        history, late = Evidence(), Limits(16, lag_s=30)
        spare, gone = held(2.0), ReservationState(Phase.CLOSED, 0, 1, 10)
        history.add(reading(30, 1, 0), [spare, gone], late)
        history.add(reading(31, 0, 0), [spare, gone], late)
        assert (spare.jobs, gone.jobs) == (0, 1)

    def test_late_numbers_still_have_the_jobs_of_those_that_have_ended(self) -> None:
        """As many in flight as before an end: without a delay another was taken, with one nothing has changed."""
        for limits, jobs in ((LIMITS, 1), (Limits(16, lag_s=30), 0)):
            history, loading, gone = Evidence(), held(2.0), ReservationState(Phase.CLOSED, 0, 1, 10, jobs=1)
            history.add(reading(9, 0, 2), [loading], limits)
            history.closed(gone)
            history.add(reading(11, 0, 2), [loading], limits)
            assert loading.jobs == jobs

    def test_late_numbers_show_a_job_to_be_over_when_all_of_them_do_for_as_long_as_they_may_be_late(self) -> None:
        """The job waits again while its consumer hangs: its worker must not stand for it for ever."""
        late = Limits(16, lag_s=30)
        history, hung = Evidence(), held(1.0)
        hung.jobs = 1
        for at_s, in_flight in ((40, 0), (50, 1), (60, 0), (89, 0)):
            history.add(reading(at_s, 1, in_flight), [hung], late)
            assert hung.jobs == 1
        history.add(reading(90, 1, 0), [hung], late)
        assert (hung.jobs, hung.done_at_s) == (0, 90)
        again_s = 90 + UNMOVED_CLAIMS * late.claim_s
        history.add(reading(again_s, 1, 0), [hung], late)
        assert plan(reading(again_s, 1, 0), [hung], late, again_s).open == 1

    def test_no_more_jobs_are_over_than_each_late_number_shows(self) -> None:
        late = Limits(16, lag_s=30)
        history, reservations = Evidence(), [held(1.0), held(2.0)]
        for reservation in reservations:
            reservation.jobs = 1
        for at_s, in_flight in ((60, 1), (70, 0), (90, 0)):
            history.add(reading(at_s, 1, in_flight), reservations, late)
        assert [(r.jobs, r.done_at_s) for r in reservations] == [(0, 90), (1, None)]

    def test_one_that_ends_in_place_of_the_one_whose_job_was_over_passes_on_since_when(self) -> None:
        """Of two at jobs one loses its lease, and the other, whose job seems to be over, goes on and ends first."""
        history, busy, hung = Evidence(), held(1.0), held(2.0)
        busy.jobs = hung.jobs = 1
        history.add(reading(4, 1, 1), [busy, hung], LIMITS)
        assert (busy.jobs, hung.jobs) == (0, 1)
        busy.phase, busy.closed_at_s = Phase.CLOSED, 200.0
        history.closed(busy)
        history.add(reading(201, 1, 0), [hung], LIMITS)
        assert (hung.jobs, hung.done_at_s) == (0, 4)

    def test_fewer_in_flight_than_ours_may_be_at_shows_that_a_job_that_was_never_seen_is_over(self) -> None:
        """Those that an earlier dispatcher held; one hangs, and must not stand for the job that it lost."""
        history, first, second = Evidence(), held(1.0), held(2.0)
        first.is_adopted = second.is_adopted = True
        history.add(reading(4, 0, 2), [first, second], LIMITS)
        history.add(reading(5, 1, 1), [first, second], LIMITS)
        assert (first.done_at_s, second.done_at_s) == (5, None)

    def test_it_was_the_job_of_one_that_ends_while_as_much_stays_in_flight(self) -> None:
        history, first, second = Evidence(), held(1.0), held(2.0)
        first.is_adopted = second.is_adopted = True
        history.add(reading(4, 0, 2), [first, second], LIMITS)
        history.add(reading(5, 0, 1), [first, second], LIMITS)
        second.phase, second.closed_at_s = Phase.CLOSED, 6.0
        history.closed(second)
        history.add(reading(7, 0, 1), [first], LIMITS)
        assert first.done_at_s is None

    def test_one_that_is_held_may_have_taken_the_job_that_seems_to_be_that_of_one_that_ended(self) -> None:
        history, loading = Evidence(), held(2.0)
        history.add(reading(4, 2, 1), [loading], LIMITS)
        ended(history, 1)
        history.add(reading(5, 1, 1), [loading], LIMITS)
        assert (loading.jobs, loading.moved) == (0, True)

    def test_a_queue_that_was_paused_has_not_become_shorter(self) -> None:
        history, reservations = Evidence(), [held(1.0)]
        history.add(reading(4, 3, None), reservations, LIMITS)
        history.add(reading(5, 0, None, paused=True), reservations, LIMITS)
        assert reservations[0].jobs == 0

    def test_as_many_more_in_flight_as_fewer_wait_hides_nothing(self) -> None:
        history, reservations = Evidence(), [held(1.0), held(2.0)]
        history.add(reading(4, 3, 1), reservations, LIMITS)
        history.add(reading(5, 2, 2), reservations, LIMITS)
        assert [s.moved for s in reservations] == [False, False]

    def test_one_whose_job_is_over_and_that_takes_no_other_is_stuck(self) -> None:
        """Acknowledged, and its process does not end: it must not stand for the jobs that wait, for ever."""
        history, reservations = Evidence(), [held(1.0)]
        reservations[0].done_at_s = 2.0
        for at_s in (4, 4 + UNMOVED_CLAIMS * LIMITS.claim_s - 1):
            history.add(reading(at_s, 1, 0), reservations, LIMITS)
            assert plan(reading(at_s, 1), reservations, LIMITS, at_s).open == 0
        at_s = 4 + UNMOVED_CLAIMS * LIMITS.claim_s
        history.add(reading(at_s, 1, 0), reservations, LIMITS)
        assert plan(reading(at_s, 1), reservations, LIMITS, at_s).open == 1
        history.add(reading(at_s + 1, 0, 0), reservations, LIMITS)
        assert not reservations[0].is_stuck

    @pytest.mark.parametrize("in_flight", [0, 1, 2])
    def test_those_that_an_earlier_dispatcher_held_stand_for_no_job_that_waits_for_ever(self, in_flight: int) -> None:
        """Each may be at a job whose lease was over, and which waits now; what is in flight does not tell which."""
        history, reservations = Evidence(), [held(1.0), held(1.0)]
        for reservation in reservations:
            reservation.is_adopted = True
        for at_s in (4, 4 + UNMOVED_CLAIMS * LIMITS.claim_s - 1):
            history.add(reading(at_s, 1, in_flight), reservations, LIMITS)
            assert plan(reading(at_s, 1, in_flight), reservations, LIMITS, at_s).want == 1 + in_flight
        at_s = 4 + UNMOVED_CLAIMS * LIMITS.claim_s
        history.add(reading(at_s, 1, in_flight), reservations, LIMITS)
        assert plan(reading(at_s, 1, in_flight), reservations, LIMITS, at_s).want == 3

    def test_a_worker_takes_as_many_as_it_may(self) -> None:
        history, reservations = Evidence(), [held(1.0), held(2.0)]
        history.add(reading(4, 5, 0), reservations, Limits(16, 4))
        history.add(reading(5, 0, 5), reservations, Limits(16, 4))
        assert [s.jobs for s in reservations] == [4, 1]


class TestLeft:
    """What is in flight at none of ours, where the broker does not tell whether anybody lives who is at it."""

    LIMITS = Limits(16, lease_s=30.0)

    def waits_until(self, history: Evidence, from_s: float, **more: Any) -> float | None:
        """When a worker is sent, if within a day."""
        for at_s in range(int(from_s), int(from_s) + 86_400, 5):
            history.add(reading(at_s, 0, 1, **{"abandoned": None, **more}), [], self.LIMITS)
            if history.rescue(self.LIMITS, at_s):
                return at_s
        return None

    def test_one_is_sent_when_its_lease_is_over_and_then_ever_more_seldom(self) -> None:
        history = Evidence()
        moments, at_s = [], 0.0
        for _ in range(6):
            sent_at_s = self.waits_until(history, at_s)
            assert sent_at_s is not None
            moments.append(sent_at_s - at_s)
            at_s = sent_at_s
        assert moments == [30, 60, 120, 240, 480, 960]

    def test_a_broker_that_tells_needs_none(self) -> None:
        assert self.waits_until(Evidence(), 0, abandoned=0) is None

    def test_without_a_lease_none_is_sent(self) -> None:
        history = Evidence()
        for at_s in range(0, 86_400, 60):
            history.add(reading(at_s, 0, 1, abandoned=None), [], LIMITS)
            assert not history.rescue(LIMITS, at_s)

    def test_a_number_that_changes_shows_that_somebody_is_there(self) -> None:
        history = Evidence()
        for at_s in range(0, 3600, 20):
            history.add(reading(at_s, 0, 1 + at_s % 40, abandoned=None), [], self.LIMITS)
            assert not history.rescue(self.LIMITS, at_s)

    def test_ours_are_at_what_they_took(self) -> None:
        history, reservations = Evidence(), [held(0.0)]
        reservations[0].jobs = 1
        for at_s in range(0, 3600, 20):
            history.add(reading(at_s, 0, 1, abandoned=None), reservations, self.LIMITS)
            assert not history.rescue(self.LIMITS, at_s)
        history.add(reading(3600, 0, 2, abandoned=None), reservations, self.LIMITS)
        history.add(reading(3631, 0, 2, abandoned=None), reservations, self.LIMITS)
        assert history.rescue(self.LIMITS, 3631)

    def test_others_of_ours_that_end_do_not_put_it_off(self) -> None:
        """Of three jobs in flight one has no consumer; ours end theirs, one after the other."""
        history, reservations = Evidence(), [held(0.0), held(1.0)]
        for reservation in reservations:
            reservation.jobs = 1
        for at_s, in_flight in ((10, 3), (20, 3), (30, 2)):
            history.add(reading(at_s, 0, in_flight, abandoned=None), reservations[3 - in_flight :], self.LIMITS)
            assert not history.rescue(self.LIMITS, at_s)
        history.add(reading(40, 0, 2, abandoned=None), reservations[1:], self.LIMITS)
        assert history.rescue(self.LIMITS, 40)

    def test_the_one_that_was_sent_is_wanted_until_it_has_a_job_or_ends(self) -> None:
        history, sent = Evidence(), ReservationState(Phase.ASKED, 31.0)
        for at_s in (0, 31):
            history.add(reading(at_s, 0, 1, abandoned=None), [], self.LIMITS)
        assert "30 s" in history.rescue(self.LIMITS, 31)
        history.add(reading(90, 0, 1, abandoned=None), [sent], self.LIMITS)
        assert history.rescue(self.LIMITS, 90)
        sent.phase, sent.held_at_s, sent.jobs = Phase.HELD, 91.0, 1
        history.add(reading(92, 0, 1, abandoned=None), [sent], self.LIMITS)
        assert not history.rescue(self.LIMITS, 92)

    def passed_over(self, until_s: int, *reservations: ReservationState, waiting: int = 1) -> list[int]:
        """When a worker is wanted beside those that are there for a job that waits, while one is in flight."""
        history, moments = Evidence(), []
        for at_s in range(0, until_s, 5):
            history.add(reading(at_s, waiting, 1, abandoned=None), reservations, self.LIMITS)
            if history.rescue(self.LIMITS, at_s):
                moments.append(at_s)
        return moments

    def test_one_that_passes_over_what_waits_may_have_brought_back_a_job_that_no_number_shows(self) -> None:
        """It has had --claim to take the one that waits, and then a lease has passed: another comes for that."""
        assert self.passed_over(120, held(0.0))[0] == LIMITS.claim_s + 30

    def test_one_that_is_still_to_come_is_for_both(self) -> None:
        assert self.passed_over(600, held(0.0), ReservationState(Phase.ASKED, 0.0)) == []

    def test_those_that_wait_get_their_own_first(self) -> None:
        """Without a worker that is free none is sent beside those that the jobs which wait call for."""
        at_job = held(0.0)
        at_job.jobs = 1
        assert self.passed_over(600, at_job) == []
        assert self.passed_over(600) == []

    def test_it_is_over_when_what_waits_changes(self) -> None:
        history, reservations = Evidence(), [held(0.0)]
        for at_s in range(0, 65, 5):
            history.add(reading(at_s, 1, 1, abandoned=None), reservations, self.LIMITS)
        assert history.rescue(self.LIMITS, 60)
        history.add(reading(65, 2, 1, abandoned=None), reservations, self.LIMITS)
        assert not history.rescue(self.LIMITS, 65)


class TestProgress:
    def test_reservations_that_come_to_nothing_slow_the_next_down_more_and_more(self) -> None:
        """Something waits that the consumers do not take: without this they would start and end all day."""
        history = Evidence()
        history.add(reading(0, 1), [], LIMITS)
        ended(history, FUTILE_FREE)
        assert history.pause_s == 0
        pauses = []
        for _ in range(20):
            ended(history, 1)
            pauses.append(history.pause_s)
        assert pauses == sorted(pauses)
        assert (pauses[0], pauses[-1]) == (0.5, FUTILE_MAX_S)

    @pytest.mark.parametrize(
        "sign",
        [reading(1, 4, 0), reading(1, 5, 1), reading(1, 0, 0)],
        ids=["shorter", "in flight", "empty"],
    )
    def test_a_queue_that_moves_ends_that(self, sign: Reading) -> None:
        history = Evidence()
        history.add(reading(0, 5), [], LIMITS)
        ended(history, 20)
        history.add(sign, [], LIMITS)
        assert history.pause_s == 0

    def test_arrivals_alone_do_not_end_it(self) -> None:
        history = Evidence()
        history.add(reading(0, 5), [], LIMITS)
        ended(history, 20)
        history.add(reading(1, 6), [], LIMITS)
        assert history.pause_s > 0

    def test_unless_pops_are_not_counted(self) -> None:
        """A producer that is faster than all workers hides what they take."""
        history = Evidence()
        history.add(reading(0, 5, None), [], LIMITS)
        ended(history, 20)
        history.add(reading(1, 6, None), [], LIMITS)
        assert history.pause_s == 0

    def test_one_that_was_held_for_a_while_has_worked(self) -> None:
        history = Evidence()
        history.add(reading(0, 5), [], LIMITS)
        ended(history, 20)
        ended(history, 1, held_s=60)
        assert history.pause_s == 0

    def test_the_end_of_a_queue_is_no_failure(self) -> None:
        """Many consumers find nothing when a queue is drained."""
        history = Evidence()
        history.add(reading(0, 0, 0), [], LIMITS)
        ended(history, 50)
        assert history.pause_s == 0


class TestIdle:
    def test_nothing_for_long_enough_is_idle(self) -> None:
        history, reservations = Evidence(), [held(0.0), held(8.0)]
        for at_s in range(1, 11):
            history.add(reading(at_s), reservations, LIMITS)
        assert history.idle(reservations, LIMITS, 10.1) == [reservations[0]]

    def test_it_is_never_assumed_unless_asked_for(self) -> None:
        history, reservations = Evidence(), [held(0.0)]
        for at_s in range(1, 100):
            history.add(reading(at_s), reservations, LIMITS)
        assert history.idle(reservations, Limits(16), 100) == []

    @pytest.mark.parametrize(
        "between",
        [
            reading(6, 1),
            reading(6, 0, 1),
            reading(6, 0, None),
            reading(6, exact=False),
        ],
        ids=["waiting", "in flight", "unknown", "inexact"],
    )
    def test_anything_else_in_between_begins_it_again(self, between: Reading) -> None:
        history, reservations = Evidence(), [held(0.0)]
        for each in (*(reading(at) for at in range(1, 6)), between, *(reading(at) for at in range(7, 11))):
            history.add(each, reservations, LIMITS)
            assert history.idle(reservations, LIMITS, each.at_s) == []

    def test_a_time_in_which_it_could_not_be_read_begins_it_again(self) -> None:
        history, reservations = Evidence(), [held(0.0)]
        history.add(reading(1), reservations, LIMITS)
        history.interrupt()
        history.add(reading(60), reservations, LIMITS)
        assert history.idle(reservations, LIMITS, 60) == []

    def test_late_numbers_never_show_it(self) -> None:
        """A job may have been taken a moment ago, and the broker shows it in a minute."""
        history, reservations = Evidence(), [held(0.0)]
        for at_s in range(1, 1000):
            history.add(reading(at_s), reservations, LIMITS)
        assert history.idle(reservations, Limits(16, end_idle_s=5, lag_s=60), 1000) == []

    def test_a_job_that_is_over_is_held_for_nothing_whatever_waits(self) -> None:
        limits = Limits(16, max_idle_hold_s=5.0)
        history, loading, done = Evidence(), held(0.0), held(0.0)
        done.done_at_s = 3.0
        for at_s in range(1, 8):
            history.add(reading(at_s, 2), [loading, done], limits)
            assert history.idle([loading, done], limits, at_s) == []
        history.add(reading(8, 2), [loading, done], limits)
        assert history.idle([loading, done], limits, 8) == [done]
        assert history.finished([loading, done], limits, 8) == [(done, 5.0)]

    def test_one_whose_job_no_reading_showed_is_held_for_nothing_where_nothing_waits(self) -> None:
        """The job came and went between two readings."""
        limits = Limits(16, max_idle_hold_s=5.0)
        history, unseen, late = Evidence(), held(0.0), held(4.0)
        for at_s, ended in ((1, []), (5, []), (6, [unseen]), (8, [unseen]), (9, [unseen, late])):
            history.add(reading(at_s), [unseen, late], limits)
            assert history.idle([unseen, late], limits, at_s) == ended

    @pytest.mark.parametrize("between", [reading(6, 0, 1), reading(6, 0, None), reading(6, exact=False)])
    def test_while_anything_may_be_in_flight_nothing_is_held_for_nothing(self, between: Reading) -> None:
        limits = Limits(16, max_idle_hold_s=5.0)
        history, done = Evidence(), held(0.0)
        done.done_at_s = 1.0
        for each in (*(reading(at) for at in range(1, 6)), between, *(reading(at) for at in range(7, 12))):
            history.add(each, [done], limits)
            assert history.idle([done], limits, each.at_s) == []

    def test_of_one_that_an_earlier_dispatcher_left_nothing_but_the_queue_is_known(self) -> None:
        limits = Limits(16, max_idle_hold_s=5.0)
        history, adopted = Evidence(), held(0.0)
        adopted.is_adopted = True
        for at_s in range(1, 7):
            history.add(reading(at_s), [adopted], limits)
        assert history.idle([adopted], limits, 6) == [adopted]

    def test_an_old_reading_does_not_show_it(self) -> None:
        history, reservations = Evidence(), [held(0.0)]
        for at_s in range(1, 11):
            history.add(reading(at_s), reservations, LIMITS)
        assert history.idle(reservations, LIMITS, 60) == []
