"""Someone who follows a page: writes its files into a folder, and types its commands there."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.ports import free_port

HANG_S = 100


def blocks(page: Path | str) -> list[tuple[str, str]]:
    """The code of a page, or of a part of one: kind and text."""
    text = page.read_text() if isinstance(page, Path) else page
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def left_of(folder: Path) -> list[psutil.Process]:
    """The workers that run with their state in a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_worker = "workers.null.worker" in process.cmdline()
            if is_worker and process.environ().get("NULLWORKER_INSTANCE", "").startswith(f"{folder}/"):
                found.append(process)
    return found


class Follower:
    """Follows pages in a folder.

    Args:
        folder: where files and the engine's state are.
        swaps: what is written in place of what the pages have: addresses, mostly.
    """

    def __init__(self, folder: Path, swaps: dict[str, str]) -> None:
        self.folder = folder
        self.swaps = swaps
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        kept = {name: value for name, value in os.environ.items() if name != "VAST_API_KEY"}
        self._environ = {
            **kept,
            "PATH": path,
            "NULLWORKER_STATE": str(folder / "state"),
            "NULLWORKER_PORT": str(free_port()),
        }
        self.serving: subprocess.Popen[str] | None = None

    def _own(self, text: str) -> str:
        for theirs, ours in self.swaps.items():
            text = text.replace(theirs, ours)
        return text

    def files(self, found: list[tuple[str, str]]) -> None:
        """Writes each block that begins with the name of its file."""
        for kind, text in found:
            first, _, rest = text.partition("\n")
            if kind != "console" and re.fullmatch(r"# [\w.]+", first):
                (self.folder / first.removeprefix("# ")).write_text(self._own(rest))

    def commands(self, found: list[tuple[str, str]], *, codes: tuple[int, ...] = (0,)) -> list[str]:
        """Runs the commands; returns what each printed. One that ends with ``&`` goes on; the next such ends it first.

        Args:
            found: blocks, of which those of kind ``console`` are run.
            codes: the exit codes that they may end with.
        """
        said = []
        for line in "".join(text for kind, text in found if kind == "console").splitlines():
            command = self._own(line.removeprefix("$ "))
            if command.startswith("cp "):
                self.end()
            if command.endswith("&"):
                self._serve(shlex.split(command[:-1]))
                continue
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.folder, env=self._environ,
                capture_output=True, text=True, timeout=HANG_S, check=False,
            )  # fmt: skip
            assert done.returncode in codes, (command, done.stdout, done.stderr)
            said.append(done.stdout)
        return said

    def _serve(self, words: list[str]) -> None:
        self.end()
        self.serving = subprocess.Popen(
            words, cwd=self.folder, env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.serving.stdout is not None
        assert "engine at" in self.serving.stdout.readline()

    def until_said(self, text: str) -> None:
        """Waits until what goes on prints that; then all that it prints later is dropped."""
        assert self.serving is not None
        assert self.serving.stdout is not None
        for line in self.serving.stdout:
            if text in line:
                return
        raise AssertionError(f"it has ended, and never said {text!r}")

    def end(self) -> str:
        """Ends what goes on by Ctrl-C, and a second one if it asks whether jobs are to end; returns what it printed."""
        if self.serving is None:
            return ""
        serving, self.serving = self.serving, None
        if serving.poll() is None:
            serving.send_signal(signal.SIGINT)
        said = ""
        with serving:
            assert serving.stdout is not None
            for line in serving.stdout:
                said += line
                if "Ctrl-C again ends them" in line:
                    serving.send_signal(signal.SIGINT)
            serving.wait(HANG_S)
        return said

    def close(self) -> None:
        """As `end`; and workers end that an engine has left for the next one, since there is none."""
        self.end()
        for process in left_of(self.folder):
            with contextlib.suppress(psutil.Error):
                process.terminate()
