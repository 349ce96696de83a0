"""How much of a session is left, by the worker's own words."""

from __future__ import annotations

import pytest

from nullworker.client.worker_client import remaining_s

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"  # 784111777


def test_what_is_left_is_the_end_less_the_date_of_the_answer() -> None:
    """Neither this machine's clock nor its time zone matters."""
    assert remaining_s(784111777 + 42.5, DATE) == 42.5
    assert remaining_s(784111777 - 3, DATE) == -3.0


@pytest.mark.parametrize(
    ("expiration", "date"),
    [(None, DATE), ("1", DATE), (True, DATE), (1.0, "yesterday"), (1.0, ""), ([], DATE)],
)
def test_it_is_unknown_when_either_is(expiration: object, date: str) -> None:
    """Nothing is guessed."""
    assert remaining_s(expiration, date) is None
