"""Shell completion: the script of each shell, and what the command completes when the shell asks."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from nullworker.cli import main as cli
from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import click


def completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, cursor: int
) -> list[str]:
    """What is offered, as a shell asks for it."""
    monkeypatch.setenv("_NULLWORKER_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(cursor))
    with pytest.raises(SystemExit):
        cli.run(cli.build(), [])
    return [line.partition(",")[2] for line in capsys.readouterr().out.splitlines()]


def test_commands_are_completed_without_loading_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unloadable(*_: object) -> click.Command:
        raise UserError("an extra is missing")

    monkeypatch.setattr(cli.Commands, "get_command", unloadable)
    assert completed(monkeypatch, capsys, "nullworker d", 1) == ["dispatch", "drain", "doctor", "demo"]
    assert completed(monkeypatch, capsys, "nullworker --v", 1) == ["--version"]


def test_options_of_a_command_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(monkeypatch, capsys, "nullworker status --w", 2) == ["--waiting", "--watch"]
    assert completed(monkeypatch, capsys, "nullworker completion ", 2) == ["bash", "zsh", "fish"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_of_that_shell(shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(cli.build(), ["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    assert f"_NULLWORKER_COMPLETE={shell}_complete" in script.read_text()
    if found := shutil.which(shell):
        subprocess.run([found, "-n", str(script)], check=True)


def test_another_shell_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(cli.build(), ["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of" in capsys.readouterr().err
