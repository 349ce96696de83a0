from __future__ import annotations

from nullworker.classic.readiness import MODEL, Readiness, number
from nullworker.wire.worker_side.messages import ERROR_CHARACTERS_MAX


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_ready_when_the_last_need_is_met_and_the_time_is_that_one() -> None:
    clock = Clock()
    readiness = Readiness(["backend", "key"], clock, perf=100)
    clock.now += 2
    readiness.met("backend")
    assert (readiness.loadtime_s, readiness.is_ready) == (0, False)
    clock.now += 3
    readiness.met("key")
    assert (readiness.loadtime_s, readiness.is_ready) == (5, True)
    clock.now += 3
    readiness.met("key")
    assert readiness.loadtime_s == 5


def test_a_load_that_took_no_time_is_still_ready() -> None:
    readiness = Readiness(["backend"], Clock(), perf=100)
    readiness.met("backend")
    assert readiness.loadtime_s > 0


def test_a_failure_is_no_readiness_until_it_is_taken_back() -> None:
    readiness = Readiness(["backend"], Clock(), perf=100)
    readiness.met("backend")
    readiness.fail("x" * 10_000)
    assert not readiness.is_ready
    assert len(readiness.error) == ERROR_CHARACTERS_MAX
    readiness.fail("")
    assert readiness.is_ready


def test_it_learns_in_vasts_words() -> None:
    readiness = Readiness(["backend", MODEL], Clock(), perf=100)
    readiness.met("backend")
    readiness.learn({"max_perf": 42, "loadtime": 7.5, "tokens_per_second": "fast"})
    assert not readiness.is_ready
    readiness.learn({"loaded": True})
    assert (readiness.loadtime_s, readiness.perf) == (7.5, 42)
    readiness.learn({"error_msg": "out of memory"})
    assert readiness.error == "out of memory"
    readiness.learn({"error_msg": None, "max_perf": 0, "loadtime": float("nan")})
    assert (readiness.error, readiness.perf, readiness.loadtime_s) == ("out of memory", 42, 7.5)
    readiness.learn({"error_msg": ""})
    assert readiness.is_ready


def test_a_number_is_finite_and_not_negative() -> None:
    assert number(3) == 3.0
    for bad in (None, "3", True, -1, float("inf"), float("nan")):
        assert number(bad) is None
