"""A Slurm cluster of a test's own: a real slurmctld and two real slurmd on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from nullworker.fleets.base import FleetError, InstanceSpec
from nullworker.fleets.processes import proc
from nullworker.fleets.slurm import SlurmFleet
from nullworker.testing.fleets import PlaceFaults
from tests.integration.process_fleets import make_workers
from tests.kit.waiting import until
from tests.ports import free_port
from tools.brokers.needs import program

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nullworker.fleets.base import Notice

MARK = "mark"
NODES = ("n1", "n2")
PROGRAMS = {name: program(name).find() for name in ("slurmctld", "slurmd", "sbatch")}
needs_slurm = pytest.mark.skipif(
    None in PROGRAMS.values() or os.geteuid() != 0 or not Path("/sys/fs/cgroup").is_mount(),
    reason="there is no Slurm (make brokers), or it is not run by root, or nothing is mounted on /sys/fs/cgroup",
)
#: What a command of Slurm says and does that has waited for an answer in vain.
TIMED_OUT = "echo 'error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={path}/state
SlurmdSpoolDir={path}/spool-%n
SlurmctldPidFile={path}/slurmctld.pid
SlurmdPidFile={path}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=1
MpiDefault=none
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
ReturnToService=2
KillWait=3
MessageTimeout=30
PartitionName=main Nodes={nodes} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Cluster:
    """A running cluster, and the fleets that a test opened."""

    path: Path
    settings: dict[str, Any]
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    exits: list[tuple[int, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    fleets: list[SlurmFleet] = field(default_factory=list)

    async def open(self, mark: str = MARK, **settings: object) -> SlurmFleet:
        fleet = await SlurmFleet.open(
            {**self.settings, **settings}, mark, lambda *exited: self.exits.append(exited), self.notices.append
        )
        self.fleets.append(fleet)
        return fleet

    def start(self, name: str, *words: str) -> None:
        with (self.path / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(list(words), stdout=log, stderr=log, start_new_session=True)

    def scontrol(self, *words: str) -> str:
        return subprocess.run(["scontrol", *words], check=True, capture_output=True, text=True).stdout

    def directory(self, worker_id: int, mark: str = MARK) -> Path:
        return Path(self.settings["state_dir"]).resolve() / "fleets" / "slurm" / mark / str(worker_id)

    def faults(self) -> PlaceFaults:
        """What `check_fleet` has this cluster do wrong; its jobs have no addresses that could change."""

        @contextlib.asynccontextmanager
        async def lost_answer(*_: object) -> AsyncIterator[None]:
            with self._instead("sbatch", f'{PROGRAMS["sbatch"]} "$@" >/dev/null; {TIMED_OUT}'):
                yield

        @contextlib.asynccontextmanager
        async def silence(*_: object) -> AsyncIterator[None]:
            with contextlib.ExitStack() as stack:
                for name in ("sbatch", "scancel", "squeue"):
                    stack.enter_context(self._instead(name, TIMED_OUT))
                yield

        @contextlib.asynccontextmanager
        async def kept(*_: object) -> AsyncIterator[None]:
            with self._instead("scancel", "true"):
                yield

        @contextlib.asynccontextmanager
        async def unstarted(*_: object) -> AsyncIterator[None]:
            self.scontrol("update", "NodeName=ALL", "State=DRAIN", "Reason=test")
            yield
            self.scontrol("update", "NodeName=ALL", "State=RESUME")

        async def ends_soon(_fleet: object, mark: str, worker_id: int) -> None:
            await until(lambda: self.running(worker_id, mark))
            (job_id,) = [job for job, name in self.jobs(mark) if name == f"nw-{worker_id}"]
            self.scontrol("update", f"JobId={job_id}", "TimeLimit=1")

        def count(mark: str) -> int:
            return len(self.jobs(mark))

        return PlaceFaults(lost_answer, silence, kept, unstarted, ends_soon, count=count)

    def jobs(self, mark: str = MARK) -> list[tuple[str, str]]:
        """The jobs of a fleet that wait or run, by Slurm's account: their numbers and names."""
        words = ["squeue", "--noheader", "--all", "--states=PENDING,CONFIGURING,RUNNING", "--format=%i|%j|%k"]
        lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
        found = [line.split("|") for line in lines]
        return [(job_id, name) for job_id, name, comment in found if comment == f"nullworker-{mark}"]

    @contextlib.contextmanager
    def _instead(self, name: str, script: str) -> Iterator[None]:
        """A period in which a command of Slurm does something else."""
        directory = self.path / "instead"
        directory.mkdir(exist_ok=True)
        if str(directory) not in os.environ["PATH"]:
            os.environ["PATH"] = f"{directory}:{os.environ['PATH']}"
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
        try:
            yield
        finally:
            (directory / name).unlink()

    def running(self, worker_id: int | None = None, mark: str = MARK) -> list[int]:
        """The living processes of an instance, or of all."""
        root = str(self.path.resolve()) if worker_id is None else str(self.directory(worker_id, mark))
        found = proc.marked_processes(str(self.path.resolve()))
        return [each.process.pid for name, all_ in found.items() for each in all_ if name.startswith(root)]


