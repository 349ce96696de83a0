"""What was spent in a day, and whether more may run."""

from __future__ import annotations

import pytest

from nullworker.fleets.vast.spend import DAY_S, HOUR_S, Spend

NOON = 20_000 * DAY_S + DAY_S / 2


def test_time_is_paid_at_the_rate_that_ran() -> None:
    spend = Spend(counted_until=NOON, rate_per_hour=2.0)
    spend.advance(NOON + HOUR_S / 2)
    spend.rate_per_hour = 4.0
    spend.advance(NOON + HOUR_S)
    assert spend.spent == pytest.approx(3.0)
    spend.advance(NOON)
    assert spend.spent == pytest.approx(3.0), "a clock that was set back neither counts twice nor gives back"


def test_the_first_count_begins_now() -> None:
    spend = Spend(rate_per_hour=1e6)
    spend.advance(NOON)
    assert (spend.spent, spend.counted_until) == (0.0, NOON)


def test_a_day_begins_from_nothing_at_midnight() -> None:
    spend = Spend(spent=9.0, counted_until=NOON, rate_per_hour=1.0)
    spend.advance(NOON + DAY_S / 2 + 3 * HOUR_S)
    assert spend.spent == pytest.approx(3.0)
    spend.advance(NOON + 5 * DAY_S)
    assert spend.spent == pytest.approx(12.0), "of days without an engine the last alone counts"


@pytest.mark.parametrize(
    ("spent", "rate", "more", "at", "takes"),
    [
        (0.0, 0.0, 1.0, NOON, True),
        (0.0, 0.0, 1.01, NOON, False),
        (0.6, 0.0, 0.5, NOON, False),
        (0.0, 0.6, 0.5, NOON, False),
        (0.6, 0.0, 0.5, NOON + DAY_S / 2 - HOUR_S / 2, True),
        (1.0, 0.0, 0.0, NOON, True),
    ],
)
def test_an_hour_of_all_that_runs_has_to_fit(spent: float, rate: float, more: float, at: float, takes: bool) -> None:
    assert Spend(spent=spent, counted_until=at, rate_per_hour=rate).takes(1.0, more) is takes
