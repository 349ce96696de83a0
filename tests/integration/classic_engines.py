"""Engines for classic backends: the real one as a process, and a small one that speaks Vast's wire and no more.

The bridge's tests know an engine by `EngineUnderTest` alone, so that either can stand in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any, Protocol

import psutil

from tests.integration.classic_kit import CLONE, ClassicProcess
from tests.kit.stub_engine import StubEngine
from tests.kit.waiting import HANG_S
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from aiohttp import web
    from typing_extensions import Self


class EngineUnderTest(Protocol):
    """What the tests of the bridge need of an engine with one endpoint, whose workers are helloworld backends."""

    @property
    def url(self) -> str: ...

    @property
    def certificate_url(self) -> str:
        """Where the client is to have the root certificate from."""

    @property
    def api_key(self) -> str: ...

    @property
    def endpoint_name(self) -> str: ...

    def running_workers(self) -> int:
        """How many worker processes there are."""


@dataclass
class ScalingEngine(StubEngine):
    """Starts one worker when a client asks, and stops it when it was idle for ``idle_s`` (None: never)."""

    says: str | None = None
    worker_id: int = 17
    endpoint: str = "hello"
    idle_s: float | None = None
    arguments: Sequence[str] = ("helloworld",)
    env: Mapping[str, str] = field(default_factory=dict)
    api_key: str = "the-account-key"
    worker: ClassicProcess | None = None
    started: int = 0
    _workers: list[ClassicProcess] = field(default_factory=list)
    _routed: set[int] = field(default_factory=set)
    _busy_at_s: float = 0.0

    @property
    def endpoint_name(self) -> str:
        return self.endpoint

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """The status reports since the worker was started."""
        return [report.body for report in self.reports if report.path == "/worker_status/"]

    @property
    def last(self) -> dict[str, Any]:
        """The last status."""
        return self.statuses[-1] if self.statuses else {}

    @property
    def ended(self) -> list[dict[str, Any]]:
        """The finished requests since the worker was started."""
        return [row for report in self.reports if report.path == "/delete_requests/" for row in report.body["requests"]]

    def route_answer(self, idx: int, cost: float = 100) -> dict[str, Any]:
        """What /route/ answers for the worker."""
        return self.auth_data(self.last["url"], idx, cost=cost)

    def running_workers(self) -> int:
        return int(self.worker is not None and self.worker.process.poll() is None)

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Self]:
        try:
            async with super().running(port):
                scaling = asyncio.create_task(self._scale_down())
                try:
                    yield self
                finally:
                    scaling.cancel()
                    await asyncio.gather(scaling, return_exceptions=True)
        finally:  # by now no request can start another
            for worker in self._workers:
                worker.__exit__()

    def worker_env(self, port: int) -> dict[str, str]:
        return {
            "REPORT_ADDR": self.url,
            "CONTAINER_ID": str(self.worker_id),
            "MASTER_TOKEN": self.token,
            "WORKER_PORT": str(port),
            f"VAST_TCP_PORT_{port}": str(port),
            "PUBLIC_IPADDR": "127.0.0.1",
            **self.env,
        }

    def start_worker(self) -> ClassicProcess:
        port = free_port()
        self.worker = ClassicProcess(*self.arguments, env=self.worker_env(port), port=port)
        self._workers.append(self.worker)
        self.reports.clear()
        self.ready_url = None
        self.started += 1
        self._busy_at_s = time.monotonic()
        return self.worker

    async def _scale_down(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            if self._routed - {row["request_idx"] for row in self.ended} or self.last.get("num_requests_working"):
                self._busy_at_s = time.monotonic()
            is_idle = self.idle_s is not None and time.monotonic() - self._busy_at_s > self.idle_s
            if is_idle and self.running_workers() and self.last.get("loadtime"):
                assert self.worker is not None
                await asyncio.to_thread(self.worker.end)

    async def _route(self, request: web.Request) -> web.Response:
        self._busy_at_s = time.monotonic()
        if not self.running_workers():
            self.start_worker()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.ready(), 8)
        if self.ready_url is not None:
            self._routed.add((await request.json())["request_idx"] or self._request_idx + 1)
        return await super()._route(request)


class RealEngine:
    """`nullworker engine` as a process, with an endpoint of at most one helloworld worker, kept for one idle second."""

    CONFIG = """
        [[endpoint]]
        name = "hello"
        min_load = 0
        target_util = 1.0
        cold_mult = 1.0
        cold_workers = 0
        max_workers = 1
        max_queue_time = 30
        target_queue_time = 0.5
        inactivity_timeout = 1

        [[endpoint.workergroup]]
        fleet = "processes"
        backend = "helloworld"
    """

    def __init__(self, folder: Path) -> None:
        config = folder / "hello.toml"
        config.write_text(dedent(self.CONFIG))
        arguments = ["--config", str(config), "--port", "0", "--state", str(folder / "state"), "--json"]
        self._log = (folder / "engine.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nullworker.cli.main", "engine", *arguments],
            cwd=CLONE,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(CLONE)},
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        assert self._process.stdout is not None
        said = json.loads(self._process.stdout.readline())
        self.url: str = said["url"]
        self.certificate_url = self.url + "/static/jvastai_root.cer"
        self.api_key = Path(said["api_key_file"]).read_text().strip()
        self.endpoint_name = "hello"

    def running_workers(self) -> int:
        return len(self._workers())

    def close(self) -> None:
        """Ends it and, should it have left one, its workers."""
        self._process.terminate()
        try:
            self._process.wait(HANG_S)
        finally:
            left = self._workers()
            for worker in left:
                worker.kill()
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._log.close()
        assert left == [], "it ends its workers with itself"

    def _workers(self) -> list[psutil.Process]:
        """By the kernel's word, not the engine's: whatever was started to report to it."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("REPORT_ADDR") == self.url and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found
