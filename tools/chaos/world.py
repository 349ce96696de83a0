"""The processes of one episode, on one folder: they are started, found, signalled and ended here."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from nullworker.queues import sqlite_jobs
from tools.chaos.consumer import LEASE_S
from tools.chaos.history import History

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
ENDPOINT = "chaos"
MAX_WORKERS = 3
JOBS = 8
#: All jobs are done and the fleet is back at zero within this time after the fault has ended.
SETTLES_S = 60.0
NULLWORKER = (sys.executable, "-m", "nullworker.cli.main")


class World:
    """An engine, a dispatcher, and what they start."""

    def __init__(self, folder: Path, rng: random.Random) -> None:
        """Starts nothing yet."""
        self.folder = folder
        self.rng = rng
        self.state = folder / "engine"
        self.queue = folder / "jobs.db"
        self.notes = folder / "notes"
        self.port = _free_port()
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith(("NULLWORKER_", "VAST_"))}
        self.environ["PYTHONPATH"] = str(ROOT)
        self.max_workers = MAX_WORKERS
        lengths = [rng.choice((0.2, 1.0, 3.0)) for _ in range(JOBS)]
        self.history = History(MAX_WORKERS, [f"job{number}:{length}" for number, length in enumerate(lengths)])
        self.engine: subprocess.Popen[bytes] | None = None
        self.dispatcher: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    # ------------------------------------------------------------------------------------------------------ starting

    def start(self) -> None:
        """Starts engine and dispatcher, with some of the jobs there and the others to come."""
        self.start_engine()
        sqlite_jobs.enqueue(self.queue, self.history.jobs[:5])
        self.start_dispatcher()

    def start_engine(self) -> None:
        """Starts the engine and waits until it serves."""
        consumer = shlex.join([sys.executable, str(ROOT / "tools/chaos/consumer.py"), str(self.queue), str(self.notes)])
        config = self.folder / "nullworker.toml"
        config.write_text(
            f'[[endpoint]]\nname = "{ENDPOINT}"\nmin_load = 0\ntarget_util = 1.0\ncold_workers = 0\ncold_mult = 1\n'
            f"max_workers = {self.max_workers}\ninactivity_timeout = 1\n"
            f"[[endpoint.workergroup]]\nconsumer = {json.dumps(consumer)}\n"
            f"[fleet.processes]\ngrace_s = 2.0\n"
        )
        self.engine = self.run("engine", "--config", str(config), "--port", str(self.port), "--state", str(self.state))
        self.until(self._serves, 30.0, "the engine serves")

    def start_dispatcher(self) -> None:
        """Starts the dispatcher."""
        self.dispatcher = self.run(*self.dispatch_arguments("dispatcher"))

    def dispatch_arguments(self, state: str) -> list[str]:
        """The arguments of a dispatcher with its state in the folder ``state``."""
        where = ["--instance", f"http://127.0.0.1:{self.port}", "--api-key", self.key]
        queue = ["--queue", sqlite_jobs.url(self.queue), "--endpoint", ENDPOINT, "--max", "4", "--lifetime", "20"]
        return ["dispatch", *queue, *where, "--state", str(self.folder / state)]

    @property
    def key(self) -> str:
        """The account key."""
        return (self.state / "api_key").read_text().strip()

    def run(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        """Starts a nullworker command; its output goes to the folder."""
        with (self.folder / f"{arguments[0]}.log").open("ab") as log:
            process = subprocess.Popen(
                [*prefix, *NULLWORKER, *arguments], env=self.environ, cwd=self.folder, stdout=log, stderr=log
            )
        self._started.append(process)
        return process

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    # ------------------------------------------------------------------------------------------------------- looking

    def worker_pids(self) -> list[int]:
        """The first process of each worker that is alive."""
        found = []
        for file in self.state.glob("fleets/processes/*/*/instance.json"):
            with contextlib.suppress(OSError, ValueError):
                pid = json.loads(file.read_bytes()).get("pid")
                if pid and _is_alive(pid):
                    found.append(int(pid))
        return found

    def processes(self) -> dict[int, str]:
        """All processes of this episode but engine and dispatcher, by their folder or their arguments."""
        found = {}
        own = {process.pid for process in self._started}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = str((entry / "cwd").readlink())
                if (
                    words
                    and int(entry.name) not in own
                    and (str(self.folder) in words or where.startswith(str(self.folder)))
                ):
                    found[int(entry.name)] = words
        return found

    def consumers(self) -> list[int]:
        """Processes that do jobs."""
        return [
            pid for pid, words in self.processes().items() if "chaos/consumer.py" in words and "supervis" not in words
        ]

    def watch(self) -> None:
        """Counts the workers that are alive now, and gives jobs of dead consumers back, as a broker does."""
        self.history.most_workers = max(self.history.most_workers, len(self.worker_pids()))
        sqlite_jobs.requeue_stale(self.queue, older_than_s=LEASE_S)

    def pause(self, seconds: float) -> None:
        """Lets time pass, and watches."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.watch()
            time.sleep(0.03)

    def until(self, condition: Callable[[], bool], limit_s: float, what: str) -> bool:
        """Watches until ``condition`` holds; that it does not within ``limit_s`` is a violation."""
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
                self.history.seen.append(f"not within {limit_s:g} s: {what}")
                return False
            self.watch()
            time.sleep(0.05)
        return True

    # -------------------------------------------------------------------------------------------------------- ending

    @staticmethod
    def kill(process: subprocess.Popen[bytes] | None, signum: int = signal.SIGKILL, limit_s: float = 25.0) -> bool:
        """Signals a process and waits for its end; False: it did not end."""
        if process is None or process.poll() is not None:
            return True
        process.send_signal(signum)
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def settle(self) -> list[str]:
        """Lets all come to its end; returns the violations."""
        self.until(self._is_done, SETTLES_S, "all jobs are done")
        self.until(lambda: not self.worker_pids(), SETTLES_S, "no worker is left")
        for name, process in (("the dispatcher", self.dispatcher), ("the engine", self.engine)):
            if not self.kill(process, signal.SIGTERM):
                self.history.seen.append(f"{name} did not end within 25 s of SIGTERM")
        left = [f"process {pid}: {words[:80]}" for pid, words in self.processes().items()]
        left += [str(path) for path in self.state.glob("fleets/processes/*/*/instance.json")]
        return self.history.violations(self.notes, left)

    def _is_done(self) -> bool:
        counts = sqlite_jobs.counts(self.queue)
        return counts["done"] == len(self.history.jobs)

    def end(self) -> None:
        """Kills whatever of the episode is left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
        for pid in self.processes():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
