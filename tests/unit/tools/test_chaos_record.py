"""The record of `make chaos` counts what was run on the code as it is, and its page shows that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs.tools.chaos_figures import PAGE, filled
from tools.chaos.record import Record

if TYPE_CHECKING:
    from pathlib import Path


def test_episodes_are_counted_by_kind_and_by_code(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    one, other = Record(file, "one"), Record(file, "other")
    one.add("engine_killed", 1, 10.0, [])
    one.add("engine_killed", 2, 20.0, ["job a:1 was never done"])
    assert one.of_code() == {"engine_killed": {"episodes": 2, "broken": 1, "seconds": 30.0}}
    assert other.of_code() == {}
    other.add("engine_killed", 3, 5.0, [])
    assert one.of_code() == {}
    assert other.of_code() == {"engine_killed": {"episodes": 1, "broken": 0, "seconds": 5.0}}
    assert (other.read()["episodes"], other.read()["broken"]) == (3, 1)
    [violation] = other.read()["violations"]
    assert (violation["code"], violation["kind"], violation["seed"]) == ("one", "engine_killed", 2)


def test_the_table_of_the_page_is_that_of_the_source_and_the_record() -> None:
    assert filled(PAGE.read_text()) == PAGE.read_text(), "run python -m docs.tools.chaos_figures"
