"""The measurement behind decision 9 runs, and leaves the core as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.coarse_mode import GOES_WHOLE, MODES, REPLACED, coarse_mode, lines_that_come, lines_that_go, measure, show
from nullworker.core import limits

if TYPE_CHECKING:
    import pytest


def test_the_coarse_mode_costs_time_and_workers(capsys: pytest.CaptureFixture[str]) -> None:
    sums = measure(2, 7_000_000, ["workers-stock"], 1)
    fine, coarse = sums["workers-stock"]["as it is"], sums["workers-stock"]["coarse"]
    assert not fine.broken
    assert fine.clients == coarse.clients > 0
    assert coarse.worker_s > 1.2 * fine.worker_s
    assert max(fine.hand_overs_s) < limits.RESEND_S
    assert all(seconds > limits.RESEND_S for seconds in coarse.hand_overs_s)
    show(sums)
    assert capsys.readouterr().out.count("workers-stock") >= len(MODES)


def test_the_core_is_as_before_after_the_block() -> None:
    before = [getattr(where, name) for where, name in REPLACED]
    with coarse_mode(limits.RESEND_S):
        assert all(getattr(w, n) is not was for (w, n), was in zip(REPLACED, before, strict=True))
    assert [getattr(where, name) for where, name in REPLACED] == before


def test_what_would_go_and_come_is_counted_in_the_code_that_there_is() -> None:
    gone = lines_that_go()
    assert gone["reconcile/report_order.py"] > len(GOES_WHOLE)
    assert lines_that_come() > 0
