"""The judge of `make chaos` finds what is not as promised, and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tools.chaos.history import History

if TYPE_CHECKING:
    from pathlib import Path

GOOD = ["begin a:1 10", "end a:1 10", "begin b:1 11", "end b:1 11"]


@pytest.mark.parametrize(
    ("notes", "victims", "workers", "left", "found"),
    [
        (GOOD, set(), 2, [], []),
        ([*GOOD, "begin a:1 12", "end a:1 12"], set(), 2, [], []),
        (GOOD[:2], set(), 2, [], ["job b:1 was never done"]),
        ([*GOOD, "begin a:1 12"], set(), 2, [], ["job a:1 was killed (process 12)"]),
        ([*GOOD, "begin a:1 12"], {12}, 2, [], []),
        (GOOD, set(), 3, [], ["3 workers of x were alive, and its max_workers is 2"]),
        (GOOD, set(), 0, [], ["no worker of x was ever seen"]),
        (GOOD, set(), 2, ["process 5"], ["left behind: process 5"]),
    ],
)
def test_what_is_found(
    tmp_path: Path, notes: list[str], victims: set[int], workers: int, left: list[str], found: list[str]
) -> None:
    file = tmp_path / "notes"
    file.write_text("".join(f"{line}\n" for line in notes))
    history = History({"x": 2, "y": 2}, ["a:1", "b:1"], victims)
    history.alive(Counter({"x": workers, "y": 2}))
    history.alive(Counter({"y": 1}))
    assert history.violations(file, left) == found


def test_what_was_seen_on_the_way_counts(tmp_path: Path) -> None:
    assert History({}, [], seen=["it hung"]).violations(tmp_path / "none", []) == ["it hung"]
