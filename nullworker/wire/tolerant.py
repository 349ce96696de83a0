"""Reads workers' messages that the plain decoder refuses, as far as they can be taken without a guess.

A worker is kept alive by its reports, and the framework bounds nothing that it writes into them: loads are sums of what
clients say that they cost (up to ``Infinity``, which Python writes and JSON does not have), request numbers are what a
client sent (``null``, text), lists are as long as its work. So what is out of bounds is brought into them here:

- an amount becomes the nearest one that the engine computes with;
- a request number that no engine gave becomes one that no engine gives, the same each time: the worker is seen to hold
  something, until it lists it no longer;
- text is cut; the end of a request with an unknown status is an error.

What has the wrong type stays refused: a guess could free a worker that is held.
"""

from __future__ import annotations

import json
import re
import zlib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from nullworker.wire.decoding import decode
from nullworker.wire.errors import WireError
from nullworker.wire.types import AMOUNT_MAX, ID_MAX, QUANTITY_MAX, DeleteRequests, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Callable

MessageT = TypeVar("MessageT", WorkerStatus, DeleteRequests)

#: Where the sender stands in a message: the framework and the Null PyWorker write it first.
HEAD_BYTES = 4_096
#: Request numbers from here on stand for those that no engine gave: engines count up from 1, and get nowhere near.
FOREIGN_FROM = 2**53 - 2**33

_ID = re.compile(rb'"(?:worker_)?id"\s*:\s*(\d{1,16})(?=[\s,}])')
_TOKEN = re.compile(rb'"mtoken"\s*:\s*"([^"\\]{1,1000})"')
_LOADS = ("cur_load", "max_perf")
_QUANTITIES = (
    "loadtime", "rej_load", "new_load", "cur_perf", "cur_capacity", "max_capacity", "additional_disk_usage",
    "disk_usage",
)  # fmt: skip
_COUNTS = ("id", "worker_id", "seq", "num_requests_working", "num_requests_recieved")
_TIMES = ("entered_queue_at", "work_started_at", "work_completed_at")
_TEXT_CHARACTERS_MAX = {"version": 200, "error_msg": 100_000}
_STATUSES = frozenset({"Success", "Error", "Cancelled", "Rejected"})


def sender(head: bytes) -> tuple[int, str] | None:
    """The worker's id and token in the beginning of its message, or None. They are a claim, to be checked."""
    worker_id, token = _ID.search(head, 0, HEAD_BYTES), _TOKEN.search(head, 0, HEAD_BYTES)
    if worker_id is None or token is None:
        return None
    return int(worker_id.group(1)), token.group(1).decode(errors="replace")


def decode_tolerantly(kind: type[MessageT], body: bytes, check: Callable[[], bool]) -> MessageT:
    """Decodes a worker's message as `decode` does, and what that refuses as far as it can be taken.

    Args:
        kind: `WorkerStatus` or `DeleteRequests`.
        body: what the worker sent.
        check: whether the sender is authentic; called before any work is done on a message that `decode` refused.

    Raises:
        WireError: it cannot be taken.
    """
    try:
        return decode(kind, body, whole_floats=False)
    except WireError as error:
        refused = error
    if not check():
        raise refused
    adjust = _adjust_status if kind is WorkerStatus else _adjust_finished
    try:
        raw = json.loads(body)
        adjust(raw)
        return msgspec.convert(raw, kind)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):  # msgspec's errors are ValueErrors
        raise refused from None


def _adjust_status(raw: dict[str, Any]) -> None:
    _adjust_numbers(raw, _LOADS, 0.0, AMOUNT_MAX)
    _adjust_numbers(raw, _QUANTITIES, -QUANTITY_MAX, QUANTITY_MAX)
    _adjust_counts(raw)
    for name, most in _TEXT_CHARACTERS_MAX.items():
        if isinstance(raw.get(name), str):
            raw[name] = raw[name][:most]
    listed = raw.get("working_request_idxs", [])
    raw["working_request_idxs"] = [_request_idx(each) for each in listed] if isinstance(listed, list) else listed


def _adjust_finished(raw: dict[str, Any]) -> None:
    _adjust_counts(raw)
    for request in raw["requests"]:
        request["request_idx"] = _request_idx(request["request_idx"])
        if request["status"] not in _STATUSES:
            request["status"] = "Success" if request.get("success") is True else "Error"
        _adjust_numbers(request, _TIMES, -QUANTITY_MAX, QUANTITY_MAX)


def _adjust_numbers(raw: dict[str, Any], names: tuple[str, ...], least: float, most: float) -> None:
    for name in names:
        value = raw.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            # A NaN is not equal to itself; math.isnan has no answer for an int of 400 digits.
            raw[name] = 0.0 if value != value else float(min(max(value, least), most))  # noqa: PLR0124


def _adjust_counts(raw: dict[str, Any]) -> None:
    for name in _COUNTS:
        value = raw.get(name)
        if isinstance(value, float) and value.is_integer():
            raw[name] = int(value)


def _request_idx(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= ID_MAX:
        return value
    return FOREIGN_FROM + zlib.crc32(json.dumps(value, sort_keys=True).encode())
