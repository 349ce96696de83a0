"""``make brokers``, with an apt-get and a dpkg that do as they are told: the package system stays whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tools.brokers import debian, libraries

if TYPE_CHECKING:
    from pathlib import Path

#: Writes down each call; what it does further is up to the variables.
APT_GET = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
*--download-only*) [ -z "$DOWNLOAD_FAILS" ] || { echo "E: no such package" >&2; exit 100; } ;;
*--no-download*)
    [ -z "$GATE" ] || { echo unpacking > "$STARTED"; read line < "$GATE"; }
    echo unpacked >> "$LOG" ;;
esac
"""
HANG_S = 60


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the apt-get was asked for."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("apt-get", APT_GET), ("dpkg", '#!/bin/sh\nprintf "%s" "$BROKEN"\n')):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setenv(debian.INSTALL_VARIABLE, "1")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "log").touch()
    return tmp_path / "log"


def test_packages_are_downloaded_first_and_unpacked_then(log: Path) -> None:
    said: list[str] = []
    assert debian.install(["one", "two"], said.append) == ""
    download, unpack, done = log.read_text().splitlines()
    assert download.endswith("install --download-only one two")
    assert unpack.endswith("--no-download install one two")
    assert done == "unpacked"
    assert [line.split()[0] for line in said] == ["downloading", "unpacking"]


def test_a_package_system_that_is_broken_already_is_left_alone(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "The following packages are only half configured")
    assert "half-installed, not by us" in debian.install(["one"], lambda _: None)
    assert log.read_text() == ""


def test_nothing_is_unpacked_of_what_could_not_be_downloaded(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOWNLOAD_FAILS", "yes")
    assert debian.install(["one"], lambda _: None) == "E: no such package"
    calls = log.read_text()
    assert "--no-download" not in calls
    assert calls.count("--download-only") == 1 + debian.TRIES


@pytest.mark.parametrize("reason", [debian.INSTALL_VARIABLE, "only root"])
def test_nothing_is_installed_where_it_is_not_allowed(log: Path, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    if reason == debian.INSTALL_VARIABLE:
        monkeypatch.setenv(debian.INSTALL_VARIABLE, "0")
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert reason in debian.install(["one"], lambda _: None)
    assert log.read_text() == ""


def test_ctrl_c_waits_for_the_unpacking_and_ends_the_step_then(log: Path) -> None:
    gate, started = log.parent / "gate", log.parent / "started"
    os.mkfifo(gate)
    os.mkfifo(started)
    script = "import os; os.geteuid = lambda: 0; from tools.brokers import debian; debian.install(['one'], print)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "GATE": str(gate), "STARTED": str(started)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert started.read_text() == "unpacking\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all that it has started in its group
    gate.write_text("go on\n")
    process.communicate(timeout=HANG_S)
    assert log.read_text().endswith("unpacked\n")
    assert process.returncode == -signal.SIGINT


def test_what_does_not_end_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    command = ["sh", "-c", "sleep 1000 & echo $! > child; wait"]
    assert libraries.run(command, tmp_path, 0.5) == "it did not end within 0.5 s"
    child = int((tmp_path / "child").read_text())
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True, check=False).stdout
    assert state.strip()[:1] in ("", "Z")


def test_a_library_that_cannot_be_had_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "python_library", lambda _: tmp_path / "tools/it")
    monkeypatch.setattr(libraries, "run", lambda *_: "no connection")
    assert libraries.get_python("it==1") == "no connection"
    assert list((tmp_path / "tools").iterdir()) == []
