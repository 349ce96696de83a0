"""What ``make demo`` installs."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

from tools import demo_environment


def test_all_that_vastai_needs_is_installed_but_for_its_pdf_library() -> None:
    declared = metadata.requires("vastai") or []
    left_out = set(declared) - set(demo_environment.needed_of(declared))
    assert [text.split()[0].partition("<")[0].partition(">")[0] for text in left_out] == ["borb"]


def test_what_an_extra_brings_is_not_needed() -> None:
    assert demo_environment.needed_of(["a>=1", 'b; extra == "x"', "borb (>=2)", "borbine"]) == ["a>=1", "borbine"]


def test_a_failure_shows_what_pip_says_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = subprocess.CompletedProcess([sys.executable], 1, "", "no such package\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SystemExit, match="error: what the demo needs could not be installed"):
        demo_environment.install("absent")
    assert "no such package" in capsys.readouterr().err
