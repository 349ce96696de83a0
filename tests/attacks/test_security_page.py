"""docs/security.md is true: each test that it names exists; and what it says of the code as a whole."""

from __future__ import annotations

import ast
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

#: Sentences of the threat model that say who attacks, what is out of scope, or what is so without our doing.
NO_PROMISE = (
    "**A hostile",
    "A request is identified by its number alone",
    "Where that is too likely, give",
    "The engine's page keeps no key:",  # as the rest of its sentence says
    "Out of scope:",
    "a hostile operator or root",
    "those of fields with known names",
    "[docs/security.md]",
)
#: What is secret, or made of it, in a comparison.
SECRET = re.compile(r"\b(key|token|secret|digest|signature|mac|cookie|reveal)\b")


@pytest.mark.parametrize(("name", "path"), NAMED, ids=[name for name, _ in NAMED])
def test_a_test_that_the_page_names_is_there(name: str, path: str) -> None:
    text = (ROOT / path).read_text()
    assert re.search(rf"def {name}\(", text) or Path(path).stem == name


def test_every_line_has_a_state_and_a_test_or_an_argument() -> None:
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (holds|argued|open) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == [*range(1, 27), *range(28, 38)]
    assert all("](../" in why for _, _, state, why in rows if state == "holds")


def test_each_promise_of_the_threat_model_has_its_tests() -> None:
    """Each sentence of SECURITY.md is quoted by a row with tests, but for those that promise nothing."""
    model = (ROOT / "SECURITY.md").read_text().partition("## Threat model")[2]
    text = " ".join(model.replace("\n- ", ". ").split())
    part = PAGE.partition("## What SECURITY.md promises")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (\[`test_.+) \|$", part, re.MULTILINE)
    assert len(rows) > 25
    assert [quoted for quoted, _ in rows if quoted not in text] == [], "is no longer said there"
    sentences = [each.strip() for each in re.split(r"(?<=[.:])\s", text) if each.strip(" .#-")]
    promises = [each for each in sentences if not each.startswith(NO_PROMISE)]
    quoted = [row for row, _ in rows]
    without = [each for each in promises if not any(row in each or each.strip(".:") in row for row in quoted)]
    assert without == []


def test_keys_are_compared_in_constant_time() -> None:
    for path in (ROOT / "nullworker" / "engine" / "auth").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
                assert not SECRET.search(ast.unparse(node).replace("key.public_key()", "public")), (
                    path.name,
                    ast.unparse(node),
                )


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
