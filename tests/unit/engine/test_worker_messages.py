"""What one worker's messages may cost: their pace, and how much of what they list is taken in."""

from __future__ import annotations

from collections import Counter

from nullworker.core.causes import Cause
from nullworker.core.commands import Note
from nullworker.engine.api import worker_messages
from nullworker.engine.api.worker_messages import (
    BYTES_EACH,
    COST_BURST,
    COST_PER_S,
    DEBT_MAX_S,
    ENDS_OF_ONE_MAX,
    UNKNOWN_ENDS_MAX,
    UNKNOWN_LISTED_MAX,
    MessagePace,
    ends_within,
    listed_within,
)
from nullworker.engine.decisions import LINES_BURST, LineLimit
from nullworker.testing.clock import HandClock
from nullworker.wire.types import FinishedRequest


def pace() -> tuple[HandClock, MessagePace]:
    clock = HandClock()
    return clock, MessagePace(lambda: clock.now)


def test_a_worker_that_reports_twenty_times_a_second_never_waits() -> None:
    clock, messages = pace()
    for _ in range(20 * 600):
        assert messages.take(1, 500) == 0.0
        clock.now += 0.05


def test_one_that_sends_as_fast_as_it_can_is_slowed_down_to_its_share_and_others_are_not() -> None:
    clock, messages = pace()
    waited_s = [messages.take(1, 0) for _ in range(int(COST_BURST) + 101)]
    assert waited_s[: int(COST_BURST)] == [0.0] * int(COST_BURST)
    assert abs(waited_s[-1] - 100 / COST_PER_S) < 1e-6
    assert messages.take(2, 0) == 0.0
    clock.now += 3.0
    assert messages.wait_s(1) == 0.0


def test_a_worker_of_very_short_jobs_never_waits() -> None:
    clock, messages = pace()
    for _ in range(10_000):  # 400 jobs a second, with two reports each
        assert messages.take(1, 300) == messages.take(1, 300) == 0.0
        messages.give_back(1, 1)
        assert messages.take(1, 300) == 0.0
        clock.now += 0.0025
    messages.give_back(2, 1)  # one that has sent nothing yet has all that there is
    assert messages.wait_s(2) == 0.0


def test_bytes_cost_and_a_debt_has_an_end() -> None:
    _, messages = pace()
    messages.take(1, int(COST_BURST) * BYTES_EACH)
    assert 0 < messages.wait_s(1) < 0.1
    messages.take(1, 2**40)
    assert messages.wait_s(1) == DEBT_MAX_S


def test_that_a_message_was_refused_is_told_to_the_core_now_and_then() -> None:
    clock, messages = pace()
    assert sum(messages.tells_refusal(1) for _ in range(1_000)) == worker_messages.REFUSED_BURST
    clock.now += 1.0
    assert messages.tells_refusal(1)


def test_all_that_is_known_of_a_worker_is_taken_of_what_it_lists_and_a_little_of_the_rest() -> None:
    known = range(5_000, 6_000)
    taken = listed_within([*range(3_000), *known, *known], known)
    assert taken == (*range(UNKNOWN_LISTED_MAX), *known)
    assert listed_within([1, 2], ()) == (1, 2)


def test_all_ends_of_what_it_holds_are_taken_and_of_others_the_newest() -> None:
    def ends(*request_idxs: int) -> list[FinishedRequest]:
        return [FinishedRequest(idx, "Success") for idx in request_idxs]

    told = ends(7, *range(100, 100 + 3 * UNKNOWN_ENDS_MAX), 8)
    taken = [end.request_idx for end in ends_within(told, {7, 8})]
    assert taken == [7, *range(100 + 2 * UNKNOWN_ENDS_MAX, 100 + 3 * UNKNOWN_ENDS_MAX), 8]
    again = Counter(end.request_idx for end in ends_within(ends(*[7] * 10_000), {7}))
    assert again == {7: ENDS_OF_ONE_MAX + UNKNOWN_ENDS_MAX}


def note(worker_id: int, kind: str = "worker_ready", request_idx: int = 0) -> Note:
    return Note(kind, 1, worker_id, request_idx, Cause.READY, "it is ready", 1)


def test_lines_about_one_worker_are_limited_and_the_number_left_out_is_said() -> None:
    lines = LineLimit()
    kept = list(lines.passed([note(1)] * 1_000, 0.0))
    assert len(kept) == LINES_BURST
    assert list(lines.passed([note(2)], 0.0)) == [note(2)], "another's are not"
    left_out, last = lines.passed([note(1)], 1.0)
    assert isinstance(left_out, Note)
    assert (left_out.kind, left_out.worker_id) == ("lines_left_out", 1)
    assert left_out.reason == "900 lines about worker 1 are left out: it has too many"
    assert last == note(1)


def test_what_becomes_of_workers_and_requests_is_never_left_out() -> None:
    lines = LineLimit()
    for kind in ("worker_failed", "session_ended", "grant_refused"):
        assert len(list(lines.passed([note(1, kind, request_idx=5)] * 1_000, 0.0))) == 1_000
