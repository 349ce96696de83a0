"""`make matrix` tries everything on each Python, and reports all that failed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import matrix


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ((), "passed: 7 passed"),
        (("pytest",), "tests failed: "),
        (("nullworker.cli.main",), "the simulation failed: "),
        (("pytest", "nullworker.cli.main"), "tests and the simulation failed: "),
    ],
)
def test_a_failure_does_not_keep_the_rest_from_being_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: tuple[str, ...], said: str
) -> None:
    ran = []

    def succeeds(_python: Path, log: Path, module: str, *_arguments: str) -> bool:
        ran.append(module)
        log.write_text("7 passed\n")
        return module not in failing

    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    monkeypatch.setattr(matrix, "interpreter", lambda _version: Path(sys.executable))
    monkeypatch.setattr(matrix, "succeeds", succeeds)
    assert matrix.tried("3.13").startswith(said)
    assert ran[-2:] == ["pytest", "nullworker.cli.main"]
