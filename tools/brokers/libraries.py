"""Libraries in folders of their own inside the environment: each is there as a whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tools.brokers.needs import node_library, program, python_library

if TYPE_CHECKING:
    from collections.abc import Sequence

#: One attempt. A registry that is out of reach would otherwise hold npm for many minutes.
LIMIT_S = 120.0
TRIES = 2


def get_python(requirement: str) -> str:
    """Gets a Python library with its dependencies; returns the empty string, or why it could not be done."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    return _make(python_library(requirement), [*pip, "--target", ".", requirement])


def get_node(folder: Path) -> str:
    """Gets what ``package.json`` in ``folder`` asks for; returns the empty string, or why it could not be done."""
    npm = program("npm").find()
    if npm is None or program("node").find() is None:
        return "node and npm are not installed"
    flags = ["--omit=optional", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    limits = ["--fetch-timeout=20000", "--fetch-retries=1"]
    return _make(node_library(folder), [npm, "install", *flags, *limits], folder / "package.json")


def _make(directory: Path, command: Sequence[str], *files: Path) -> str:
    """Makes a folder by a command that runs in it, after ``files`` are copied there; again if that fails."""
    if directory.exists():
        return ""
    directory.parent.mkdir(parents=True, exist_ok=True)
    failure = ""
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(dir=directory.parent) as unfinished:
            work = Path(unfinished) / "work"
            work.mkdir()
            for file in files:
                shutil.copy(file, work)
            failure = run(command, work, LIMIT_S)
            if not failure:
                work.rename(directory)
                return ""
    return failure


def run(command: Sequence[str], folder: Path, limit_s: float) -> str:
    """Runs a command; returns the empty string, or why it failed. At the limit it is ended with all that it started."""
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, err = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"it did not end within {limit_s:g} s"
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return "" if process.returncode == 0 else (err.strip().splitlines() or ["no message"])[-1][:300]
