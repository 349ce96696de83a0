"""What ``make demo`` and ``make test`` install, and with what."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest

from tools import environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _an_empty_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose size is soon known."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path))


class Installers:
    """Stands in for what is run: keeps the commands; those with one of the words ``fail`` in them fail."""

    def __init__(self, *fail: str) -> None:
        self.fail = fail
        self.commands: list[list[str]] = []

    def run(self, words: list[str], **_options: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(words)
        failed = any(word in " ".join(words) for word in self.fail)
        return subprocess.CompletedProcess(words, int(failed), "", "no such package\n" if failed else "")


def installing(monkeypatch: pytest.MonkeyPatch, *fail: str) -> Installers:
    installers = Installers(*fail)
    monkeypatch.setattr(subprocess, "run", installers.run)
    return installers


def test_all_that_vastai_needs_is_installed_but_for_its_pdf_library() -> None:
    declared = metadata.requires("vastai") or []
    left_out = set(declared) - set(environment.needed_of(declared))
    assert [text.split()[0].partition("<")[0].partition(">")[0] for text in left_out] == ["borb"]


def test_what_an_extra_brings_is_not_needed() -> None:
    assert environment.needed_of(["a>=1", 'b; extra == "x"', "borb (>=2)", "borbine"]) == ["a>=1", "borbine"]


@pytest.mark.parametrize(
    ("what", "says"), [("demo", ".[demo] --overrides"), ("tests", ".[all] --group dev"), ("docs", "--group docs")]
)
def test_uv_installs_it_and_stays_out_of_the_environment(monkeypatch: pytest.MonkeyPatch, what: str, says: str) -> None:
    installers = installing(monkeypatch)
    environment.main([what])
    pip, uv = (" ".join(words) for words in installers.commands)
    assert " --target " in pip
    assert pip.endswith(" uv")
    assert f"--python {sys.executable}" in uv
    assert says in uv


@pytest.mark.parametrize("what", ["demo", "tests", "docs"])
@pytest.mark.parametrize("fails", ["--target", "bin/uv"])
def test_without_uv_pip_installs_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, fails: str
) -> None:
    installers = installing(monkeypatch, fails)
    environment.main([what])
    last = " ".join(installers.commands[-1])
    assert (".[all] --group dev" in last) is (what == "tests")
    assert ("--group docs" in last) is (what == "docs")
    assert "uv could not install it (no such package)" in capsys.readouterr().out


def test_a_failure_shows_what_pip_says_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installing(monkeypatch, "install")
    with pytest.raises(SystemExit, match="error: not everything could be installed"):
        environment.main(["demo"])
    assert "no such package" in capsys.readouterr().err


def test_uv_asks_the_index_that_pip_would_and_trusts_whom_it_does() -> None:
    pips = {"PIP_INDEX_URL": "https://mirror", "PIP_CERT": "/ca.pem"}
    told = environment.uv_environ(pips, system_certificates=False)
    assert (told["UV_DEFAULT_INDEX"], told["SSL_CERT_FILE"]) == ("https://mirror", "/ca.pem")
    assert "UV_SYSTEM_CERTS" not in told
    own = environment.uv_environ({**pips, "UV_DEFAULT_INDEX": "https://own"}, system_certificates=True)
    assert (own["UV_DEFAULT_INDEX"], own["UV_SYSTEM_CERTS"]) == ("https://own", "1")
