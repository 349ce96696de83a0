"""Runs the unmodified ``vastai`` command line against an engine, and writes docs/command-line.md of what it printed.

python docs/tools/transcript.py

Each command is a process of its own: a fork of one that has imported the command line, which takes it a second.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "command-line.md"
HANG_S = 120

#: (what is shown, the arguments). The ids are those that a new engine gives: its own endpoint and workergroup are 1, 2.
STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("An endpoint that scales from zero", (
        "create", "endpoint", "--endpoint_name", "gpu", "--min_load", "0", "--target_util", "1.0", "--cold_mult", "1",
        "--cold_workers", "0", "--max_workers", "3", "--max_queue_time", "1", "--target_queue_time", "0.5",
        "--inactivity_timeout", "5",
    )),
    ("Its workergroup: `null` is the backend for reservations", (
        "create", "workergroup", "--template_hash", "null", "--endpoint_name", "gpu",
    )),
    ("What there is", ("show", "endpoints")),
    ("", ("show", "workergroups")),
    ("A change takes effect at once", ("update", "endpoint", "3", "--min_load", "100")),
    ("Soon there is a worker, for `min_load` is a floor", ("get", "endpt-workers", "3")),
    ("And the record says why", ("get", "endpt-logs", "3", "--level", "0")),
    ("", ("get", "endpt-logs", "3", "--level", "3", "--tail", "5")),
    ("", ("get", "wrkgrp-logs", "4", "--level", "1")),
    ("A rolling update, and its cancelling", ("update", "workers", "4")),
    ("", ("update", "workers", "4", "--cancel")),
    ("", ("update", "workergroup", "4", "--gpu_ram", "24")),
    ("Workers are neither added nor removed", ("update", "endpoint", "3", "--endpoint_state", "suspended")),
    ("", ("update", "endpoint", "3", "--endpoint_state", "active", "--min_load", "0")),
    ("Mistakes are sentences", ("create", "endpoint", "--endpoint_name", "gpu")),
    ("", ("create", "endpoint", "--endpoint_name", "other", "--target_util", "7")),
    ("", ("update", "endpoint", "99", "--max_workers", "5")),
    ("", ("update", "workers", "99")),
    ("Deleting drains first", ("delete", "workergroup", "4")),
    ("", ("delete", "endpoint", "3")),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One command and what it printed."""

    heading: str
    arguments: tuple[str, ...]
    output: str
    code: int


#: Reads a line for each command, {"argv", "out", "err"}, runs the command line's own main in a fork, says how it ended.
FORKS = """
import json, os, sys
import vastai.cli.main, vastai.cli.commands.instances
for line in iter(sys.stdin.readline, ""):
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path, flags in ((0, os.devnull, os.O_RDONLY), (1, asked["out"], os.O_WRONLY | os.O_CREAT),
                                    (2, asked["err"], os.O_WRONLY | os.O_CREAT)):
            os.dup2(os.open(path, flags, 0o600), number)
        sys.argv = asked["argv"]
        sys.exit(vastai.cli.main.main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Vastai:
    """The ``vastai`` command line, ready to run."""

    def __init__(self, script: str, home: Path) -> None:
        environ = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "VAST_API_KEY": ""}
        self._script = script
        self._out, self._err = home / "out", home / "err"
        self._process = subprocess.Popen(
            [str(Path(script).parent / "python"), "-c", FORKS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is not None:
            os.killpg(self._process.pid, signal.SIGKILL)  # with the command that hangs, if one does
        self._process.communicate()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Runs one command; returns its exit code and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"argv": [self._script, *arguments], "out": str(self._out), "err": str(self._err)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], HANG_S)[0]:
            raise TimeoutError(f"vastai {' '.join(arguments)} did not end in {HANG_S} s")
        code = int(self._process.stdout.readline())
        printed = self._out.read_text() + self._err.read_text()
        self._out.unlink()
        self._err.unlink()
        return code, printed


def run_steps(url: str, key: str, vastai: str) -> list[Line]:
    """Runs all steps against the engine at ``url``."""
    lines = []
    with TemporaryDirectory() as home, Vastai(vastai, Path(home)) as command_line:
        for heading, arguments in STEPS:
            if arguments[:2] == ("get", "endpt-workers"):
                _wait_for_worker(url, key, int(arguments[2]))
            code, output = command_line.run("--url", url, "--api-key", key, *arguments)
            lines.append(Line(heading, arguments, output, code))
    return lines


def _wait_for_worker(url: str, key: str, endpoint_id: int) -> None:
    """Waits until the endpoint has a worker that is ready."""
    give_up_at = time.monotonic() + HANG_S
    body = json.dumps({"id": endpoint_id, "api_key": key}).encode()
    states: list[str] = []
    while "ready" not in states:
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"endpoint {endpoint_id} got no worker in {HANG_S} s: {states}")
        time.sleep(0.1)
        asked = urllib.request.Request(f"{url}/get_endpoint_workers/", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as answer:
            states = [row["status"] for row in json.load(answer)]


def page(lines: list[Line]) -> str:
    """The page."""
    parts = [
        "# The vastai command line against this engine",
        "",
        "Made by `python docs/tools/transcript.py`, which runs the unmodified command line; not typed by hand.",
        "`V` stands for `vastai --url http://127.0.0.1:8080 --api-key KEY`.",
    ]
    for line in lines:
        if line.heading:
            parts += ["", f"## {line.heading}"]
        shown = " ".join(line.arguments)
        parts += ["", "```console", f"$ V {shown}", _tidy(line.output).rstrip("\n"), "```"]
    return "\n".join(parts) + "\n"


def _tidy(text: str) -> str:
    """Takes out what differs each time: times of creation, ports."""
    text = re.sub(r'"created_at": [\d.]+', '"created_at": 0', text)
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT", text)
    return re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+", "TIME", text, flags=re.MULTILINE)


def main() -> None:
    """Starts an engine, runs the steps, writes the page."""
    with TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "nullworker.cli.main", "engine", "--port", "0", "--json"]
        command += ["--state", str(Path(scratch) / "state"), "--log-level", "error"]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("NULLWORKER_", "VAST_"))}
        engine = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)
        try:
            assert engine.stdout is not None
            said = json.loads(engine.stdout.readline())
            key = Path(said["api_key_file"]).read_text().strip()
            lines = run_steps(said["url"], key, str(Path(sys.executable).parent / "vastai"))
        finally:
            engine.terminate()
            engine.wait()
    PAGE.write_text(page(lines))
    print(f"wrote {PAGE.relative_to(ROOT)}: {len(lines)} commands")


if __name__ == "__main__":
    main()
