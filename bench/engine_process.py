"""A real engine in a process of its own, for benchmarks: on a free port, with a state directory that goes away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

END_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class EngineProcess:
    """A running engine."""

    url: str
    api_key: str
    endpoint: str
    pid: int


@contextlib.contextmanager
def engine_process(
    state: Path | None = None, settings: Iterable[str] = (), **parameters: float
) -> Iterator[EngineProcess]:
    """Runs ``nullworker engine`` with the endpoint null-local, its parameters changed as given.

    Its state is in ``state``, or in a directory that goes away; ``settings`` are more of its configuration (KEY=VALUE).
    """
    with TemporaryDirectory(prefix="nullworker-bench-") as scratch:
        command = [sys.executable, "-m", "nullworker.cli.main", "engine", "--end-workers", "--port", "0", "--json"]
        command += ["--state", str(state or Path(scratch) / "state"), "--log-level", "warning"]
        for name, value in parameters.items():
            command += ["--set", f"endpoint.null-local.{name}={value:g}"]
        for setting in settings:
            command += ["--set", setting]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("NULLWORKER_", "VAST_"))}
        # In a session of its own: Ctrl-C is for us, and we end it.
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ, start_new_session=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise UserError("The benchmark's engine ended before it served; what it said is above.")
            said = json.loads(line)
            key = Path(said["api_key_file"]).read_text().strip()
            yield EngineProcess(said["url"], key, "null-local", process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
