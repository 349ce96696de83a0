"""`nullworker bench` without names runs all but those that take too long for that, and says which they are."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from nullworker.cli import bench


async def _short() -> dict[str, Any]:
    return {"name": "a short one"}


async def _long() -> dict[str, Any]:
    return {"name": "a long one"}


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {"BENCHMARKS": {"short": _short}, "BY_NAME_ALONE": {"long": _long}}
    monkeypatch.setattr(bench, "_find", lambda table: tables[table])


@pytest.mark.parametrize(
    ("names", "ran", "not_run"),
    [([], "a short one", "a long one"), (["long"], "a long one", "a short one")],
)
def test_a_long_one_is_run_only_if_named(names: list[str], ran: str, not_run: str) -> None:
    told = CliRunner().invoke(bench.command, [*names, "--json"]).output
    assert ran in told
    assert not_run not in told


def test_the_list_says_which_are_run_only_if_named() -> None:
    assert CliRunner().invoke(bench.command, ["--list"]).output.splitlines() == ["short", "long (run only if named)"]
