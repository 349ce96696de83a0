"""What several readings in a row tell."""

from __future__ import annotations

from typing import Any

import pytest

from nullworker.dispatch.plan import Limits, Phase, Reading, ReservationState
from nullworker.dispatch.reading_history import FUTILE_FREE, FUTILE_MAX_S, ReadingHistory
from nullworker.queues.base import Depth

LIMITS = Limits(16, end_idle_s=5.0)


def reading(at_s: float, waiting: int = 0, in_flight: int | None = 0, **more: Any) -> Reading:
    return Reading(Depth(waiting, in_flight, 1.7e9 + at_s, **more), at_s)


def held(since_s: float) -> ReservationState:
    return ReservationState(Phase.HELD, since_s - 1, since_s)


def ended(history: ReadingHistory, count: int, held_s: float = 0.1) -> None:
    for _ in range(count):
        history.closed(ReservationState(Phase.CLOSED, 0, 1, 1 + held_s))


class TestJobsTaken:
    def test_a_queue_that_became_shorter_shows_who_has_taken_a_job(self) -> None:
        history, reservations = ReadingHistory(), [held(2.0), held(1.0), held(3.0)]
        history.add(reading(4, 5, None), reservations)
        history.add(reading(5, 3, None), reservations)
        assert [s.took_job for s in reservations] == [True, True, False]

    def test_what_is_told_need_not_be_guessed(self) -> None:
        history, reservations = ReadingHistory(), [held(2.0)]
        history.add(reading(4, 5, 0), reservations)
        history.add(reading(5, 3, 1), reservations)
        assert not reservations[0].took_job

    def test_a_queue_that_became_longer_shows_nothing(self) -> None:
        history, reservations = ReadingHistory(), [held(2.0)]
        history.add(reading(4, 5, None), reservations)
        history.add(reading(5, 8, None), reservations)
        assert not reservations[0].took_job


class TestProgress:
    def test_reservations_that_come_to_nothing_slow_the_next_down_more_and_more(self) -> None:
        """Something waits that the consumers do not take: without this they would start and end all day."""
        history = ReadingHistory()
        history.add(reading(0, 1), [])
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
        history = ReadingHistory()
        history.add(reading(0, 5), [])
        ended(history, 20)
        history.add(sign, [])
        assert history.pause_s == 0

    def test_arrivals_alone_do_not_end_it(self) -> None:
        history = ReadingHistory()
        history.add(reading(0, 5), [])
        ended(history, 20)
        history.add(reading(1, 6), [])
        assert history.pause_s > 0

    def test_one_that_was_held_for_a_while_has_worked(self) -> None:
        history = ReadingHistory()
        history.add(reading(0, 5), [])
        ended(history, 20)
        ended(history, 1, held_s=60)
        assert history.pause_s == 0

    def test_the_end_of_a_queue_is_no_failure(self) -> None:
        """Many consumers find nothing when a queue is drained."""
        history = ReadingHistory()
        history.add(reading(0, 0, 0), [])
        ended(history, 50)
        assert history.pause_s == 0


class TestIdle:
    def test_nothing_for_long_enough_is_idle(self) -> None:
        history, reservations = ReadingHistory(), [held(0.0), held(8.0)]
        for at_s in range(1, 11):
            history.add(reading(at_s), reservations)
        assert history.idle(reservations, LIMITS, 10.1) == [reservations[0]]

    def test_it_is_never_assumed_unless_asked_for(self) -> None:
        history, reservations = ReadingHistory(), [held(0.0)]
        for at_s in range(1, 100):
            history.add(reading(at_s), reservations)
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
        history, reservations = ReadingHistory(), [held(0.0)]
        for each in (*(reading(at) for at in range(1, 6)), between, *(reading(at) for at in range(7, 11))):
            history.add(each, reservations)
            assert history.idle(reservations, LIMITS, each.at_s) == []

    def test_a_time_in_which_it_could_not_be_read_begins_it_again(self) -> None:
        history, reservations = ReadingHistory(), [held(0.0)]
        history.add(reading(1), reservations)
        history.interrupt()
        history.add(reading(60), reservations)
        assert history.idle(reservations, LIMITS, 60) == []

    def test_late_numbers_never_show_it(self) -> None:
        """A job may have been taken a moment ago, and the broker shows it in a minute."""
        history, reservations = ReadingHistory(), [held(0.0)]
        for at_s in range(1, 1000):
            history.add(reading(at_s), reservations)
        assert history.idle(reservations, Limits(16, end_idle_s=5, lag_s=60), 1000) == []

    def test_an_old_reading_does_not_show_it(self) -> None:
        history, reservations = ReadingHistory(), [held(0.0)]
        for at_s in range(1, 11):
            history.add(reading(at_s), reservations)
        assert history.idle(reservations, LIMITS, 60) == []
