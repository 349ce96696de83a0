"""What runs on a host before anything else: it takes the code once, and says in one line why it cannot go on."""

from __future__ import annotations

import ast
import io
import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.fleets.bundle import make_bundle
from nullworker.fleets.ssh import bootstrap

if TYPE_CHECKING:
    from pathlib import Path

BUNDLE = make_bundle([], "")


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(bootstrap, "NEEDED", ("json",))
    fields = {"code": BUNDLE.name, "bytes": len(BUNDLE.content), "root": str(tmp_path / "root"), "install": True}
    return {**fields, "requirements": [], "python_min": [3, 10], "agent": {"mark": "m"}}


def given(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


def test_code_is_taken_once(
    order: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, BUNDLE.content)
    python, flag, _, folder, settings = bootstrap.prepare(order)
    assert (python, flag) == (sys.executable, "-c")
    assert json.loads(settings) == {"mark": "m", "root": str(tmp_path / "root"), "code": folder}
    assert (tmp_path / "root/code" / BUNDLE.name / "nullworker/fleets/ssh/agent.py").is_file()
    given(monkeypatch, b"")
    assert bootstrap.prepare(order)[3] == folder
    assert capsys.readouterr().out == "nullworker need \nnullworker have \n"
    assert (tmp_path / "root").stat().st_mode & 0o77 == 0


def test_code_that_is_cut_short_is_not_run(
    order: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, BUNDLE.content[:-1])
    with pytest.raises(OSError, match="did not arrive whole"):
        bootstrap.prepare(order)
    assert list((tmp_path / "root/code").iterdir()) == []


def test_what_is_lacking_is_named_where_nothing_is_to_be_installed(
    order: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given(monkeypatch, BUNDLE.content)
    monkeypatch.setattr(bootstrap, "NEEDED", ("json", "no_such_module"))
    assert bootstrap.prepare({**order, "install": False}) == []
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "nullworker failed its Python lacks no_such_module, and install of [fleet.ssh] is off"


def test_a_virtual_environment_is_made_once(
    order: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], _participle: str) -> None:
        ran.append(command)
        if "venv" in command:
            type(tmp_path)(command[-1]).mkdir(parents=True)

    monkeypatch.setattr(bootstrap, "run", run)
    first = bootstrap.environment({**order, "requirements": ["vastai>=1"]}, tmp_path)
    assert bootstrap.environment({**order, "requirements": ["vastai>=1"]}, tmp_path) == first
    assert [command[-1] for command in ran] == [first.removesuffix("/bin/python"), "vastai>=1"]
    assert bootstrap.environment({**order, "requirements": ["vastai>=2"]}, tmp_path) != first


def test_the_last_line_of_a_failed_installation_is_told() -> None:
    script = "import sys; print('first'); print('No matching distribution'); sys.exit(1)"
    with pytest.raises(OSError, match="a virtual environment could not be filled: No matching distribution"):
        bootstrap.run([sys.executable, "-c", script], "filled")


@pytest.mark.parametrize(
    ("attribute", "value", "said"),
    [
        ("version_info", (3, 8, 1), "its Python is 3.8, and workers need 3.10 or later"),
        ("platform", "darwin", "it is no Linux machine"),
    ],
)
def test_a_host_that_cannot_run_workers_says_why(
    order: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    attribute: str,
    value: object,
    said: str,
) -> None:
    given(monkeypatch, json.dumps(order).encode() + b"\n")
    monkeypatch.setattr(sys, attribute, value)
    bootstrap.main()
    assert capsys.readouterr().out == f"nullworker failed {said}\n"


def test_old_interpreters_can_read_it() -> None:
    """Else they could not say that they are too old."""
    source = bootstrap.__spec__.loader.get_source(bootstrap.__name__)  # type: ignore[union-attr]
    ast.parse(source, feature_version=(3, 7))
