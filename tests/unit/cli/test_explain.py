"""How decisions are printed: columns that hold what is in them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click
import pytest

from nullworker.cli.explain import lines, queue_troubles
from nullworker.cli.times import moment


def decision(kind: str, worker_id: int, request_idx: int) -> dict[str, Any]:
    return {"at_s": 1.5, "kind": kind, "worker_id": worker_id, "request_idx": request_idx, "reason": "because"}


def test_columns_stand_below_each_other_however_long_the_numbers() -> None:
    """Requests' numbers have seven digits and more."""
    printed = lines(
        [
            decision("grant", 12_345, 9_007_199_254_740_991),
            decision("workergroup_backs_off_for_once", 0, 0),
            decision("create", 1, 0),
        ]
    )
    assert "  worker 12345 request 9007199254740991  because" in printed[0]
    assert len({line.index("because") for line in printed}) == 1
    assert [line.split()[1] for line in printed] == ["grant", "workergroup_backs_off_for_once", "create"]


def test_the_usual_ones_have_the_same_columns_when_they_come_one_at_a_time() -> None:
    """As ``logs --follow`` prints them."""
    one, other = lines([decision("grant", 1, 1_094_252)]), lines([decision("worker_ready", 1, 0)])
    assert one[0].index("because") == other[0].index("because")


def test_of_nothing_there_are_no_lines() -> None:
    assert lines([]) == []


def test_what_a_dispatcher_says_of_a_queue_is_told_of_its_endpoint_and_of_the_workers_of_that() -> None:
    def queue(endpoint: str, trouble: str) -> dict[str, Any]:
        return {"queue": f"sqlite://./{endpoint}.db", "endpoint": endpoint, "trouble": trouble}

    status = {
        "endpoints": [
            {"id": 1, "name": "gpu", "workers_list": [{"id": 7}]},
            {"id": 7, "name": "cpu", "workers_list": [{"id": 1}]},
        ],
        "queues": [queue("gpu", "1 held though nothing is in flight"), queue("cpu", ""), queue("gpu", "")],
    }
    said = ["Of its queue sqlite://./gpu.db, the dispatcher says: 1 held though nothing is in flight."]
    assert queue_troubles(status, "endpoint", 1) == said
    assert queue_troubles(status, "worker", 7) == said
    assert queue_troubles(status, "endpoint", 7) == []
    assert queue_troubles(status, "worker", 1) == []


NOW = dt.datetime(2026, 11, 27, 14, 0, 0, tzinfo=dt.timezone.utc)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("13:05", "2026-11-27 13:05:00"),
        ("14:05", "2026-11-26 14:05:00"),  # the last such time was yesterday
        ("9:00:30", "2026-11-27 09:00:30"),
        ("-10m", "2026-11-27 13:50:00"),
        ("1.5h", "2026-11-27 12:30:00"),
        ("2026-11-01T10:00:00", "2026-11-01 10:00:00"),
        ("2026-11-01T10:00:00Z", "2026-11-01 10:00:00"),
    ],
)
def test_times_as_people_write_them(text: str, meant: str) -> None:
    assert f"{moment(text, NOW):%Y-%m-%d %H:%M:%S}" == meant


@pytest.mark.parametrize("text", ["", "25:00", "noon", "2026-13-01"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        moment(text, NOW)
