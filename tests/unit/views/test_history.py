"""What is kept of the last hour, and what an engine before this one wrote of it."""

from __future__ import annotations

import pytest

from nullworker.views.history import Change, History, median, remaining_s
from nullworker.views.text import clock, counted, duration


def test_what_was_written_is_taken_over_and_not_written_again() -> None:
    first = History()
    first.unwritten = []
    first.worker(10.0, 1, "asked", 7, 8)
    first.worker(50.0, 1, "ready", 7, 8)
    first.reservation(51.0, 4, 7, "granted", 1)
    first.reservation(52.0, 4, 7, "session", 1)
    second = History()
    second.unwritten = []
    second.load(first.unwritten)
    assert second.unwritten == []
    assert list(second.workers[1].states) == [(10.0, "asked"), (50.0, "ready")]
    assert second.boots_s([8]) == [40.0]
    assert second.held[7] == {4: 51.0}
    assert first.unwritten[0] == Change(10.0, "worker", 1, 7, 8, "asked", 0)


def test_what_is_not_there_after_a_restart_is_over() -> None:
    history = History()
    history.worker(1.0, 1, "held", 7, 8)
    history.worker(1.0, 2, "held", 7, 8)
    history.reservation(1.0, 4, 7, "session", 1)
    history.reservation(1.0, 5, 7, "session", 2)
    history.keep_only(9.0, [2], [5])
    assert history.workers[1].state == "gone"
    assert history.reservations[4].stage == "ended"
    assert history.held[7] == {5: 1.0}
    assert history.workers[2].state == "held"


def test_the_same_state_again_changes_nothing() -> None:
    history = History()
    history.worker(1.0, 1, "ready", 7, 8)
    serial = history.serial
    history.worker(2.0, 1, "ready", 7, 8)
    history.worker(2.0, 3, "gone", 7, 8)
    history.reservation(2.0, 3, 7, "ended", 0)
    assert history.serial == serial
    assert history.reservations == {}


def test_a_grant_that_did_not_take_is_no_hold_to_learn_from() -> None:
    history = History()
    history.worker(1.0, 1, "ready", 7, 8)
    history.reservation(1.0, 4, 7, "granted", 1)
    history.reservation(16.0, 4, 7, "waiting", 0)
    assert history.holds_s(7) == []
    assert history.workers[1].holds[4].until_s == 16.0


@pytest.mark.parametrize(("elapsed_s", "left_s"), [(0, 30), (25, 10), (40, 0), (41, None)])
def test_what_has_lasted_long_is_compared_with_what_lasted_longer(elapsed_s: float, left_s: float | None) -> None:
    assert remaining_s([20.0, 30.0, 40.0], elapsed_s) == left_s


def test_the_median() -> None:
    assert median([1.0, 2.0, 9.0]) == 2.0
    assert median([1.0, 3.0]) == 2.0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (1.25, "1.2 s"), (41, "41 s"), (600, "10 min"), (9000, "2.5 h")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_and_times_in_words() -> None:
    assert (counted(1, "worker"), counted(2, "worker")) == ("1 worker", "2 workers")
    assert clock(0.0) == "1970-01-01 00:00:00 UTC"
