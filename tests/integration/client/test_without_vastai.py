"""The client and the dispatcher work where ``vastai`` is not installed."""

from __future__ import annotations

import asyncio
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import nullworker.client
import nullworker.dispatch
from nullworker.queues import sqlite_jobs
from tests.kit.client_stubs import API_KEY

if TYPE_CHECKING:
    from tests.kit.client_stubs import RoutingEngine

ROOT = Path(__file__).parents[3]
#: For a sitecustomize.py: the interpreter finds no vastai and nothing that only vastai brings, whatever is installed.
WITHOUT_VASTAI = """
import sys

MISSING = {"vastai", "cryptography", "Crypto", "requests", "PIL", "psutil", "rich", "jwt", "uvloop"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
"""
MODULES = [
    name
    for package in (nullworker.client, nullworker.dispatch)
    for name in (
        package.__name__,
        *(f"{package.__name__}.{one.name}" for one in pkgutil.iter_modules(package.__path__)),
    )
]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of a process that finds no vastai."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_VASTAI)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NULLWORKER_", "VAST_"))}
    return {**kept, "PYTHONPATH": f"{tmp_path}:{ROOT}", "HOME": str(tmp_path), "VAST_API_KEY": API_KEY}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python to its end."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_module_of_client_and_dispatcher_is_imported_without_it(environment: dict[str, str]) -> None:
    """And does not import it where it is installed either."""
    code = (
        f"import importlib, sys; [importlib.import_module(name) for name in {MODULES}]; print('vastai' in sys.modules)"
    )
    ended = run(environment, "-c", code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "False\n", "")
    ended = run({**environment, "PYTHONPATH": str(ROOT)}, "-c", code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "False\n", "")


@pytest.mark.parametrize("form", [("-m", "nullworker.cli.main", "reserve"), ("-m", "workers.null.client")])
async def test_workers_are_reserved_without_it(
    environment: dict[str, str], stub_engine: RoutingEngine, stub_url: str, form: tuple[str, ...]
) -> None:
    """In both forms of the command."""
    name = next(iter(stub_engine.endpoints))
    flags = ("--endpoint", name, "--instance", stub_url, "--hold", "0", "--json")
    ended = await asyncio.to_thread(run, environment, *form, *flags)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [json.loads(line)["event"] for line in ended.stdout.splitlines()] == ["asking", "held", "released"]


async def test_the_dispatcher_asks_its_engine_without_it(
    environment: dict[str, str], stub_engine: RoutingEngine, stub_url: str, tmp_path: Path
) -> None:
    """Queue and engine, by --check."""
    file = tmp_path / "jobs.db"
    sqlite_jobs.enqueue(file, ["a"])
    flags = ("--endpoint", next(iter(stub_engine.endpoints)), "--instance", stub_url, "--check")
    queue = ("--queue", sqlite_jobs.url(file), "--state", str(tmp_path / "state"))
    ended = await asyncio.to_thread(run, environment, "-m", "nullworker.cli.main", "dispatch", *flags, *queue)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"engine {stub_url}: " in ended.stdout


@pytest.mark.parametrize(("command", "extra"), [("engine", "engine"), ("demo", "demo")])
def test_a_command_that_needs_an_extra_says_which(environment: dict[str, str], command: str, extra: str) -> None:
    """In one sentence."""
    ended = run(environment, "-m", "nullworker.cli.main", command)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"error: nullworker {command} needs the extra '{extra}' (")
    assert ended.stderr.endswith(f"pip install 'nullworker[{extra}]'\n")
