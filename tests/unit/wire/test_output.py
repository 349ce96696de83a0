"""Output for a reader that may stall, or go away."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from nullworker.wire.output import LINES_MAX, OutputWriter, ThreadHandler

if TYPE_CHECKING:
    import pytest


def test_they_come_in_order() -> None:
    read, write = os.pipe()
    with OutputWriter(write) as lines:
        for number in range(100):
            lines.add(f"zeile {number} ü")
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as reader:
        assert reader.read().splitlines() == [f"zeile {number} ü" for number in range(100)]


def test_a_reader_that_stalls_blocks_nothing() -> None:
    """A pipe takes 64 KiB; all beyond that waits, and in the end is dropped."""
    read, write = os.pipe()
    with OutputWriter(write) as lines:
        for _ in range(3 * LINES_MAX):
            lines.add("x" * 99)
        os.close(read)  # or leaving would take the moment that is given to a slow one
    os.close(write)


def test_a_reader_that_has_gone_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with OutputWriter(write) as lines:
        lines.add("one")
        lines.add("two")
    os.close(write)


def test_log_lines_do_not_wait_for_a_reader_either(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(write, "w") as stalled:
        monkeypatch.setattr(sys, "stderr", stalled)
        handler = ThreadHandler()
        for number in range(3 * LINES_MAX):
            handler.emit(logging.makeLogRecord({"msg": "line %d " + "x" * 99, "args": (number,)}))
        assert os.read(read, 7) == b"line 0 "
        os.close(read)
