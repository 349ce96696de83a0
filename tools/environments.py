"""Empty environments with the package's wheel in them: what `tools.wheel` and `tools.sizes` look into."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: All that a wheel is made of. A copy of these is built, so that what an earlier build left in the tree is not in it.
SOURCES = ("nullworker", "workers", "pyproject.toml", "README.md", "LICENSE")
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
#: Bytecode is kept of what runs, even where the environment says not to: the commands are many.
ENVIRON = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs a command and returns what it printed; stdin is empty."""
    words = [str(word) for word in command]
    return subprocess.run(
        words, cwd=cwd, env=ENVIRON, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def checked(*command: str | Path, cwd: Path | None = None) -> str:
    """Runs a command that must succeed.

    Raises:
        SystemExit: it failed; with what it said.
    """
    done = run(*command, cwd=cwd)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed with exit code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def build_wheel(directory: Path) -> Path:
    """Builds the wheel from a copy of the sources, in ``directory``."""
    copy = directory / "sources"
    copy.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=ignored)
        else:
            shutil.copy(source, copy / name)
    checked(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", directory, copy)
    (wheel,) = directory.glob("*.whl")
    return wheel


def install(wheel: Path, extras: str, environment: Path, *, compiles: bool = True) -> Path:
    """Makes an empty environment, installs the wheel with its extras (comma-separated) there, and nothing else.

    Args:
        wheel: what `build_wheel` made.
        extras: names of extras, as ``engine,redis``; empty for none.
        environment: where; made here, must not be there yet.
        compiles: whether bytecode is made of all of it, as pip does by itself.

    Returns:
        The environment's directory of commands.
    """
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin/python"
    requirement = f"{wheel}[{extras}]" if extras else str(wheel)
    how = "--compile" if compiles else "--no-compile"
    checked(sys.executable, *PIP, "--python", python, "install", how, requirement)
    return environment / "bin"
