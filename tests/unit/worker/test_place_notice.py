"""What a worker knows of its end by its place, and what it makes of answers that are not as they are to be."""

from __future__ import annotations

import time
from typing import Any

import pytest

from nullworker.wire.headers import read_place_ends
from nullworker.worker.place_notice import PlaceNotice


def test_nothing_is_known_until_the_engine_says_so() -> None:
    notice = PlaceNotice()
    notice.take({"success": True})
    assert (notice.in_s, notice.header) == (None, "")
    assert notice.shown() == {"place_ends_at": None, "place_ends_because": None}


def test_it_is_shown_to_the_consumer_and_to_the_holder(caplog: pytest.LogCaptureFixture) -> None:
    notice = PlaceNotice()
    for in_s in (310.0, 300.0):
        notice.take({"orders": [], "ends": {"in_s": in_s, "reason": "the time limit; \nof 5 min ü"}})
    assert notice.shown()["place_ends_at"] == pytest.approx(time.time() + 300, abs=5)  # noqa: TID251 - as it shows it
    assert notice.shown()["place_ends_because"] == "the time limit; of 5 min ü"
    read = read_place_ends(notice.header)
    assert read is not None
    assert read[0] == pytest.approx(300, abs=5)
    assert read[1] == "the time limit; of 5 min ü"
    assert notice.header.isascii()
    assert caplog.text.count("the place ends this worker in") == 1


@pytest.mark.parametrize(
    "answer",
    [None, [], "x", {"ends": None}, {"ends": []}, {"ends": {}}, {"ends": {"in_s": "9"}}, {"ends": {"in_s": True}},
     {"ends": {"in_s": float("nan"), "reason": "x"}}],
)  # fmt: skip
def test_what_is_no_notice_is_passed_over(answer: Any) -> None:
    notice = PlaceNotice()
    notice.take(answer)
    assert notice.in_s is None


@pytest.mark.parametrize("value", ["", "x", ";", "nan;x", "inf;x", "-1;x"])
def test_a_header_that_is_not_as_it_is_to_be_says_nothing(value: str) -> None:
    assert read_place_ends(value) is None


def test_a_reason_may_be_missing() -> None:
    assert read_place_ends("5") == (5.0, "")
