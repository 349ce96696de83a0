"""A Ray cluster on this machine: a head and raylets, from an environment of its own, with Ray's own authentication."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RAY = shutil.which("ray", path=f"{sys.prefix}-ray/bin")
needs_ray = pytest.mark.skipif(RAY is None, reason="there is no Ray (make test-long installs it)")
NODE = "NULLWORKER_TEST_NODE"
TOKEN = "a-token-of-sixteen-letters-or-more"
#: Small, and quick to find out that a node is dead.
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
}
COMMON = (
    "--block", "--disable-usage-stats", "--object-store-memory", "80000000", "--min-worker-port", "0",
    "--max-worker-port", "0",
)  # fmt: skip
STARTS_S = 120.0  # a hang limit


def free_port() -> int:
    """A port that is free now. It is not kept bound, as `tests.ports` does: Ray's servers could not have it then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class RayCluster:
    """A running cluster. Nodes are 127.0.0.3 and on; the head has no CPUs for workers."""

    path: Path
    settings: dict[str, Any]
    head: str = "127.0.0.2"
    gcs_port: int = field(default_factory=free_port)
    dashboard_port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    prefix: dict[str, list[str]] = field(default_factory=dict)  # of commands that start a node, by its address

    def start(self, address: str, *words: str) -> None:
        """Starts a node."""
        assert RAY is not None
        command = [*self.prefix.get(address, []), RAY, "start", *COMMON, "--node-ip-address", address]
        environment = {**os.environ, **ENVIRONMENT, "TMPDIR": str(self.path), NODE: address}
        with (self.path / f"{address}.log").open("ab") as log:
            self.processes[address] = subprocess.Popen(
                [*command, "--dashboard-agent-listen-port", str(free_port()), *words],
                stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip

    def start_head(self) -> None:
        """Starts the head."""
        self.start(
            self.head, "--head", "--port", str(self.gcs_port), "--dashboard-host", "127.0.0.1", "--dashboard-port",
            str(self.dashboard_port), "--num-cpus", "0", "--temp-dir", str(self.path / "r"),
            "--ray-client-server-port", str(free_port()),
        )  # fmt: skip

    def start_node(self, address: str, *words: str) -> None:
        """Starts a node with 8 CPUs."""
        self.start(address, "--address", f"{self.head}:{self.gcs_port}", "--num-cpus", "8", *words)

    def kill(self, address: str) -> None:
        """A node is gone, with all that ran on it, as if its power had failed."""
        process = self.processes.pop(address)
        for each in [*_descendants(process.pid), *self._jobs_on(address)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.kill()
        process.wait()

    async def api(self, method: str, route: str, body: Any = None) -> Any:
        """Calls the dashboard."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.request(method, self.settings["address"] + route, json=body) as answer,
        ):
            return await answer.json(content_type=None) if answer.status == 200 else None

    async def nodes(self) -> set[str]:
        """The addresses of the nodes that Ray has."""
        with contextlib.suppress(aiohttp.ClientError):
            answer = await self.api("GET", "/api/v0/nodes?detail=1")
            found = (answer or {}).get("data", {}).get("result", {}).get("result", ())
            return {each["node_ip"] for each in found if each["state"] == "ALIVE"}
        return set()

    async def has(self, *addresses: str) -> None:
        """Returns when Ray has exactly these nodes, beside its head."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + STARTS_S
        while {each for each in await self.nodes() if each != self.head} != set(addresses):
            for address, process in self.processes.items():
                log = (self.path / f"{address}.log").read_text(errors="replace")
                assert process.poll() is None, f"the node {address} ended: {log[-2000:]}"
            assert loop.time() < ends_at, f"Ray has {await self.nodes()}"
            await asyncio.sleep(0.2)

    async def runs(self, job_id: str) -> None:
        """Returns when a job runs."""
        while (await self.api("GET", f"/api/jobs/{job_id}"))["status"] != "RUNNING":  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.2)

    def workers(self, job_part: str = "") -> list[psutil.Process]:
        """The processes that were started as workers and live, of jobs whose ids contain ``job_part``."""
        found = []
        for path in self.path.glob(f"nullworker-ray-*/*{job_part}*"):
            with contextlib.suppress(psutil.NoSuchProcess, ValueError):
                process = psutil.Process(int(path.name.rpartition(".")[2]))
                found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
        return found

    def _jobs_on(self, address: str) -> list[psutil.Process]:
        """What runs on a node in sessions of its own."""
        found = []
        for worker in self.workers():
            with contextlib.suppress(psutil.Error):
                if worker.environ().get(NODE) == address:
                    found += [worker, *worker.children(recursive=True)]
        return found

    def clear(self) -> None:
        """Ends everything that was started here."""
        left = [each for process in self.processes.values() for each in _descendants(process.pid)] + self.workers()
        for process in self.processes.values():
            process.kill()
            process.wait()
        for each in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


def _descendants(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@contextlib.asynccontextmanager
async def ray_cluster(state: Path, head: str = "127.0.0.2") -> AsyncIterator[RayCluster]:
    """A cluster of a head and two nodes of 8 CPUs, the first of them with 2 GPUs (as far as Ray is told)."""
    path = Path(tempfile.mkdtemp(prefix="nwray-"))  # the names of Ray's sockets must be short
    (path / "token").write_text(TOKEN)
    cluster = RayCluster(path, {}, head)
    cluster.settings.update(
        state_dir=state, address=f"http://127.0.0.1:{cluster.dashboard_port}", token_file=str(path / "token"),
        jobs_s=0.5, install=False, python=sys.executable, grace_s=3, pass_env=[NODE],
    )  # fmt: skip
    try:
        cluster.start_head()
        await _head_answers(cluster)
        cluster.start_node("127.0.0.3", "--num-gpus", "2", "--labels", "disk=fast")
        await cluster.has("127.0.0.3")  # two that start at once would choose one name for their sockets
        cluster.start_node("127.0.0.4")
        await cluster.has("127.0.0.3", "127.0.0.4")
        yield cluster
    finally:
        cluster.clear()
        shutil.rmtree(path, ignore_errors=True)


async def _head_answers(cluster: RayCluster) -> None:
    ends_at = asyncio.get_running_loop().time() + STARTS_S
    while cluster.head not in await cluster.nodes():
        process = cluster.processes[cluster.head]
        log = (cluster.path / f"{cluster.head}.log").read_text(errors="replace")
        assert process.poll() is None, f"the head ended: {log[-2000:]}"
        assert asyncio.get_running_loop().time() < ends_at, f"the head does not come up: {log[-2000:]}"
        await asyncio.sleep(0.2)
