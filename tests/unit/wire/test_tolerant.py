"""What a worker may send that the plain decoder refuses, and what stays refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from nullworker.wire.errors import UnauthorizedError, WireError
from nullworker.wire.tolerant import FOREIGN_FROM, decode_tolerantly, sender
from nullworker.wire.types import ID_MAX, DeleteRequests, WorkerStatus

STATUS: dict[str, Any] = {"id": 3, "mtoken": "t", "loadtime": 1.0, "max_perf": 100.0}


def status(**fields: Any) -> WorkerStatus:
    return decode_tolerantly(WorkerStatus, json.dumps({**STATUS, **fields}).encode(), lambda: True)


def finished(*requests: dict[str, Any]) -> DeleteRequests:
    body = {"worker_id": 3, "mtoken": "t", "requests": list(requests)}
    return decode_tolerantly(DeleteRequests, json.dumps(body).encode(), lambda: True)


@pytest.mark.parametrize(
    ("sent", "taken"), [(1.7e308, 1e9), (math.inf, 1e9), (-math.inf, 0.0), (math.nan, 0.0), (-5, 0.0), (10**400, 1e9)]
)
def test_a_load_out_of_bounds_becomes_the_nearest_one(sent: float, taken: float) -> None:
    assert status(cur_load=sent).cur_load == taken
    assert status(max_perf=sent).max_perf == taken


def test_all_else_that_is_measured_is_brought_into_bounds_too() -> None:
    told = status(rej_load=math.inf, new_load=-math.inf, cur_perf=1e300, disk_usage=math.nan, loadtime=math.inf)
    assert (told.rej_load, told.new_load, told.cur_perf, told.disk_usage) == (1e12, -1e12, 1e12, 0.0)
    assert told.loadtime == 1e12


def test_lists_are_as_long_as_the_workers_work() -> None:
    idxs = list(range(1, 200_001))
    assert status(working_request_idxs=idxs).working_request_idxs == idxs
    told = finished(*({"request_idx": idx, "status": "Success"} for idx in idxs[:50_000]))
    assert len(told.requests) == 50_000


@pytest.mark.parametrize("sent", [None, "abc", -7, 1.5, 2**60, [1], {"a": 1}, True, 1e300, math.inf])
def test_a_request_that_no_engine_numbered_is_held_and_ends_under_one_number(sent: object) -> None:
    [idx] = status(working_request_idxs=[sent]).working_request_idxs
    assert FOREIGN_FROM <= idx <= ID_MAX
    assert finished({"request_idx": sent, "status": "Success"}).requests[0].request_idx == idx


def test_a_whole_number_written_as_a_fraction_is_that_number() -> None:
    told = status(working_request_idxs=[5.0], num_requests_recieved=2.0, seq=9.0, id=3.0)
    assert (told.working_request_idxs, told.num_requests_recieved, told.seq, told.id) == ([5], 2, 9, 3)


@pytest.mark.parametrize(("success", "taken"), [(True, "Success"), (False, "Error"), (None, "Error")])
def test_the_end_of_a_request_whose_handler_failed_keeps_its_status_of_before(success: object, taken: str) -> None:
    """The framework leaves "Started" there."""
    told = finished({"request_idx": 1, "status": "Started", "success": success, "work_started_at": math.inf})
    assert (told.requests[0].status, told.requests[0].work_started_at) == (taken, 1e12)


def test_text_is_cut() -> None:
    told = status(error_msg="x" * 200_000, version="v" * 300)
    assert (len(told.error_msg or ""), len(told.version or "")) == (100_000, 200)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"working_request_idxs": "5"}, "working_request_idxs"),
        ({"cur_load": "much"}, "cur_load"),
        ({"loadtime": True}, "loadtime"),
        ({"url": "u" * 3_000}, "url"),
    ],
)
def test_the_wrong_type_stays_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(WireError) as caught:
        status(**fields)
    assert caught.value.field == field


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"mtoken": "t"}', b"[" * 50_000, b"\xff"])
def test_what_is_no_message_stays_refused(body: bytes) -> None:
    with pytest.raises(WireError):
        decode_tolerantly(WorkerStatus, body, lambda: True)
    with pytest.raises(WireError):
        decode_tolerantly(DeleteRequests, body, lambda: True)


def test_nothing_is_done_for_a_sender_that_is_not_authentic() -> None:
    def check() -> bool:
        raise UnauthorizedError("no")

    body = json.dumps({**STATUS, "cur_load": 1.7e308}).encode()
    with pytest.raises(UnauthorizedError):
        decode_tolerantly(WorkerStatus, body, check)
    with pytest.raises(WireError, match="cur_load"):
        decode_tolerantly(WorkerStatus, body, lambda: False)


def test_the_sender_is_found_in_the_beginning() -> None:
    assert sender(json.dumps(STATUS).encode()) == (3, "t")
    assert sender(b'{"worker_id":12,"mtoken":"abc","requests":[{"id":5}') == (12, "abc")
    assert sender(b'{"mtoken": "abc"') is None
    assert sender(b'{"id": "one", "mtoken": "abc"}') is None
    assert sender(b" " * 5_000 + json.dumps(STATUS).encode()) is None
