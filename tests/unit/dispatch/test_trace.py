"""The dispatcher's past is a trace for the simulator."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from nullworker.dispatch.trace import write_trace

if TYPE_CHECKING:
    from pathlib import Path


def test_it_counts_from_the_first_and_has_the_columns_of_a_trace(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    write_trace(file, [(1_700_000_000.0, 5.5), (1_700_000_010.25, 60.0)])
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    assert rows == [
        {"arrival_s": "0.000", "duration_s": "5.500"},
        {"arrival_s": "10.250", "duration_s": "60.000"},
    ]
    assert [each.name for each in tmp_path.iterdir()] == ["history.csv"]


def test_no_past_is_a_header(tmp_path: Path) -> None:
    write_trace(tmp_path / "history.csv", [])
    assert (tmp_path / "history.csv").read_text().split() == ["arrival_s,duration_s"]
