"""Ctrl-C, as a terminal sends it to all processes of a command, SIGTERM or SIGHUP: no traceback, no process left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from pathlib import Path

HANG_S = 60.0


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("--soak", signal.SIGINT),
        ("--soak", signal.SIGTERM),
        ("--exhaustive", signal.SIGINT),
        ("--exhaustive", signal.SIGHUP),
    ],
)
def test_a_soak_and_a_walk_end_at_once_with_all_their_processes(
    tmp_path: Path, what: str, number: signal.Signals
) -> None:
    own = ["--minutes", "60", "--record", str(tmp_path / "soak.json")] if what == "--soak" else []
    command = [sys.executable, "-m", "nullworker.cli.main", "simulate", what, *own]
    soak = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        children = hunters_of(soak.pid)
        if number == signal.SIGINT:  # as a terminal sends it
            os.killpg(soak.pid, number)
        else:
            soak.send_signal(number)
        said, _ = soak.communicate(timeout=HANG_S)
    finally:
        if soak.poll() is None:
            os.killpg(soak.pid, signal.SIGKILL)
            soak.communicate()
    assert (soak.returncode, said.strip()) == (130, "")
    assert psutil.wait_procs(children, timeout=HANG_S)[1] == []


@pytest.mark.parametrize("benchmark", ["warm", "grants"])  # on the event loop, and in a thread beside it
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_benchmark_ends_the_engine_that_it_started(benchmark: str, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "nullworker.cli.main", "bench", benchmark]
    bench = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        engine = engine_of(bench.pid)
        if number == signal.SIGINT:
            os.killpg(bench.pid, number)
        else:
            bench.send_signal(number)
        said, _ = bench.communicate(timeout=HANG_S)
    finally:
        if bench.poll() is None:
            os.killpg(bench.pid, signal.SIGKILL)
            bench.communicate()
    assert bench.returncode == 130
    assert "Traceback" not in said
    assert psutil.wait_procs([engine], timeout=HANG_S)[1] == []


def engine_of(pid: int) -> psutil.Process:
    """The engine that a benchmark runs, as soon as there is one."""
    give_up_at = time.monotonic() + HANG_S
    while True:
        for child in psutil.Process(pid).children(recursive=True):
            if "engine" in words_of(child):
                return child
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def hunters_of(pid: int) -> list[psutil.Process]:
    """The processes that run seeds, as soon as there is one; as early as that, they are still being loaded."""
    give_up_at = time.monotonic() + HANG_S
    while True:
        children = psutil.Process(pid).children(recursive=True)
        if any("spawn_main" in word for child in children for word in words_of(child)):
            return children
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def words_of(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
