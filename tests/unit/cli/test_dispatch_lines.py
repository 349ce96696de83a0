"""The lines that ``nullworker dispatch`` prints."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nullworker.cli.dispatch import _StatusPrinter
from nullworker.dispatch.binding import BindingStatus

STATUS = BindingStatus("gpu redis-list://host/0?list=a", 2, 0, 2, 1, 1, "", "2 waiting, 0 in flight", "")


@pytest.mark.parametrize("short", [True, False])
def test_a_line_has_its_time_and_a_url_only_where_that_is_needed(short: bool) -> None:
    written: list[str] = []
    printer = _StatusPrinter(written.append, as_json=False, short=short)
    printer.print_change(STATUS)
    printer.print_change(replace(STATUS, reason="another reason"))
    printer.print_change(replace(STATUS, held=2, asked=0))
    assert all(line[2] == line[5] == ":" for line in written)
    name = "gpu" if short else STATUS.queue
    said = [line[10:] for line in written]
    assert said[:-2] == (["gpu serves redis-list://host/0?list=a"] if short else [])
    assert said[-2:] == [
        f"{name}: want 2 (2 waiting, 0 in flight), 1 held, 1 requested",
        f"{name}: want 2 (2 waiting, 0 in flight), 2 held, 0 requested",
    ]
