"""The pages about promises and scaling say what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tools.scaling_figures import PAGE, filled

ROOT = Path(__file__).resolve().parents[2]
PROMISES = [f"P{number}" for number in range(1, 17)]


@pytest.mark.parametrize("promise", PROMISES)
def test_each_promise_has_a_test_with_its_number_and_a_checker(promise: str) -> None:
    page = ROOT / "docs" / "promises.md"
    (row,) = [line for line in page.read_text().splitlines() if line.startswith(f"| {promise} |")]
    test, checker = ((page.parent / target).resolve() for target in re.findall(r"\]\((\.\./[^)]+)\)", row)[-2:])
    assert f'pytest.mark.promise("{promise}")' in test.read_text()
    assert f'promise = "{promise}"' in checker.read_text()


def test_the_figures_of_the_scaling_page_are_what_the_engine_does_now() -> None:
    assert filled(PAGE.read_text()) == PAGE.read_text(), "run python -m docs.tools.scaling_figures"
