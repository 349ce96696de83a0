"""What metrics count as it happens, of small worlds whose clock is set by hand."""

from __future__ import annotations

import pytest

from nullworker.engine.metrics.histogram import Histogram
from nullworker.engine.metrics.measurements import Measurements
from nullworker.views.history import History

E, G = 1, 2


def history() -> tuple[History, Measurements]:
    found = History()
    return found, Measurements(found)


def boots(found: History, worker_id: int, *states: tuple[float, str]) -> None:
    for at_s, state in states:
        found.worker(at_s, worker_id, state, E, G)


def phases(measurements: Measurements) -> dict[str, tuple[int, float]]:
    return {phase: (each.count, each.sum_s) for (_, phase), each in measurements.starts.items()}


def test_a_start_is_timed_from_its_order_to_each_phase() -> None:
    found, measurements = history()
    boots(found, 1, (100.0, "asked"), (101.0, "creating"), (110.0, "loading"), (130.0, "ready"), (135.0, "held"))
    assert phases(measurements) == {"created": (1, 1.0), "started": (1, 10.0), "ready": (1, 30.0), "granted": (1, 35.0)}


def test_phases_that_come_at_once_are_all_timed() -> None:
    found, measurements = history()
    boots(found, 1, (100.0, "asked"), (101.0, "creating"), (104.0, "held"))
    assert phases(measurements) == {"created": (1, 1.0), "started": (1, 4.0), "ready": (1, 4.0), "granted": (1, 4.0)}


def test_a_phase_is_timed_once_though_its_worker_is_held_often() -> None:
    found, measurements = history()
    boots(found, 1, (100.0, "asked"), (104.0, "held"))
    found.reservation(104.0, 9, E, "granted", 1)
    found.reservation(105.0, 9, E, "ended", 0)
    boots(found, 1, (105.0, "ready"), (500.0, "held"))
    assert phases(measurements)["granted"] == (1, 4.0)


def test_a_stopped_worker_that_is_started_again_is_timed_apart() -> None:
    found, measurements = history()
    boots(found, 1, (100.0, "inactive"), (200.0, "starting"), (207.0, "ready"))
    assert phases(measurements) == {"resumed": (1, 7.0)}


@pytest.mark.parametrize("states", [["loading", "ready", "held"], ["asked", "error"], ["ready", "loading", "ready"]])
def test_what_is_no_start_of_ours_is_not_timed(states: list[str]) -> None:
    """A worker that joined, one that failed, and one whose model is loaded again."""
    found, measurements = history()
    boots(found, 1, *((100.0 + second, state) for second, state in enumerate(states)))
    assert phases(measurements) == {}


def test_a_wait_is_counted_at_the_first_grant_and_never_again() -> None:
    found, measurements = history()
    found.reservation(100.0, 9, E, "waiting", 0)
    found.reservation(103.0, 9, E, "granted", 1)
    found.reservation(118.0, 9, E, "waiting", 0)  # the grant ran out
    found.reservation(119.0, 9, E, "granted", 2)
    assert (measurements.waits[E].count, measurements.waits[E].sum_s) == (1, 3.0)


def test_a_grant_at_once_is_a_wait_of_nothing_and_an_adopted_session_is_none() -> None:
    found, measurements = history()
    found.reservation(100.0, 9, E, "granted", 1)
    found.reservation(100.0, 10, E, "session", 2)  # the worker reported it, and nothing was known of it
    assert (measurements.waits[E].count, measurements.waits[E].sum_s) == (1, 0.0)


def test_a_hand_over_is_from_an_end_to_the_next_session_of_one_that_waited() -> None:
    found, measurements = history()
    boots(found, 1, (90.0, "ready"), (100.0, "held"))
    found.reservation(100.0, 9, E, "granted", 1)
    found.reservation(101.0, 9, E, "session", 1)
    found.reservation(150.0, 10, E, "waiting", 0)
    found.reservation(200.0, 9, E, "ended", 0)
    found.reservation(200.0, 10, E, "granted", 1)
    found.reservation(200.5, 10, E, "session", 1)
    assert (measurements.handovers[E].count, measurements.handovers[E].sum_s) == (1, 0.5)
    assert (measurements.holds[E].count, measurements.holds[E].sum_s) == (1, 100.0)
    found.reservation(300.0, 10, E, "ended", 0)
    found.reservation(400.0, 11, E, "granted", 1)  # asked after the end: the worker stood idle for want of work
    found.reservation(401.0, 11, E, "session", 1)
    assert measurements.handovers[E].count == 1
    assert measurements.holds[E].count == 2


def test_what_an_engine_before_this_one_saw_is_not_counted_again() -> None:
    found, _ = history()
    found.unwritten = []
    found.reservation(100.0, 9, E, "granted", 1)
    again = History()
    again.load(found.unwritten)
    assert Measurements(again).waits == {}


def test_an_endpoint_that_is_gone_is_dropped() -> None:
    found, measurements = history()
    found.reservation(100.0, 9, E, "granted", 1)
    boots(found, 1, (100.0, "asked"), (101.0, "ready"))
    measurements.forget_endpoints({E})
    assert measurements.waits
    measurements.forget_endpoints({3})
    assert not measurements.waits
    assert not measurements.starts


def test_buckets_are_cumulative_and_a_clock_set_back_lowers_nothing() -> None:
    found = Histogram((0.1, 1.0))
    for seconds in (0.1, 0.2, 5.0, -3.0):
        found.observe(seconds)
    assert found.buckets() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert found.count == 4
    assert found.sum_s == pytest.approx(5.3)


def test_a_call_of_a_fleet_is_counted_by_what_came_of_it() -> None:
    _, measurements = history()
    measurements.fleet_called("processes", "create", "ok", 0.2)
    measurements.fleet_called("processes", "create", "refused", 0.1)
    measurements.fleet_called("processes", "list", "ok", 0.1)
    assert {(*call, result): count for (call, result), count in measurements.call_results.items()} == {
        ("processes", "create", "ok"): 1,
        ("processes", "create", "refused"): 1,
        ("processes", "list", "ok"): 1,
    }
    assert measurements.calls["processes", "create"].count == 2  # type: ignore[index] # a FleetCall is a tuple
