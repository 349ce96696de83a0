"""A cap that queues share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nullworker.dispatch.fair_share import Demand, fair_shares

DEMANDS = st.lists(
    st.builds(Demand, st.uuids().map(str), st.integers(0, 30), st.integers(0, 10), st.integers(0, 3)),
    max_size=8,
    unique_by=lambda d: d.name,
)


def test_enough_for_all_gives_all_what_they_want() -> None:
    assert fair_shares(10, [Demand("a", 3, 0), Demand("b", 4, 0)]) == {"a": 3, "b": 4}


def test_too_little_is_shared_evenly() -> None:
    assert fair_shares(6, [Demand("a", 100, 0), Demand("b", 100, 0), Demand("c", 1, 0)]) == {"a": 3, "b": 2, "c": 1}


def test_higher_priority_goes_first() -> None:
    assert fair_shares(4, [Demand("low", 4, 0, 0), Demand("high", 3, 0, 1)]) == {"low": 1, "high": 3}


def test_what_is_held_stays_whatever_the_cap() -> None:
    assert fair_shares(2, [Demand("a", 9, 4), Demand("b", 9, 0, 5)]) == {"a": 4, "b": 0}


@given(st.integers(0, 40), DEMANDS)
def test_never_over_the_cap_but_for_what_is_held(cap: int, demands: list[Demand]) -> None:
    given_ = fair_shares(cap, demands)
    held = sum(d.held for d in demands)
    assert sum(given_.values()) <= max(cap, held)
    for demand in demands:
        assert demand.held <= given_[demand.name] <= max(demand.want, demand.held)


@given(st.integers(0, 40), DEMANDS)
def test_nothing_is_left_while_somebody_of_any_priority_wants_more(cap: int, demands: list[Demand]) -> None:
    given_ = fair_shares(cap, demands)
    if sum(given_.values()) < cap:
        assert all(given_[d.name] >= d.want for d in demands)