def cancel_all() -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a cluster that did not come up
        subprocess.run(["scancel", "--user", getpass.getuser()], check=False, timeout=10)


def spec(worker_id: int, backend: str = "idle", **changes: Any) -> InstanceSpec:
    fields = {"endpoint": "endpoint", "workergroup_id": 1, "report_addr": "http://127.0.0.1:9", "worker_token": "token"}
    return InstanceSpec(**{"worker_id": worker_id, "backend": backend, **fields, **changes})


@contextlib.asynccontextmanager
async def cluster_in(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    """A cluster of two nodes, which ends with everything that it runs."""
    (path / "state").mkdir()
    host = socket.gethostname().partition(".")[0]
    config = CONFIG.format(host=host, port=free_port(), user=getpass.getuser(), path=path, nodes=",".join(NODES))
    for node in NODES:
        (path / f"spool-{node}").mkdir()
        config += f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=16 State=UNKNOWN\n"
    (path / "slurm.conf").write_text(config)
    monkeypatch.setenv("SLURM_CONF", str(path / "slurm.conf"))
    monkeypatch.setenv("PATH", os.environ["PATH"])  # `Cluster._instead` adds to it
    settings = {
        "state_dir": path / "engine",
        "workers_path": str(make_workers(path / "root")),
        "host": "127.0.0.1",
        "queue_s": 0.5,
        "backlog": 50,
    }
    cluster = Cluster(path, settings)
    try:
        cluster.start("slurmctld", str(PROGRAMS["slurmctld"]), "-D")
        for node in NODES:
            cluster.start(node, str(PROGRAMS["slurmd"]), "-D", "-N", node)
        await _ready(cluster)
        yield cluster
    finally:
        for fleet in cluster.fleets:
            with contextlib.suppress(FleetError):
                await fleet.close()
        cancel_all()
        for pid in cluster.running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await until(lambda: cluster.running() == [])
        for daemon in cluster.daemons.values():  # asked to end, they would wait for each other
            daemon.kill()
            daemon.wait()
        for step in _steps(path / "slurm.conf"):
            with contextlib.suppress(psutil.NoSuchProcess):
                step.kill()


def _steps(config: Path) -> list[psutil.Process]:
    """What watches over the jobs of this cluster, and outlives its daemons."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "slurmstepd":
                environment = Path(f"/proc/{process.pid}/environ").read_bytes()
                found += [process] if f"SLURM_CONF={config}".encode() in environment else []
    return found


async def _ready(cluster: Cluster) -> None:
    for _ in range(600):
        sinfo = subprocess.run(["sinfo", "-h", "-N", "-o", "%T"], check=False, capture_output=True, text=True)  # noqa: ASYNC221
        if sinfo.stdout.split() == ["idle"] * len(NODES):
            return
        for name, daemon in cluster.daemons.items():
            assert daemon.poll() is None, (cluster.path / f"{name}.log").read_text()[-2000:]
        await asyncio.sleep(0.1)
    raise AssertionError("the cluster does not come up")
