"""Engines as processes of their own, on one state directory: what tests of beginnings, kills and ends start."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.kit.waiting import HANG_S

#: How the command line is started.
MAIN = ("-m", "nullworker.cli.main")


class Engines:
    """Engine processes of one test, on one state directory."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.started: list[asyncio.subprocess.Process] = []

    async def start(
        self, *flags: str, port: str = "0", main: tuple[str, ...] = MAIN
    ) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
        process = await self.begin("--json", *flags, port=port, main=main)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), HANG_S)
        return process, json.loads(line)

    async def begin(self, *flags: str, port: str = "0", main: tuple[str, ...] = MAIN) -> asyncio.subprocess.Process:
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("NULLWORKER_", "VAST_"))}
        process = await asyncio.create_subprocess_exec(
            sys.executable, *main, "engine", "--port", port, "--state", str(self.state), *flags,
            env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        self.started.append(process)
        return process

    def worker_pids(self) -> list[int]:
        """All processes that run in this engine's state directory, whatever their parent."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # others end all the time
                words = (process / "cmdline").read_bytes()
                if words and (
                    str(self.state) in str((process / "cwd").readlink()) or f"{self.state}/".encode() in words
                ):
                    found.append(int(process.name))
        return sorted(set(found) - {process.pid for process in self.started})

    async def end(self) -> None:
        for process in self.started:
            if process.returncode is None:
                process.kill()
            await process.wait()
        for pid in self.worker_pids():
            os.kill(pid, signal.SIGKILL)


def key_of(said: dict[str, Any]) -> str:
    return Path(said["api_key_file"]).read_text().strip()
