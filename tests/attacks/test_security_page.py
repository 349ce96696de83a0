"""docs/security.md is true: each test that it names exists; and what it says of the code as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = re.findall(r"\[`(test_\w+)`\]\(\.\./(tests/[\w/]+\.py)\)", PAGE)
SOURCES = sorted((ROOT / "nullworker").rglob("*.py"))
#: What runs code that it reads, or makes objects of any class from it; a copy of an object in memory reads nothing.
RUNS_CODE = re.compile(
    r"\b(pickle|marshal|yaml|jsonpickle|shelve)\.(loads?|unsafe_load|open)\b(?!\(pickle\.dumps\(\w+\)\))|(?<![\w.])eval\("
)


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_a_test_that_the_page_names_is_there(name: str, path: str) -> None:
    text = (ROOT / path).read_text()
    assert re.search(rf"def {name}\(", text) or Path(path).stem == name


def test_every_line_has_a_state_and_a_test_or_an_argument() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (holds|argued|open) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == [*range(1, 27), *range(28, 38)]
    assert all("](../" in why for _, _, state, why in rows if state == "holds")


def test_the_engine_has_no_http_client() -> None:
    for path in SOURCES:
        if path.is_relative_to(ROOT / "nullworker" / "engine"):
            assert not re.search(r"ClientSession|urlopen|http\.client|import requests|httpx", path.read_text()), path


def test_nothing_is_read_that_could_be_code() -> None:
    assert len(SOURCES) > 100
    for path in SOURCES:
        assert not RUNS_CODE.search(path.read_text()), path


def test_text_of_others_is_made_printable_in_one_place() -> None:
    for path in SOURCES:
        if path.name != "printable.py":
            assert "isprintable() else" not in path.read_text(), path
