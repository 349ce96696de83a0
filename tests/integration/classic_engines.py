"""Engines for classic backends: the real one as a process, and a small one that speaks Vast's wire and no more.

The bridge's tests know an engine by `EngineUnderTest` alone, so that either can stand in.
"""

from __future__ import annotations

import asyncio
import base64
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
from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nullworker.wire import grant
from tests.integration.classic_kit import CLONE, HANG_S, ClassicProcess
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

ENDPOINT_KEY = "the-endpoints-own-key"


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
class StubEngine:
    """Starts one worker when someone asks, and stops it when it was idle for ``idle_s`` (None: lets it be).

    ``features`` is what it tells its workers that it takes; with "grants" it gives one with each answer.
    """

    api_key: str = "the-account-key"
    endpoint_name: str = "hello"
    features: str = ""
    idle_s: float | None = None
    certificate: bytes = b""
    arguments: Sequence[str] = ("helloworld",)
    env: Mapping[str, str] = field(default_factory=dict)
    key_is_there: bool = True
    takes_reports: bool = True

    def __post_init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._idx = 0
        self._granted: dict[int, float] = {}
        self._busy_at = time.monotonic()
        self._ready = asyncio.Event()
        self.url = ""
        self.worker: ClassicProcess | None = None
        self._workers: list[ClassicProcess] = []
        self.started = 0
        self.token = "the-token-of-worker-17-long-enough-for-a-key"
        self.statuses: list[dict[str, Any]] = []
        self.finished: list[dict[str, Any]] = []
        self.refused: list[tuple[str, dict[str, Any]]] = []

    @property
    def certificate_url(self) -> str:
        return self.url + "/static/jvastai_root.cer"

    @property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def last(self) -> dict[str, Any]:
        """The last status."""
        return self.statuses[-1] if self.statuses else {}

    def running_workers(self) -> int:
        return int(self.worker is not None and self.worker.process.poll() is None)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes(
            [
                web.get("/static/jvastai_root.cer", self._root),
                web.get("/api/v0/endptjobs/", self._endpoints),
                web.post("/route/", self._route),
                web.get("/pubkey/", self._pubkey),
                web.post("/worker_status/", self._status),
                web.post("/delete_requests/", self._delete),
            ]
        )
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._tasks.append(asyncio.create_task(self._scale_down()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        assert self._runner is not None
        await self._runner.cleanup()  # from here on nobody starts another
        for worker in self._workers:
            worker.__exit__()

    def worker_env(self, port: int) -> dict[str, str]:
        return {
            "REPORT_ADDR": self.url,
            "CONTAINER_ID": "17",
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
        self.statuses.clear()
        self._ready.clear()
        self.started += 1
        self._busy_at = time.monotonic()
        return self.worker

    async def _scale_down(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            if self._granted or self.last.get("num_requests_working"):
                self._busy_at = time.monotonic()
            is_idle = self.idle_s is not None and time.monotonic() - self._busy_at > self.idle_s
            if is_idle and self.running_workers() and self.last.get("loadtime"):
                assert self.worker is not None
                await asyncio.to_thread(self.worker.end)

    def sign(self, url: str) -> str:
        message = f'{{\n    "url": "{url}"\n}}'.encode()
        return base64.b64encode(self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())).decode()

    def auth_data(self, idx: int, cost: float = 100) -> dict[str, Any]:
        """What /route/ answers for the worker."""
        url = self.last["url"]
        answer = {
            "url": url,
            "signature": self.sign(url),
            "cost": cost,
            "endpoint": self.endpoint_name,
            "reqnum": idx,
            "request_idx": idx,
        }
        if "grants" in self.features:
            answer["grant"] = grant.issue(self.token, 17, url, idx, 60, time.time())  # noqa: TID251 - an engine's clock
        return answer

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.certificate)

    async def _endpoints(self, _request: web.Request) -> web.Response:
        row = {"id": 1, "endpoint_name": self.endpoint_name, "api_key": ENDPOINT_KEY, "user_id": 1, "created_at": 0.0}
        return web.json_response({"success": True, "results": [row]})

    async def _route(self, request: web.Request) -> web.Response:
        body = await request.json()
        idx = body["request_idx"]
        if not idx:
            self._idx += 1
            idx = self._idx
        self._busy_at = time.monotonic()
        if not self.running_workers():
            self.start_worker()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ready.wait(), 8)
        if not self._ready.is_set():
            return web.json_response({"request_idx": idx, "endpoint": self.endpoint_name, "status": "WAITING"})
        self._granted[idx] = time.monotonic()
        return web.json_response(self.auth_data(idx, body["cost"]))

    async def _pubkey(self, _request: web.Request) -> web.Response:
        if not self.key_is_there:
            return web.Response(status=503)
        headers = {"X-Nullworker": self.features} if self.features else {}
        return web.Response(body=self.public_key, headers=headers)

    async def _status(self, request: web.Request) -> web.Response:
        def take(body: dict[str, Any]) -> None:
            self.statuses.append(body)
            if body.get("loadtime") and not body["error_msg"]:
                self._ready.set()

        return await self._take(request, take, "id")

    async def _delete(self, request: web.Request) -> web.Response:
        def take(body: dict[str, Any]) -> None:
            for row in body["requests"]:
                self._granted.pop(row["request_idx"], None)
                self.finished.append(row)

        return await self._take(request, take, "worker_id")

    async def _take(self, request: web.Request, take: Any, id_field: str) -> web.Response:
        body = await request.json()
        if not self.takes_reports:
            return web.Response(status=503)
        if body["mtoken"] != self.token or body[id_field] != 17:
            self.refused.append((request.path, body))
            return web.json_response({"success": False, "error": "auth_error"}, status=401)
        take(body)
        return web.json_response({"success": True})


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
