"""What dispatchers told, as the status shows it."""

from __future__ import annotations

from nullworker.engine.dispatchers import DISPATCHERS_MAX, FORGOTTEN_AFTER_S, Dispatchers
from nullworker.wire.types import DispatcherReport, QueueReport


def told(name: str, **queue: object) -> DispatcherReport:
    return DispatcherReport(name, [QueueReport("redis://host/0", "gpu", **queue)])  # type: ignore[arg-type]


def test_a_report_replaces_the_one_before_and_its_reading_ages() -> None:
    dispatchers = Dispatchers()
    dispatchers.heard(told("a", waiting=5, read_s_ago=1.0), 100.0)
    dispatchers.heard(told("a", waiting=3, read_s_ago=1.0), 110.0)
    (row,) = dispatchers.rows(114.0)
    assert (row["dispatcher"], row["waiting"], row["in_flight"]) == ("a", 3, None)
    assert (row["read_s_ago"], row["heard_s_ago"]) == (5.0, 4.0)


def test_a_silent_dispatcher_is_forgotten() -> None:
    dispatchers = Dispatchers()
    dispatchers.heard(told("a"), 100.0)
    assert len(dispatchers.rows(100.0 + FORGOTTEN_AFTER_S)) == 1
    assert dispatchers.rows(101.0 + FORGOTTEN_AFTER_S) == []


def test_of_too_many_the_latest_are_kept() -> None:
    dispatchers = Dispatchers()
    for number in range(DISPATCHERS_MAX + 2):
        dispatchers.heard(told(f"d{number}"), 100.0)
    rows = dispatchers.rows(100.0)
    assert (len(rows), rows[0]["dispatcher"]) == (DISPATCHERS_MAX, "d2")
