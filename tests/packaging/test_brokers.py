"""Tests install nothing: what they need is got by ``make brokers``, before them."""

from __future__ import annotations

import re
from pathlib import Path

from tools.brokers import needs

ROOT = Path(__file__).resolve().parents[2]


def test_each_program_that_a_test_asks_for_is_got_before_the_tests() -> None:
    asked = set()
    for path in (ROOT / "tests").rglob("*.py"):
        asked |= set(re.findall(r'\bprogram\("([\w-]+)"\)', path.read_text()))
    assert asked
    assert asked <= {one.name for one in needs.PROGRAMS}


def test_no_test_runs_an_installation() -> None:
    installs = re.compile(r'"(apt-get|npm)", "|"pip", "install"')
    found = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").rglob("*.py")
        if installs.search(path.read_text()) and path != Path(__file__)
    ]
    assert found == ["tests/integration/test_null_worker_fall_back.py"]  # one that `make test-long` runs alone


def test_the_tests_come_after_the_installation() -> None:
    rules = (ROOT / "Makefile").read_text()
    for target in ("test", "test-long", "coverage"):
        assert f"\n{target}: $(STAMP) brokers\n" in rules
