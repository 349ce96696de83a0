"""Reminders come out in the order of their times, and those of one time in the order of their setting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nullworker.core.timers import Timer, Timers


def test_nothing_is_due_when_nothing_is_set() -> None:
    timers = Timers()
    assert timers.next_at() is None
    assert timers.pop_due(1e9) is None
    assert len(timers) == 0


def test_an_entry_is_due_at_its_very_time_and_not_before() -> None:
    timers = Timers()
    timers.set(5.0, Timer.SCALE_DOWN, 1)
    assert timers.next_at() == 5.0
    assert timers.pop_due(4.999) is None
    assert timers.pop_due(5.0) == (Timer.SCALE_DOWN, 1)


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from(Timer))))
def test_entries_come_out_by_time_and_then_in_the_order_of_setting(entries: list[tuple[float, Timer]]) -> None:
    timers = Timers()
    for key, (when, kind) in enumerate(entries):
        timers.set(when, kind, key)
    popped = [timers.pop_due(10.0) for _ in entries]
    ordered = sorted(range(len(entries)), key=lambda key: (entries[key][0], key))
    assert popped == [(entries[key][1], key) for key in ordered]


@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([Timer.GRANT, Timer.WORKER]))))
def test_what_is_taken_out_meanwhile_is_always_the_earliest(entries: list[tuple[int, Timer]]) -> None:
    timers = Timers()
    left: list[tuple[int, int, Timer]] = []
    for key, (when, kind) in enumerate(entries):
        timers.set(when, kind, key)
        left = sorted([*left, (when, key, kind)])
        assert (timers.next_at(), len(timers)) == (left[0][0], len(left))
        if key % 3 == 2:
            _, first_key, first_kind = left.pop(0)
            assert timers.pop_due(10.0) == (first_kind, first_key)
