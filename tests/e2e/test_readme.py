"""The README's first steps, as a new user takes them: its files in an empty directory, its commands one by one."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from tests.e2e.follower import left_of

PAGE = (Path(__file__).parents[2] / "README.md").read_text()
HANG_S = 60


def block(kind: str, holds: str) -> str:
    """The page's one block of that kind with that text in it."""
    [found] = [text for text in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if holds in text]
    return str(found)


def test_the_files_and_commands_of_the_page_work_in_an_empty_directory(tmp_path: Path) -> None:
    """On another port and with state of its own, which is all that is not as on the page."""
    (tmp_path / "enqueue.py").write_text(block("python", "# enqueue.py"))
    (tmp_path / "consumer.py").write_text(block("python", "# consumer.py").replace("sleep(5)", "sleep(0)"))
    path, enqueue, up = [line[2:] for line in block("console", "nullworker up --queue").splitlines()]
    assert path.startswith("PATH=")
    own = {name: value for name, value in os.environ.items() if name != "VAST_API_KEY"}
    own |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NULLWORKER_STATE": str(tmp_path / "state")}
    run(enqueue, tmp_path, own)
    serving = subprocess.Popen(
        shlex.split(up), cwd=tmp_path, env={**own, "NULLWORKER_PORT": "0"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        [url] = re.findall(r"engine at (\S+), endpoints: up;", serving.stdout.readline())
        for line in serving.stdout:
            if "0 waiting, 0 in flight; want 0, 0 held" in line:
                break
        asking = {**own, **{f"NULLWORKER_{name}_INSTANCE": url for name in ("STATUS", "EXPLAIN", "LOGS")}}
        commands = [line[2:] for line in block("console", "nullworker explain worker 1").splitlines()]
        status, story, printed = [run(command, tmp_path, asking) for command in commands]
    finally:
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=HANG_S)
    assert serving.returncode == 130
    assert left_of(tmp_path) == [], "no job ran"
    assert "up (endpoint 1, active)" in status
    assert {"create", "worker_ready", "grant"} <= set(story.split())
    assert "at work on job " in printed


def run(command: str, directory: Path, environ: dict[str, str]) -> str:
    """What a command of the page prints, its exit code being 0."""
    words = shlex.split(command, comments=True)
    done = subprocess.run(
        words, cwd=directory, env=environ, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout
