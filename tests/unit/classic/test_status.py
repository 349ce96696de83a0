from __future__ import annotations

import itertools

import pytest

from nullworker.classic.in_flight import RequestStats
from nullworker.classic.readiness import Readiness
from nullworker.classic.status import ENDED_PER_MESSAGE, Status
from nullworker.wire.worker_side.engine_trust import EngineTrust
from nullworker.wire.worker_side.messages import Identity
from tests.kit.engine_key import engine_key

ME = Identity(17, "the-token", "http://127.0.0.1:40123")

#: Field for field what Vast's framework sends.
STATUS_FIELDS = {
    "id", "mtoken", "version", "loadtime", "cur_load", "rej_load", "new_load", "error_msg", "max_perf", "cur_perf",
    "cur_capacity", "max_capacity", "num_requests_working", "num_requests_recieved", "additional_disk_usage",
    "disk_usage", "working_request_idxs", "url",
}  # fmt: skip


class Desk:
    def __init__(self) -> None:
        clock = itertools.count(1000)
        self.stats = RequestStats(lambda: float(next(clock)), lambda: None)
        self.readiness = Readiness(["backend"], lambda: 0.0, perf=100)
        self.trust = EngineTrust(ME)
        self.figures: dict[str, float] = {}
        self.status = Status(ME, self.stats, self.readiness, self.trust, figures=lambda: self.figures, first_seq=1000)

    def sends(self, now_s: float) -> dict[str, object] | None:
        """What goes out at that time; the engine takes it."""
        report = self.status.report(now_s, heartbeat_s=10)
        if report is None:
            return None
        self.status.sent(report, now_s)
        return report.body


def test_a_status_has_the_frameworks_fields_and_no_others() -> None:
    desk = Desk()
    first = desk.sends(0)
    assert first is not None
    assert first.keys() == STATUS_FIELDS
    assert (first["id"], first["mtoken"], first["url"], first["loadtime"]) == (17, "the-token", ME.url, 0)


def test_a_status_goes_out_when_something_changed_and_every_ten_seconds() -> None:
    desk = Desk()
    sent = [desk.sends(now) is not None for now in range(25)]
    assert [now for now, did in enumerate(sent) if did] == [0, 10, 20]
    desk.readiness.met("backend")
    ready = desk.sends(25)
    assert ready is not None
    assert ready["loadtime"]
    assert desk.sends(26) is None


def test_work_in_hand_is_told_and_its_end() -> None:
    desk = Desk()
    desk.sends(0)
    work = desk.stats.enter(7, 100)
    busy = desk.sends(1)
    assert busy is not None
    assert (busy["working_request_idxs"], busy["cur_load"], busy["num_requests_working"]) == ([7], 100, 1)
    assert (busy["new_load"], busy["num_requests_recieved"]) == (100, 1)
    desk.stats.end(work, "Success")
    idle = desk.sends(2)
    assert idle is not None
    assert (idle["working_request_idxs"], idle["cur_load"], idle["new_load"], idle["cur_perf"]) == ([], 0, 0, 100)
    ended = desk.status.ended()
    assert ended is not None
    assert ended.body == {
        "worker_id": 17,
        "mtoken": "the-token",
        "requests": [
            {
                "request_idx": 7,
                "success": True,
                "status": "Success",
                "entered_queue_at": work.entered_at,
                "work_started_at": 0.0,
                "work_completed_at": work.completed_at,
            }
        ],
    }
    desk.status.took(ended)
    assert desk.status.ended() is None


def test_a_status_that_no_engine_took_is_told_again() -> None:
    desk = Desk()
    assert desk.status.report(0, heartbeat_s=10) is not None
    assert desk.status.report(1, heartbeat_s=10) is not None


def test_the_backends_own_figures_are_told() -> None:
    desk = Desk()
    desk.sends(0)
    desk.figures = {"max_perf": 250.0}
    told = desk.sends(1)
    assert told is not None
    assert told["max_perf"] == 250


def test_an_error_is_told_at_the_next_look() -> None:
    desk = Desk()
    desk.sends(0)
    desk.readiness.fail("the model is gone")
    told = desk.sends(1)
    assert told is not None
    assert told["error_msg"] == "the model is gone"


@pytest.mark.parametrize(
    ("status", "success"), [("Success", True), ("Cancelled", True), ("Error", False), ("Rejected", False)]
)
def test_success_is_what_the_framework_calls_so(status: str, *, success: bool) -> None:
    desk = Desk()
    desk.stats.end(desk.stats.enter(1, 1), status)  # type: ignore[arg-type]  # literals, each one a Status
    ended = desk.status.ended()
    assert ended is not None
    assert ended.body["requests"][0]["success"] is success


def test_many_ends_go_out_in_messages_of_bounded_size() -> None:
    desk = Desk()
    for number in range(ENDED_PER_MESSAGE + 1):
        desk.stats.end(desk.stats.enter(number, 1), "Success")
    sizes = []
    while (ended := desk.status.ended()) is not None:
        sizes.append(len(ended.body["requests"]))
        desk.status.took(ended)
    assert sizes == [ENDED_PER_MESSAGE, 1]


def test_our_engine_gets_numbered_messages_and_vasts_does_not() -> None:
    desk = Desk()
    desk.stats.end(desk.stats.enter(1, 1), "Success")
    assert {"seq", "clock", "clock_s"}.isdisjoint(desk.sends(0) or {})
    desk.trust.learn(engine_key().pem, "prompt-reports")
    ended = desk.status.ended()
    report = desk.status.report(20, heartbeat_s=10)
    assert ended is not None
    assert report is not None
    assert (ended.body["seq"], report.body["seq"]) == (1000, 1001)
    clock = desk.trust.clock.now()
    assert (report.body["clock"], report.body["clock_s"] <= clock.at_s) == (clock.clock, True)
