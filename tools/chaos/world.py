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
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tools.chaos.history import History
from tools.chaos.jobs import open_jobs
from tools.chaos.sandbox import VARIABLE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tools.chaos.jobs import Jobs

ROOT = Path(__file__).parents[2]
MAX_WORKERS = 3
#: Jobs of one endpoint; of each, where there are two.
JOBS = {1: 8, 2: 5}
#: All jobs are done and the fleet is back at zero within this time after the fault has ended.
SETTLES_S = 60.0
#: Workers that do not number their reports: one whose grant was not used is in doubt for 40 s after the 20 s of the
#: grant, and then until its next report or two, 10 s apart; after a start of the engine all that is later.
SETTLES_STOCK_S = 120.0
NULLWORKER = (sys.executable, "-m", "nullworker.cli.main")
#: In the environment of workers, and of what they start: the endpoint's name.
MARK = "CHAOS_ENDPOINT"


class World:
    """An engine, a dispatcher, and what they start."""

    def __init__(self, folder: Path, rng: random.Random, broker: str = "sqlite") -> None:
        """Starts nothing yet.

        Args:
            folder: an empty one, for all files.
            rng: what is random.
            broker: what kind of queue: ``sqlite`` or ``redis``.
        """
        self.folder = folder
        self.rng = rng
        self.broker = broker
        self.state = folder / "engine"
        self.notes = folder / "notes"
        self.host, self.port = "127.0.0.1", _free_port()
        self.insecure = False  # plain HTTP beyond this machine
        self.endpoints = ["chaos", "chaos2"][: rng.choice((1, 1, 2))]
        number = JOBS[len(self.endpoints)]
        lengths = [(each, rng.choice((0.2, 1.0, 3.0))) for each in self.endpoints for _ in range(number)]
        jobs = [f"{endpoint}-job{number}:{length}" for number, (endpoint, length) in enumerate(lengths)]
        self.history = History(dict.fromkeys(self.endpoints, MAX_WORKERS), jobs)
        self.max_workers = MAX_WORKERS
        self.redis_port = _free_port() if broker == "redis" else 0
        self.redis: subprocess.Popen[bytes] | None = None
        #: What differs for one program ("engine", "dispatch"): its variables, what runs it, where its code is.
        self.environ: dict[str, dict[str, str]] = {"engine": {}, "dispatch": {}}
        self.prefix: dict[str, tuple[str, ...]] = {"engine": (), "dispatch": ()}
        self.code: dict[str, Path] = {"engine": ROOT, "dispatch": ROOT}
        self.old = Path()
        self.worker_environ: dict[str, str] = {}
        #: Whether the worker is ours, or one that knows nothing of our engine.
        self.backend = rng.choice(("null", "null", "stock"))
        self.fleet: dict[str, object] = {"grace_s": 2.0, "workers_path": str(ROOT / "tools/chaos/stock")}
        self.engine: subprocess.Popen[bytes] | None = None
        self.dispatcher: subprocess.Popen[bytes] | None = None
        self._rest = jobs[1::2]
        self._started: list[subprocess.Popen[bytes]] = []
        self._queues: dict[str, Jobs] = {}
        self._watched_at = 0.0

    # ------------------------------------------------------------------------------------------------------ starting

    def start(self) -> None:
        """Starts broker, engine and dispatcher, with some of the jobs there and the others to come."""
        self.start_broker()
        self._queues = {endpoint: open_jobs(self._queue(endpoint)) for endpoint in self.endpoints}
        self.start_engine()
        self._enqueue(self.history.jobs[::2])
        self.start_dispatcher()

    def enqueue_rest(self) -> None:
        """Adds the jobs that were not there at the start, once."""
        self._enqueue(self._rest)
        self._rest = []

    def _enqueue(self, payloads: list[str]) -> None:
        for endpoint, queue in self._queues.items():
            queue.enqueue([payload for payload in payloads if payload.startswith(f"{endpoint}-")])

    def _queue(self, endpoint: str) -> str:
        return f"redis:{self.redis_port}/{endpoint}" if self.redis_port else f"sqlite:{self.queue_file(endpoint)}"

    def queue_file(self, endpoint: str) -> Path:
        """The file of an endpoint's queue."""
        return self.folder / f"jobs-{endpoint}.db"

    def start_broker(self) -> None:
        """Starts Redis, where the queue is there; it keeps what it has acknowledged."""
        if self.redis_port:
            words = f"redis-server --bind 127.0.0.1 --port {self.redis_port} --dir {self.folder} --save '' "
            words += "--appendonly yes --appendfsync always"
            self.redis = self.popen("redis", shlex.split(words))
            self.until(lambda: _accepts("127.0.0.1", self.redis_port), 20.0, "the broker serves")

    def start_engine(self) -> None:
        """Starts the engine and waits until it serves."""
        self.engine = self.run(*self.engine_arguments())
        self.until(self.serves, 30.0, "the engine serves")

    def engine_arguments(self, port: int | None = None) -> list[str]:
        """The arguments of an engine; its configuration is written."""
        config = self.folder / "nullworker.toml"
        config.write_text(self._toml())
        where = ["--host", self.host, "--port", str(self.port if port is None else port)]
        where += ["--insecure"] if self.insecure else []
        return ["engine", "--config", str(config), *where, "--state", str(self.state)]

    def _toml(self) -> str:
        text = ""
        for endpoint in self.endpoints:
            consumer = [sys.executable, "-m", "tools.chaos.consumer", self._queue(endpoint), str(self.notes)]
            # The consumer has the code of this version and the machine's clock, whatever its worker has.
            consumer = ["env", "-u", "LD_PRELOAD", f"PYTHONPATH={ROOT}", *consumer]
            environ = {MARK: endpoint, **self.worker_environ}
            text += (
                f'[[endpoint]]\nname = "{endpoint}"\nmin_load = 0\ntarget_util = 1.0\ncold_workers = 0\n'
                f"cold_mult = 1\nmax_workers = {self.max_workers}\ninactivity_timeout = 1\n"
                f'[[endpoint.workergroup]]\nbackend = "{self.backend}"\noccupancy = 1\n'
                f"consumer = {json.dumps(shlex.join(consumer))}\n"
                f"env = {{ {', '.join(f'{name} = {json.dumps(value)}' for name, value in environ.items())} }}\n"
                f"[[dispatch.queue]]\nendpoint = {json.dumps(endpoint)}\nmax = 4\nlifetime_s = 20.0\n"
                f"queue = {json.dumps(open_jobs(self._queue(endpoint)).url)}\n"
            )
        text += f'[dispatch]\ninstance = "http://{self.host}:{self.port}"\n[fleet.processes]\n'
        return text + "".join(f"{name} = {json.dumps(value)}\n" for name, value in self.fleet.items())

    def start_dispatcher(self) -> None:
        """Starts the dispatcher."""
        self.dispatcher = self.run(*self.dispatch_arguments("dispatcher"))

    def dispatcher_serves(self) -> None:
        """Waits until the dispatcher has opened its files, for a fault of one that runs."""
        self.until(lambda: b" serves " in self.log("dispatch").read_bytes(), 30.0, "the dispatcher serves")

    def dispatch_arguments(self, state: str) -> list[str]:
        """The arguments of a dispatcher with its state in the folder ``state``."""
        config = ["--config", str(self.folder / "nullworker.toml"), "--api-key", self.key]
        return ["dispatch", *config, "--state", str(self.folder / state)]

    @property
    def key(self) -> str:
        """The account key."""
        return (self.state / "api_key").read_text().strip()

    def run(self, command: str, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a nullworker command; its output goes to the folder."""
        own = {"PYTHONPATH": str(self.code.get(command, ROOT)), **self.environ.get(command, {}), **(environ or {})}
        return self.popen(command, [*self.prefix.get(command, ()), *NULLWORKER, command, *arguments], own)

    def popen(self, name: str, words: list[str], environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a program that ends with the episode."""
        outside = {k: v for k, v in os.environ.items() if not k.startswith(("NULLWORKER_", "VAST_"))}
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                words, env={**outside, **(environ or {})}, cwd=self.folder, stdout=log, stderr=log
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> Path:
        """Where a command's output goes."""
        return self.folder / f"{name}.log"

    def serves(self) -> bool:
        """Whether the engine answers."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.port}/healthz", timeout=2.0) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    # ------------------------------------------------------------------------------------------------------- looking

    def worker_pids(self) -> dict[int, str]:
        """The first process of each worker that is alive, with its endpoint.

        It leads a session and has the endpoint's mark; a consumer, which has the mark as well, also has a session's id.
        """
        found = {}
        for pid in _pids():
            with contextlib.suppress(OSError):
                if os.getsid(pid) == pid and (environ := _environ(pid)) and "NULL_SESSION_ID" not in environ:
                    endpoint = environ.get(MARK, "")
                    if endpoint in self.endpoints and _mine(self.folder, environ):
                        found[pid] = endpoint
        return found

    def processes(self) -> dict[int, str]:
        """All processes of this episode but those started here, by their arguments."""
        found = {}
        own = {1, os.getpid(), *(process.pid for process in self._started)}
        for pid in _pids():
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = str(Path(f"/proc/{pid}/cwd").readlink())
                all_ours = VARIABLE in os.environ
                if words and pid not in own and (all_ours or str(self.folder) in words + where):
                    found[pid] = words
        return found

    def consumers(self) -> list[int]:
        """Processes that do jobs."""
        return [
            pid
            for pid, words in self.processes().items()
            if words.startswith(f"{sys.executable} -m tools.chaos.consumer")
        ]

    def watch(self) -> None:
        """Counts the workers that are alive now, and gives jobs of dead consumers back, as a broker does."""
        self.history.alive(Counter(self.worker_pids().values()))
        if time.monotonic() > self._watched_at + 0.3:
            for queue in self._queues.values():
                queue.give_back()
            self._watched_at = time.monotonic()

    def pause(self, seconds: float) -> None:
        """Lets time pass, and watches."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.watch()
            time.sleep(0.05)

    def until(self, condition: Callable[[], bool], limit_s: float, what: str) -> bool:
        """Watches until ``condition`` holds; that it does not within ``limit_s`` is a violation."""
        if not (held := self.within(condition, limit_s)):
            self.history.seen.append(f"not within {limit_s:g} s: {what}")
        return held

    def within(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Watches until ``condition`` holds, or ``limit_s`` are over; says which."""
        end = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > end:
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
        settles_s = SETTLES_STOCK_S if self.backend == "stock" else SETTLES_S
        self.until(self.is_done, settles_s, "all jobs are done")
        self.until(lambda: not self.worker_pids(), settles_s, "no worker is left")
        for name, process in (("the dispatcher", self.dispatcher), ("the engine", self.engine)):
            if process is not None and process.poll() is not None:
                self.history.seen.append(f"{name} had ended by itself, with exit code {process.returncode}")
            if not self.kill(process, signal.SIGTERM):
                self.history.seen.append(f"{name} did not end within 25 s of SIGTERM")
        left = [f"process {pid}: {words[:80]}" for pid, words in self.processes().items()]
        left += [str(path) for path in self.state.glob("fleets/processes/*/*/instance.json")]
        return self.history.violations(self.notes, left)

    def is_done(self) -> bool:
        """Whether the queues are empty, and nothing of them is in flight."""
        return all(queue.left() == 0 for queue in self._queues.values())

    def end(self) -> None:
        """Kills whatever of the episode is left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()
        end = time.monotonic() + 5.0
        while (left := self.processes()) and time.monotonic() < end:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
        return True
    return False


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - many times a second


def _environ(pid: int) -> dict[str, str]:
    """The environment of a process; empty for one that has ended."""
    text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def _mine(folder: Path, environ: dict[str, str]) -> bool:
    return any(str(folder) in value for value in environ.values())
