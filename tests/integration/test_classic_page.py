"""docs/classic-backends.md, followed command by command in a copy of the repository."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import psutil
import pytest

from tests.integration.classic_kit import CLONE
from tests.ports import free_port

PAGE = CLONE / "docs" / "classic-backends.md"
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
END = "the-command-is-through"


class Shell:
    """A bash that a reader could have open: jobs, variables and the current folder last from command to command."""

    def __init__(self, folder: Path, log: Path) -> None:
        env = {
            **{name: os.environ[name] for name in ("LANG", "TMPDIR") if name in os.environ},
            "HOME": str(folder.parent),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHON": sys.executable,
        }
        self._log = log.open("wb")
        self.process = subprocess.Popen(
            ["bash", "-m"],
            cwd=folder,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def run(self, command: str) -> str:
        """What it writes to its standard output."""
        put, got = self._pipes()
        put.write(f"{command}\nprintf '\\n%s %s\\n' {END} $?\n")
        put.flush()
        lines: list[str] = []
        for line in got:
            if line.startswith(END):
                assert line.split()[1] == "0", f"{command} failed: {''.join(lines)}"
                return "".join(lines).strip()
            lines.append(line)
        raise AssertionError(f"the shell ended in {command}")

    def close(self) -> list[str]:
        """Ends the shell; returns what was still running, which is ended as well."""
        left = psutil.Process(self.process.pid).children(recursive=True)
        names = [" ".join(child.cmdline()) for child in left if child.is_running()]
        for child in left:
            child.send_signal(signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for pipe in self._pipes():
            pipe.close()
        self._log.close()
        return names

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout


def steps(page: str) -> list[tuple[str, str, str]]:
    """The page's steps: ("file", path, text) or ("run", command, expected output)."""
    found: list[tuple[str, str, str]] = []
    for kind, title, text in FENCE.findall(page):
        if title:
            found.append(("file", title, text))
        elif kind == "console":
            for block in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, expected = block.partition("\n")
                found.append(("run", command, expected.strip()))
    return found


@pytest.mark.skipif(shutil.which("curl") is None, reason="the page's commands use curl, which is not installed")
@pytest.mark.timeout(240)
def test_the_page_can_be_followed_command_by_command(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    skip = shutil.ignore_patterns("__pycache__")
    for folder in ("nullworker", "workers"):
        shutil.copytree(CLONE / folder, clone / folder, ignore=skip)
    for file in ("start_server.sh", "requirements.txt", "pyproject.toml", "README.md"):
        shutil.copy(CLONE / file, clone / file)
    ports = {"3000": str(free_port()), "8080": str(free_port())}
    page = PAGE.read_text()
    shell = Shell(clone, tmp_path / "shell.log")
    try:
        shell.run(f"export WORKER_PORT={ports['3000']} NULLWORKER_ENGINE_PORT={ports['8080']} PYTHONPATH={clone}")
        for step in steps(page):
            follow(step, shell, clone, ports)
    except BaseException:
        for log in clone.glob("*.log"):
            print(f"--- {log.name}\n{log.read_text()}")
        raise
    finally:
        left = shell.close()
    assert left == [], "what the page starts it ends"
    assert len(steps(page)) > 30


def follow(step: tuple[str, str, str], shell: Shell, clone: Path, ports: dict[str, str]) -> None:
    kind, what, text = step
    for port, free in ports.items():
        what, text = what.replace(f":{port}", f":{free}"), text.replace(f":{port}", f":{free}")
    if kind == "file":
        (clone / what).write_text(text)
        return
    output = shell.run(what)
    if text:
        assert fnmatch.fnmatchcase(output, re.sub(r"([\[?])", r"[\1]", text)), f"$ {what}\n{output}"


def test_every_setting_of_the_page_is_one() -> None:
    """The table names what the code reads, and all of it."""
    source = (CLONE / "nullworker/classic/settings.py").read_text()
    read = set(re.findall(r'"([A-Z][A-Z_]+)"', source)) - {"SERVER_DIR", "MODEL_LOG"}
    table = PAGE.read_text().split("## Settings")[1]
    told = set(re.findall(r"`([A-Z][A-Z_]+)`", table))
    assert read - told == set()
    assert {name for name in told - read if not name.startswith("VAST_TCP_PORT_")} == set()
