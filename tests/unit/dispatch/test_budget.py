"""Limits on money stop opening and end nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nullworker.dispatch.budget import Budget, Spending, affordable

NOTHING = Spending(0.0, 0.0)


def test_no_budget_is_no_limit() -> None:
    assert affordable(Budget(), Spending(9.0, 100.0), 0.5, 3, 3) == (None, "")
    assert not Budget()


def test_hourly_is_a_number_of_workers() -> None:
    most, why = affordable(Budget(hourly=2.0), NOTHING, 0.4, 0, 0)
    assert most == 5
    assert "--max-hourly 2" in why


def test_what_other_queues_cost_an_hour_counts() -> None:
    assert affordable(Budget(hourly=2.0), Spending(1.5 + 0.4, 0.0), 0.4, 1, 1)[0] == 1


def test_daily_lets_be_what_has_a_worker_and_no_more() -> None:
    """One that still waits for a worker would be opening, too."""
    most, why = affordable(Budget(daily=10.0), Spending(1.2, 10.5), 0.4, 3, 2)
    assert most == 2
    assert "--max-daily" in why


def test_daily_below_its_limit_is_no_limit() -> None:
    assert affordable(Budget(daily=10.0), Spending(1.2, 9.9), 0.4, 3, 3)[0] is None


def test_the_tighter_of_both_counts() -> None:
    assert affordable(Budget(hourly=8.0, daily=10.0), Spending(0.8, 11.0), 0.4, 2, 2)[0] == 2
    assert affordable(Budget(hourly=0.8, daily=10.0), Spending(0.8, 1.0), 0.4, 2, 2)[0] == 2


@given(
    st.floats(0, 100), st.floats(0, 100), st.floats(0.01, 10), st.integers(0, 50), st.integers(0, 50), st.floats(0, 200)
)
def test_never_above_the_hourly_limit_and_never_below_what_is_held(
    hourly: float, others: float, price: float, holding: int, asked: int, day: float
) -> None:
    live = holding + asked
    most, _ = affordable(Budget(hourly, 100.0), Spending(others + live * price, day), price, live, holding)
    assert most is not None
    assert most >= holding
    assert most == holding or others + most * price <= hourly + 1e-6
