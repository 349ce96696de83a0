"""Backends of a few lines each, and what the tests of the process fleet look at: real processes, real files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import FleetError, InstanceSpec, InstanceState
from nullworker.fleets.processes import ProcessFleet, proc
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: A hang limit in seconds, far over what anything here takes.
PATIENCE_S = 30.0
MARK = "mark"

BACKENDS = {
    "idle": """
        import signal
        signal.pause()
        """,
    # Says how it is, and stays.
    "open_book": """
        import json, os, signal, sys
        about = {"env": dict(os.environ), "cwd": os.getcwd(), "sid": os.getsid(0), "pid": os.getpid(), "argv": sys.argv}
        with open("about.tmp", "w") as file:
            json.dump(about, file)
        os.rename("about.tmp", "about.json")
        signal.pause()
        """,
    "stubborn": """
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open("ready", "w").close()
        while True:
            signal.pause()
        """,
    # A child in its own process group, one in its own session, and a grandchild whose parent is gone.
    "family": """
        import os, signal, subprocess, sys
        idle = [sys.executable, "-c", "import signal; signal.pause()"]
        group = subprocess.Popen(idle, process_group=0) if sys.version_info >= (3, 11) else subprocess.Popen(
            idle, preexec_fn=os.setpgrp)
        session = subprocess.Popen(idle, start_new_session=True)
        script = ("import subprocess, sys; devnull = subprocess.DEVNULL; "
                  "print(subprocess.Popen(sys.argv[1:], start_new_session=True, stdout=devnull).pid)")
        orphan = subprocess.run([sys.executable, "-c", script, *idle], stdout=subprocess.PIPE, text=True).stdout
        with open("pids.tmp", "w") as file:
            print(os.getpid(), group.pid, session.pid, orphan, file=file)
        os.rename("pids.tmp", "pids")
        signal.pause()
        """,
    # A child in its own session that, asked to end, becomes a program without any environment that stays.
    "shedder": """
        import signal, subprocess, sys
        stay = "import signal; open('shed', 'w').close(); signal.pause()"
        shed = (
            "import os, signal, sys\\n"
            "def become(*_):\\n"
            "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\\n"
            "    os.execve(sys.executable, [sys.executable, '-c', sys.argv[1]], {})\\n"
            "signal.signal(signal.SIGTERM, become)\\n"
            "with open('pids.tmp', 'w') as file:\\n"
            "    print(os.getpid(), file=file)\\n"
            "os.rename('pids.tmp', 'pids')\\n"
            "while True: signal.pause()"
        )
        subprocess.Popen([sys.executable, "-c", shed, stay], start_new_session=True)
        signal.pause()
        """,
    "brief": """
        import os, sys
        print("first words")
        print("last words of " + os.environ["MASTER_TOKEN"], file=sys.stderr)
        sys.exit(3)
        """,
    "once": """
        import os, sys
        if os.path.exists("ran"):
            sys.exit(2)
        open("ran", "w").close()
        sys.exit("the first time")
        """,
    "chatty": """
        while True:
            print("x" * 1000)
        """,
    "server": """
        import os, signal, socket
        with socket.create_server((os.environ["WORKER_HOST"], int(os.environ["WORKER_PORT"]))):
            open("ready", "w").close()
            signal.pause()
        """,
}


def make_workers(root: Path) -> Path:
    """A directory with a ``workers`` folder that holds the backends above, and one of the classic kind."""
    for name, code in BACKENDS.items():
        folder = root / "workers" / name
        folder.mkdir(parents=True)
        lines = code.strip("\n").split("\n")
        indent = len(lines[0]) - len(lines[0].lstrip())
        (folder / "worker.py").write_text("\n".join(line[indent:] for line in lines))
    (root / "workers" / "classical").mkdir()
    (root / "workers" / "classical" / "backend.py").write_text("class Backend: pass\n")
    return root


@dataclass
class Place:
    """A state directory with workers, and the fleets that a test opens there."""

    path: Path
    settings: dict[str, Any] = field(default_factory=dict)
    exits: list[tuple[int, str]] = field(default_factory=list)
    fleets: list[ProcessFleet] = field(default_factory=list)

    async def open(self, mark: str = MARK, **settings: object) -> ProcessFleet:
        fleet = await ProcessFleet.open(
            {**self.settings, **settings}, mark, lambda worker_id, detail: self.exits.append((worker_id, detail))
        )
        self.fleets.append(fleet)
        return fleet

    def directory(self, worker_id: int, mark: str = MARK) -> Path:
        return Path(self.settings["state_dir"]).resolve() / "fleets" / "processes" / mark / str(worker_id)

    def record(self, worker_id: int, mark: str = MARK) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.directory(worker_id, mark) / "instance.json").read_text())
        return read

    def pid(self, worker_id: int, mark: str = MARK) -> int:
        pid = self.record(worker_id, mark)["pid"]
        assert isinstance(pid, int)
        return pid

    async def about(self, worker_id: int) -> dict[str, Any]:
        """What an ``open_book`` says of itself."""
        path = self.directory(worker_id) / "about.json"
        await until(path.exists)
        read: dict[str, Any] = json.loads(path.read_text())
        return read

    async def clear(self) -> None:
        """Ends everything that was started here; fails when a fleet's own means did not do that."""
        for fleet in self.fleets:
            with contextlib.suppress(FleetError):
                await fleet.close()
        cleaner = await self.open()
        await cleaner.close(destroy=True, grace_s=0)
        left = self.running()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert not left

    def running(self) -> list[int]:
        """Every living process that any instance of this place has started."""
        found = proc.marked_processes(str(self.path.resolve()))
        return sorted(each.process.pid for processes in found.values() for each in processes)


@contextlib.asynccontextmanager
async def place_in(path: Path) -> AsyncIterator[Place]:
    """A place of a test's own; whatever a fleet of it started is ended, and nothing may be left."""
    workers = make_workers(path / "root")
    place = Place(path, {"state_dir": path / "state", "workers_path": str(workers), "grace_s": 5.0})
    try:
        yield place
    finally:
        await place.clear()


def spec(worker_id: int, backend: str = "idle", **changes: Any) -> InstanceSpec:
    fields: dict[str, Any] = {
        "worker_id": worker_id,
        "endpoint": "endpoint",
        "workergroup_id": 1,
        "backend": backend,
        "report_addr": "http://127.0.0.1:9",
        "worker_token": f"token-{worker_id}",
    }
    return InstanceSpec(**{**fields, **changes})


async def states(fleet: ProcessFleet) -> dict[int, InstanceState]:
    return {instance.worker_id: instance.state for instance in await fleet.list()}


def alive(pid: int) -> bool:
    line = proc.stat(pid)
    return line is not None and line.alive


async def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not alive(pid))
