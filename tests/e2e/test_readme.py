"""The README's first steps, as a new user takes them: its files in an empty directory, its commands one by one."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "README.md").read_text()
HANG_S = 60


def block(kind: str, holds: str) -> str:
    """The page's one block of that kind with that text in it."""
    [found] = [text for text in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if holds in text]
    return str(found)


def test_the_files_and_commands_of_the_page_work_in_an_empty_directory(tmp_path: Path) -> None:
    """On another port and with state of its own, which is all that is not as on the page."""
    (tmp_path / "consumer.py").write_text(block("python", "# consumer.py").replace("sleep(5)", "sleep(0)"))
    (tmp_path / "nullworker.toml").write_text(block("toml", "# nullworker.toml"))
    path, engine, *others = [line[2:] for line in block("console", "--config nullworker.toml").splitlines()]
    assert path.startswith("PATH=")
    own = {name: value for name, value in os.environ.items() if name != "VAST_API_KEY"}
    own |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "NULLWORKER_STATE": str(tmp_path / "state")}
    serving = subprocess.Popen(
        shlex.split(engine), cwd=tmp_path, env={**own, "NULLWORKER_PORT": "0"}, stdout=subprocess.PIPE, text=True
    )
    try:
        assert serving.stdout is not None
        url = re.sub(r"^nullworker engine at (\S+), endpoints: null-prod\n$", r"\1", serving.stdout.readline())
        asking = {**own, "NULLWORKER_STATUS_INSTANCE": url, "NULLWORKER_EXPLAIN_INSTANCE": url}
        said = [run(command.replace("--instance local", f"--instance {url}"), tmp_path, asking) for command in others]
    finally:
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=HANG_S)
    assert serving.returncode == 130
    held, status, story = said
    assert "its consumer gave it back" in held
    assert "null-prod (endpoint 1, active)" in status
    assert {"create", "worker_ready", "grant"} <= set(story.split())
    assert "at work on null\n" in (tmp_path / "state/logs/null-prod/worker-1.log").read_text()


def run(command: str, directory: Path, environ: dict[str, str]) -> str:
    """What a command of the page prints, its exit code being 0."""
    words = shlex.split(command, comments=True)
    done = subprocess.run(
        words, cwd=directory, env=environ, capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout
