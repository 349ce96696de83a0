"""``nullworker up``: a queue, a consumer, workers that come and go, and what becomes of jobs at Ctrl-C."""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nullworker.queues import sqlite_jobs
from tests.e2e.follower import left_of
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

HANG_S = 100
#: Takes a job and waits until a file says that it may end it.
CONSUMER = """\
import os, pathlib, sys, time
pathlib.Path("environment.txt").write_text("\\n".join(os.environ))
from nullworker.queues import sqlite_jobs
job = sqlite_jobs.claim("jobs.db", worker="me")
while job and not pathlib.Path("go").exists():
    time.sleep(0.05)
if job:
    sqlite_jobs.finish("jobs.db", job)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """With a consumer and a queue of three jobs; at the end all workers are ended that a test has left running."""
    (tmp_path / "consumer.py").write_text(CONSUMER)
    sqlite_jobs.enqueue(tmp_path / "jobs.db", ["1", "2", "3"])
    yield tmp_path
    (tmp_path / "go").touch()
    if (tmp_path / "state").exists():
        words = ["engine", "--state", "state", "--port", "0", "--end-workers"]
        engine = subprocess.Popen(
            [sys.executable, "-m", "nullworker.cli.main", *words], cwd=tmp_path, stdout=subprocess.PIPE, text=True
        )
        until(engine, "nullworker engine at")
        engine.send_signal(signal.SIGINT)
        engine.communicate(timeout=HANG_S)


def up(folder: Path, *flags: str, command: tuple[str, ...] = (sys.executable, "consumer.py")) -> subprocess.Popen[str]:
    words = ["up", "--queue", "sqlite://./jobs.db", "--state", "state", "--max", "2", *flags, "--", *command]
    return subprocess.Popen(
        [sys.executable, "-m", "nullworker.cli.main", *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "VAST_API_KEY"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_on_terminal(folder: Path, *words: str) -> tuple[subprocess.Popen[bytes], int]:
    """The command with a terminal of 40 lines of 160 characters; the process, and the terminal's other side."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "nullworker.cli.main", *words],
        cwd=folder,
        env={**{name: value for name, value in os.environ.items() if name != "VAST_API_KEY"}, "TERM": "xterm"},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    return process, ours


def until_shown(terminal: int, text: str) -> str:
    """What the terminal was sent up to ``text``, or to its end, without what moves the cursor or colours."""
    shown = ""
    while text not in shown:
        try:
            sent = os.read(terminal, 65_536)
        except OSError:  # the command has ended
            break
        shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", sent.decode(errors="replace"))
    assert text in shown, shown[-3000:]
    return shown


def jobs(folder: Path) -> dict[str, int]:
    """How many jobs are in which state."""
    return {state: count for state, count in sqlite_jobs.counts(folder / "jobs.db").items() if count}


def result(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a command that ends has printed, on both; one that does not is ended, and what it printed is the error."""
    try:
        return process.communicate(timeout=HANG_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(("it did not end", *process.communicate())) from None


def until(process: subprocess.Popen[str], text: str) -> list[str]:
    """The lines up to the first that has ``text`` in it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return lines
    raise AssertionError((lines, process.communicate(timeout=HANG_S)))


def test_a_queue_is_done_by_workers_that_come_and_go(folder: Path) -> None:
    (folder / "go").touch()
    out, err = result(up(folder, "--port", "0", "--until-empty"))
    assert err == ""
    assert jobs(folder) == {"done": 3}
    names = set((folder / "environment.txt").read_text().splitlines())
    assert not names & ({"PYTHONPATH", "SETUPTOOLS_USE_DISTUTILS"} - set(os.environ))
    assert "worker 1: create (" in out
    assert "3 waiting, 0 in flight; want 2" in out


def test_a_consumer_that_does_not_end_is_ended_when_nothing_is_left_to_do(folder: Path) -> None:
    """``--max-idle-hold``: else a worker would be held for as long as it sleeps."""
    (folder / "stays.py").write_text(f"{CONSUMER}\ntime.sleep(3600)\n")
    (folder / "go").touch()
    flags = ("--port", "0", "--until-empty", "--max-idle-hold", "2", "--max", "3")
    out, err = result(up(folder, *flags, command=(sys.executable, "stays.py")))
    assert err == ""
    assert jobs(folder) == {"done": 3}
    # Fewer than three where another was sent for a job that a slow one had not yet taken: the first were ended by then.
    assert re.search(r"0 waiting, 0 in flight; want 0, [123] held", out)


def test_a_file_says_all_of_it(folder: Path) -> None:
    """The page's own."""
    (folder / "go").touch()
    page = (Path(__file__).parents[2] / "docs/up.md").read_text()
    [file] = re.findall(r"```toml\n# nullworker.toml\n(.*?)```", page, re.DOTALL)
    python = shlex.quote(sys.executable)
    (folder / "nullworker.toml").write_text(file.replace("python consumer.py", f"{python} consumer.py"))
    words = ["up", "--config", "nullworker.toml", "--port", "0", "--state", "state", "--until-empty"]
    done = subprocess.run(
        [sys.executable, "-m", "nullworker.cli.main", *words],
        cwd=folder, env={name: value for name, value in os.environ.items() if name != "VAST_API_KEY"},
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert jobs(folder) == {"done": 3}
    assert "endpoints: gpu; log: " in done.stdout


def test_on_a_terminal_one_screen_shows_queue_workers_reasons_and_what_a_signal_does(folder: Path) -> None:
    words = ["up", "--queue", "sqlite://./jobs.db", "--state", "state", "--max", "2", "--port", "0"]
    process, terminal = run_on_terminal(folder, *words, "--", sys.executable, "consumer.py")
    try:
        shown = until_shown(terminal, "2 in flight; want 2, 2 held")
        assert "nullworker up  " in shown
        shown += until_shown(terminal, "held")
        assert "worker    state" in shown
        assert "worker 1: create (" in shown
        process.send_signal(signal.SIGINT)
        until_shown(terminal, "2 jobs run. Ctrl-C again ends them, or they go on")
        process.send_signal(signal.SIGINT)
        until_shown(terminal, "ended with their workers: 2 jobs")
        assert process.wait(HANG_S) == 130
    finally:
        os.close(terminal)
        process.wait(HANG_S)


def test_ctrl_c_says_what_runs_and_jobs_go_on_for_the_next_start(folder: Path) -> None:
    port = str(free_port())
    process = up(folder, "--port", port)
    until(process, "2 in flight; want 2, 2 held")
    process.send_signal(signal.SIGINT)
    until(process, "2 jobs run. Ctrl-C again ends them, or they go on")
    until(process, "left running: 2 jobs")
    _, err = result(process)
    assert (process.returncode, err) == (130, "")
    (folder / "go").touch()
    out, err = result(up(folder, "--port", port, "--until-empty"))
    assert "taken over from an earlier run: 2 jobs" in out, err
    assert jobs(folder) == {"done": 3}


@pytest.mark.parametrize(
    ("flags", "says", "left"),
    [
        ((), "left running: 1 job;", 1),
        pytest.param(("--end-jobs",), "ended with their workers: 1 job", 0, marks=pytest.mark.long),
    ],
)
def test_what_another_client_holds_runs_on_after_the_queue_is_empty(
    folder: Path, flags: tuple[str, ...], says: str, left: int
) -> None:
    consumer = f"exec {sys.executable} consumer.py"
    either = f'case "$NULL_PAYLOAD" in *stay*) touch stays; exec sleep 300;; *) {consumer};; esac'
    process = up(folder, "--port", "0", "--max", "4", "--until-empty", *flags, command=("sh", "-c", either))
    [url] = re.findall(r"engine at (\S+),", until(process, "engine at")[-1])
    words = ["reserve", "--endpoint", "up", "--hold", "300", "--payload", '{"stay": true}', "--instance", url]
    with subprocess.Popen(
        [sys.executable, "-m", "nullworker.cli.main", *words],
        cwd=folder, env={**os.environ, "NULLWORKER_STATE": str(folder / "state")}, stdout=subprocess.DEVNULL,
    ) as other:  # fmt: skip
        give_up_at = time.monotonic() + HANG_S
        while not (folder / "stays").exists():
            assert time.monotonic() < give_up_at, "the other client has a worker"
            time.sleep(0.1)
        (folder / "go").touch()
        until(process, says)
        _, err = result(process)
        assert (process.returncode, err) == (0, "")
        assert jobs(folder) == {"done": 3}
        assert len(left_of(folder)) == left
        other.kill()


@pytest.mark.parametrize("how", ["a second Ctrl-C", pytest.param("--end-jobs", marks=pytest.mark.long)])
def test_jobs_end_only_where_that_is_said(folder: Path, how: str) -> None:
    process = up(folder, "--port", "0", *([how] if how.startswith("--") else []))
    until(process, "2 in flight; want 2, 2 held")
    process.send_signal(signal.SIGINT)
    if not how.startswith("--"):
        until(process, "Ctrl-C again ends them")
        process.send_signal(signal.SIGINT)
    until(process, "ended with their workers: 2 jobs")
    result(process)
    assert process.returncode == 130
    assert jobs(folder) == {"running": 2, "waiting": 1}


def test_sigterm_lets_jobs_go_on(folder: Path) -> None:
    process = up(folder, "--port", "0")
    until(process, "2 in flight; want 2, 2 held")
    process.send_signal(signal.SIGTERM)
    until(process, "left running: 2 jobs")
    result(process)
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("nosuchprogram", "There is no program nosuchprogram in PATH"),
        ("./plain.sh", "may not be run: chmod +x ./plain.sh"),
    ],
)
def test_a_program_that_cannot_be_run_is_refused_before_anything_starts(folder: Path, program: str, says: str) -> None:
    (folder / "plain.sh").write_text("#!/bin/sh\n")
    process = up(folder, command=(program,))
    out, err = result(process)
    assert (process.returncode, out) == (1, "")
    assert says in err
    assert not (folder / "state").exists()
