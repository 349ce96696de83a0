"""Real brokers for the tests: found or installed, started on a free port in a directory of their own, ended by id.

`program` finds an executable, or installs its Debian package where that is allowed (root, no systemd that would start
the package's own service, or ``NULLWORKER_TESTS_INSTALL=1``; ``=0`` forbids it), or skips the test with the reason.
`running` starts a broker and ends it with everything that it started, and with the test process if that is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

INSTALL_VARIABLE = "NULLWORKER_TESTS_INSTALL"
START_LIMIT_S = 60.0  # a hang limit: the slowest broker (RabbitMQ) needs about 10 s
STOP_LIMIT_S = 10.0
#: Shared by all test processes of this user, so that two of them never run apt or npm at once.
LOCK_PATH = Path(tempfile.gettempdir()) / f"nullworker-tests-{os.getuid()}.lock"


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


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Holds a lock between test processes: for installing things."""
    with LOCK_PATH.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def program(name: str, *, package: str, also_in: Sequence[str] = ()) -> str:
    """The path of the executable ``name``, from ``PATH`` or one of the glob patterns ``also_in`` (absolute).

    Installs the Debian package ``package`` if it is missing and may be installed; else skips the test, saying why.
    """
    if found := _find(name, also_in):
        return found
    if reason := _why_not_install():
        pytest.skip(f"{name} is not installed (Debian package {package}), and was not installed: {reason}")
    with one_at_a_time():
        if not (found := _find(name, also_in)):
            failure = _apt_install(package)
            found = _find(name, also_in)
            if not found:
                pytest.skip(f"{name} is not installed, and installing Debian package {package} failed: {failure}")
    return found


def python_library(requirement: str) -> Path:
    """A directory for ``PYTHONPATH`` with a library that cannot share our environment (its dependencies conflict).

    Made once, inside the environment; skips the test, saying why, where that fails.
    """
    directory = _tools() / re.sub(r"[^\w.]+", "-", requirement)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    _make_once(directory, lambda work: [*command, "--target", str(work), requirement])
    return directory


def node_library(folder: Path) -> tuple[str, Path]:
    """The ``node`` program, and a directory with the modules that ``package.json`` in ``folder`` asks for.

    Made once, inside the environment; skips the test, saying why, where Node, npm or the registry is missing.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are not installed (Debian packages nodejs, npm)")
    manifest = folder / "package.json"
    directory = _tools() / f"node-{hashlib.sha256(manifest.read_bytes()).hexdigest()[:12]}"

    def install(work: Path) -> list[str]:
        shutil.copy(manifest, work)
        flags = ["--omit=optional", "--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund"]
        return [npm, "install", "--prefix", str(work), *flags, "--loglevel=error"]

    _make_once(directory, install)
    return node, directory


def _tools() -> Path:
    """A place for what the tests need beside our environment: in it, so that it goes with it."""
    inside = Path(sys.prefix)
    usable = sys.prefix != sys.base_prefix and os.access(inside, os.W_OK)
    return (inside if usable else Path(tempfile.gettempdir())) / "test-tools"


def _make_once(directory: Path, command: Callable[[Path], Sequence[str]]) -> None:
    """Makes a directory by a command that is given its place; half-made ones are never seen."""
    if directory.exists():
        return
    with one_at_a_time():
        if directory.exists():
            return
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent) as unfinished:
            work = Path(unfinished) / "work"
            work.mkdir()
            done = subprocess.run(command(work), capture_output=True, text=True, timeout=600, check=False)
            if done.returncode != 0:
                pytest.skip(f"{directory.name} could not be installed: {done.stderr.strip()[:500] or 'no message'}")
            work.rename(directory)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no message"])[-1]


def _find(name: str, also_in: Sequence[str]) -> str | None:
    if found := shutil.which(name):
        return found
    for pattern in also_in:
        for directory in sorted(Path("/").glob(pattern.lstrip("/")), reverse=True):
            if found := shutil.which(name, path=str(directory)):
                return found
    return None


def _why_not_install() -> str | None:
    """None where Debian packages may be installed, else the reason why not."""
    wish = os.environ.get(INSTALL_VARIABLE)
    if wish == "0":
        return f"{INSTALL_VARIABLE}=0"
    if os.geteuid() != 0:
        return "only root may install packages"
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    if wish != "1" and Path("/run/systemd/system").exists():
        return f"systemd would start the package's own service (set {INSTALL_VARIABLE}=1 to allow that)"
    return None


def _apt_install(package: str) -> str:
    """Installs a Debian package; returns "" or the last line of what went wrong."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # 1: start no service
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    for command in (install, ["apt-get", "update", "-q"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode == 0 and command is install:
            return ""
    return _last_line(done.stderr)


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
