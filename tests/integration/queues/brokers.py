"""Real brokers for the tests: started on a free port in a directory of their own, ended by id.

`program` finds an executable, or skips the test with the reason: no test installs anything, ``make brokers`` does.
`running` starts a broker and ends it with everything that it started, and with the test process if that is killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tools.brokers import needs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

START_LIMIT_S = 110.0  # a hang limit, within that of a test (120 s): the slowest, RabbitMQ, needs about 10 s alone
STOP_LIMIT_S = 10.0


@dataclass(frozen=True)
class Broker:
    """A broker that runs: its process id, the port it listens on (loopback), and the directory that is its own."""

    pid: int
    port: int
    directory: Path


def accepts(port: int) -> bool:
    """Whether a program listens on the loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def program(name: str) -> str:
    """The path of the executable ``name``, one of `needs.PROGRAMS`; skips the test, saying why, if it is not here."""
    wanted = needs.program(name)
    if found := wanted.find():
        return found
    by = "make chaos" if wanted in needs.CHAOS_PROGRAMS else "make brokers"
    pytest.skip(f"{name} is not installed (Debian package {wanted.package}); {by} installs it, or says why not")


def python_library(requirement: str) -> Path:
    """A directory for ``PYTHONPATH`` with a library that cannot share our environment (its dependencies conflict).

    Skips the test where it is not here.
    """
    directory = needs.python_library(requirement)
    if not directory.exists():
        pytest.skip(f"{requirement} is not here; make brokers gets it, or says why not")
    return directory


def node_library(folder: Path) -> tuple[str, Path]:
    """The ``node`` program, and a directory with the modules that ``package.json`` in ``folder`` asks for.

    Skips the test where one of them is not here.
    """
    directory = needs.node_library(folder)
    if not directory.exists():
        pytest.skip(f"the Node libraries of {folder.name}/package.json are not here; make brokers gets them")
    return program("node"), directory


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    directory: Path,
    ready: Callable[[], bool] | None = None,
    env: Mapping[str, str] | None = None,
    as_user: str | None = None,
) -> Iterator[Broker]:
    """Starts ``command`` in ``directory``, waits until it is ready, and ends it with its children afterwards.

    Args:
        command: the program (see `program`) and its arguments; it must stay in the foreground.
        port: the loopback port that it was told to listen on (see `free_port`).
        directory: where it runs and writes its log (``broker.log``).
        ready: asked until it says yes; by default, whether the port accepts a connection.
        env: variables to add to the environment.
        as_user: run as this user if we are root (PostgreSQL refuses to run as root); the directory becomes theirs.

    Raises:
        AssertionError: it ended, or was not ready in time; with the end of its log.
    """
    ready = ready or (lambda: accepts(port))
    log_path = directory / "broker.log"
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            [*_as_ours(as_user, directory), *command],
            cwd=directory,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_LIMIT_S
        while not ready():
            ended = process.poll() is not None
            if ended or time.monotonic() > deadline:
                how = f"ended with code {process.returncode}" if ended else f"was not ready after {START_LIMIT_S:g} s"
                pytest.fail(f"{command[0]} {how}; its log ends with:\n{log_path.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield Broker(process.pid, port, directory)
    finally:
        stop(process)


def _as_ours(as_user: str | None, directory: Path) -> list[str]:
    """A prefix for a command: it dies with us, and runs as ``as_user`` if we are root."""
    setpriv = shutil.which("setpriv")  # of util-linux; without it a killed test run may leave a broker behind
    prefix = [setpriv, "--pdeathsig", "TERM"] if setpriv else []
    if as_user and os.geteuid() == 0:
        if not setpriv:
            pytest.skip(f"running a broker as {as_user} needs setpriv (Debian package util-linux)")
        prefix += ["--reuid", as_user, "--regid", as_user, "--init-groups"]
        shutil.chown(directory, as_user)
        for path in directory.rglob("*"):
            shutil.chown(path, as_user)
    return [*prefix, "--"] if prefix else []


def stop(process: subprocess.Popen[bytes], first: signal.Signals = signal.SIGTERM) -> None:
    """Ends a process that leads its own group, and its group: kindly first, then for good. Twice is no error."""
    for sign, patience_s in ((first, STOP_LIMIT_S), (signal.SIGKILL, STOP_LIMIT_S)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # whatever it left behind in its group
