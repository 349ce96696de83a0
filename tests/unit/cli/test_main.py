"""The command line's frame: which commands there are, how they are loaded, how they end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from nullworker.cli import main as cli

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = """
import click

@click.command()
@click.option("--size", default=1)
def command(size):
    "A command."
    {body}
"""


class Package:
    """A package of commands that the test writes."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.directory = directory

    def add(self, command: str, body: str = "pass", top: str = "") -> None:
        """Writes one command's file."""
        (self.directory / f"{command}.py").write_text(top + COMMAND.format(body=body))

    def run(self, *arguments: str) -> int:
        """Runs the command line on it."""
        return cli.run(cli.build(self.name, self.directory), arguments)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """An empty one."""
    directory = tmp_path / "commands_of_a_test"
    directory.mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.startswith(directory.name)]:
        monkeypatch.delitem(sys.modules, name)
    return Package(directory.name, directory)


def test_only_commands_with_a_file_are_listed(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    """A file or a package of that name; any other file is none."""
    package.add("status")
    package.add("helpers")
    (package.directory / "demo").mkdir()
    (package.directory / "demo" / "__init__.py").write_text("")
    assert package.run("--help") == 0
    shown = capsys.readouterr().out
    assert "status" in shown
    assert "demo" in shown
    assert "engine" not in shown
    assert "helpers" not in shown
    assert package.run("helpers") == 2


def test_help_loads_no_command(package: Package) -> None:
    """So that it is fast, and works whatever is missing."""
    package.add("status", top="raise SystemError('loaded')\n")
    assert package.run("--help") == 0
    with pytest.raises(SystemError):
        package.run("status")


def test_a_missing_extra_is_one_sentence_with_what_to_install(
    package: Package, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it is missed when the command is loaded or when it runs."""
    monkeypatch.setitem(sys.modules, "rich", None)
    package.add("engine", top="import rich\n")
    package.add("status", body="import rich.table")
    for command in ("engine", "status"):
        assert package.run(command) == 1
        assert capsys.readouterr().err == (
            f"error: nullworker {command} needs the extra 'engine' (rich is not installed): "
            "pip install 'nullworker[engine]'\n"
        )


def test_a_missing_module_that_no_extra_brings_is_a_fault_of_ours(package: Package) -> None:
    """And is not blamed on the user."""
    package.add("status", body="import nullworker.no_such_module")
    with pytest.raises(ModuleNotFoundError):
        package.run("status")


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("return 0", 0, ""),
        ("return None", 0, ""),
        ("return 3", 3, ""),
        (
            "from nullworker.cli.errors import UserError; raise UserError('Port 8080 is taken.')",
            1,
            "error: Port 8080 is taken.\n",
        ),
        ("from nullworker.cli.errors import UserError; raise UserError('Odd.', 4)", 4, "error: Odd.\n"),
        ("from nullworker.client.errors import RecordInvalidError as E; raise E('x')", 1, "error: This record holds"),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise click.Abort", 130, ""),
        ("raise click.UsageError('Not so.')", 2, "Error: Not so."),
        ("click.get_current_context().exit(5)", 5, ""),
    ],
)
def test_how_a_command_ends(
    package: Package, capsys: pytest.CaptureFixture[str], body: str, code: int, said: str
) -> None:
    """Its exit code, and one sentence on stderr for what its user can mend."""
    package.add("status", body=body)
    assert package.run("status") == code
    complaint = capsys.readouterr().err
    assert said in complaint
    assert "Traceback" not in complaint


def test_a_fault_of_ours_is_not_hidden(package: Package) -> None:
    """A traceback is what one needs then."""
    package.add("status", body="1 / 0")
    with pytest.raises(ZeroDivisionError):
        package.run("status")


def test_every_option_can_come_from_the_environment(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under NULLWORKER_, the command's name and its own."""
    package.add("status", body="return size")
    monkeypatch.setenv("NULLWORKER_STATUS_SIZE", "7")
    assert package.run("status") == 7
    assert package.run("status", "--size", "8") == 8


def test_wrong_use_exits_with_2(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command, an unknown flag, a value of the wrong type, nothing at all."""
    package.add("status")
    for arguments in (("none",), ("status", "--no"), ("status", "--size", "x"), ()):
        assert package.run(*arguments) == 2
        assert "Usage:" in capsys.readouterr().err


def test_the_version_is_the_packages(package: Package, capsys: pytest.CaptureFixture[str]) -> None:
    """As it is installed."""
    from importlib.metadata import version

    assert package.run("--version") == 0
    assert capsys.readouterr().out == f"nullworker {version('nullworker')}\n"


def test_help_imports_neither_vastai_nor_aiohttp() -> None:
    """Half a second that would be waited for in vain."""
    code = (
        "import sys; from nullworker.cli import main; code = main.run(main.build(), ['--help']);"
        "sys.exit(code or ' '.join(sorted({'vastai', 'aiohttp', 'msgspec', 'requests'} & set(sys.modules))) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "reserve" in result.stdout


def test_a_closed_output_is_no_fault(package: Package) -> None:
    """As in ``nullworker logs | head -1``: no traceback, and an exit code that says that not all was printed."""
    code = "import sys; from nullworker.cli import main; sys.exit(main.run(main.build(), ['--help']))"
    reader = subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    reader.wait()
    writer = subprocess.run(
        [sys.executable, "-c", code], stdout=reader.stdin, stderr=subprocess.PIPE, text=True, check=False
    )
    reader.stdin.close()
    assert (writer.returncode, writer.stderr) == (1, "")


def test_each_command_of_ours_loads_and_explains_itself_with_an_example() -> None:
    """All that have a file."""
    group = cli.build()
    with click.Context(group) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            text = command.get_help(click.Context(command, info_name=name, parent=context))
            assert f"nullworker {name}" in text.replace("Usage: nullworker", "Usage:"), f"{name} --help has no example"


def test_a_command_that_is_written_wrong_is_answered_with_the_nearest(
    package: Package, capsys: pytest.CaptureFixture[str]
) -> None:
    package.add("status")
    assert package.run("statsu") == cli.EXIT_MISUSED
    assert "No such command 'statsu'. Did you mean 'status'?" in capsys.readouterr().err
    assert package.run("zzz") == cli.EXIT_MISUSED
    assert "Did you mean" not in capsys.readouterr().err
