"""Ray's dashboard in process, as far as the Ray fleet uses it, with the traps that the real one has.

A job that waits cannot be deleted, and told to stop it ends only when it has begun; one that is deleted at once after
its end comes back as failed; what cannot run is accepted, and fails. The same conformance kit runs over this and over a
real cluster (`tests.integration.test_ray_cluster`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

from nullworker.testing.fleets import PlaceFaults
from tests.kit.servers import end_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from typing_extensions import Self

TRACEBACK = "Traceback (most recent call last):\n  File job_manager.py, line 1\nValueError: {}\n.\n"
WAITS = "Job has not started yet. It may be waiting for resources to become available."
_LIVES = ("PENDING", "RUNNING")
#: How long a job on the head takes to begin, and then to do its work.
STEP_S = 0.12
#: How long after the end of a job Ray still watches over it.
WATCHED_S = 0.05


@dataclass
class FakeJob:
    body: dict[str, Any]
    status: str = "PENDING"
    message: str = WAITS
    error_type: str | None = None
    node_id: str | None = None
    is_told: bool = False  # to stop, while it waits
    ended_at: float = 0.0
    made_at: float = field(default_factory=time.monotonic)
    log: bytes = b"Running entrypoint\nnull worker\n"

    def end(self, status: str, message: str, error_type: str | None = None) -> None:
        self.status, self.message, self.error_type, self.ended_at = status, message, error_type, time.monotonic()


@dataclass
class FakeNode:
    resources: dict[str, float]
    labels: dict[str, str] = field(default_factory=dict)
    is_alive: bool = True


class FakeRay:
    """The dashboard. ``jobs`` are what the cluster truly has."""

    def __init__(self, token: str = "") -> None:
        self.token = token
        self.jobs: dict[str, FakeJob] = {}
        self.nodes = {
            "node-a": FakeNode({"CPU": 8, "GPU": 2, "memory": 8e9}, {"disk": "fast"}),
            "node-b": FakeNode({"CPU": 8, "memory": 8e9}),
        }
        self.packages: dict[str, bytes] = {}
        self.calls: list[tuple[str, str]] = []
        #: So many answers to calls of a method and route are lost after the call took effect.
        self.lost: dict[tuple[str, str], int] = {}
        #: Answers given in place of the true ones, by path.
        self.lies: dict[str, str] = {}
        self.url = ""
        self.reports = 0
        #: What has a place waits all the same, and is no pending demand.
        self.is_installing = False
        #: Nothing is done, and nothing answered.
        self.is_silent = False
        #: What is told to stop goes on, though Ray says that it stops.
        self.keeps = False
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard], client_max_size=1 << 30)
        app.router.add_get("/api/version", self._version)
        app.router.add_post("/api/jobs/", self._submit)
        app.router.add_get("/api/jobs/", self._list)
        app.router.add_get("/api/jobs/{id}", self._get)
        app.router.add_post("/api/jobs/{id}/stop", self._stop)
        app.router.add_delete("/api/jobs/{id}", self._delete)
        app.router.add_get("/api/cluster_status", self._status)
        app.router.add_get("/api/v0/logs/file", self._log)
        app.router.add_get("/api/packages/gcs/{name}", self._package)
        app.router.add_put("/api/packages/gcs/{name}", self._upload)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await end_server(self._runner)

    # ------------------------------------------------------------------------------------------------ what a test does

    def of(self, worker_id: int, mark: str = "") -> list[FakeJob]:
        """The jobs of a worker, in the order in which they were submitted."""
        return [job for job_id, job in self.jobs.items() if f"{mark}-{worker_id}-" in job_id]

    def crash(self, worker_id: int, mark: str = "", code: int = 1) -> None:
        """The worker of a job ends by itself."""
        (job,) = [job for job in self.of(worker_id, mark) if job.status == "RUNNING"]
        log = f"Job entrypoint command failed with exit code {code}, last available logs (truncated to 20,000 chars):\n"
        job.end("FAILED", log + job.log.decode(), "JOB_ENTRYPOINT_COMMAND_ERROR")

    def faults(self) -> PlaceFaults:
        """What `check_fleet` has this place do wrong; Ray gives no notice, and tells no addresses."""

        @contextlib.asynccontextmanager
        async def lost_answer(*_: object) -> AsyncIterator[None]:
            call = ("POST", "/api/jobs/")
            self.lost[call] = 1
            yield
            assert self.lost.pop(call) == 0

        @contextlib.asynccontextmanager
        async def silence(*_: object) -> AsyncIterator[None]:
            self.is_silent = True
            yield
            self.is_silent = False

        @contextlib.asynccontextmanager
        async def kept(*_: object) -> AsyncIterator[None]:
            self.keeps = True
            yield
            self.keeps = False

        @contextlib.asynccontextmanager
        async def unstarted(*_: object) -> AsyncIterator[None]:
            self.is_installing = True
            yield
            self.is_installing = False

        def count(mark: str) -> int:
            self.work()
            return sum(f"-{mark}-" in job_id and job.status in _LIVES for job_id, job in self.jobs.items())

        return PlaceFaults(lost_answer, silence, kept, unstarted, count=count)

    def kill_node(self, name: str) -> None:
        """A node dies."""
        self.nodes[name].is_alive = False
        why = "The actor died because its node has died. Node Id: 01\n\tthe actor's node was terminated unexpectedly: "
        for job in self.jobs.values():
            if job.node_id == name and job.status == "RUNNING":
                job.end("FAILED", f"{why}health check failed due to missing too many heartbeats", "ACTOR_DIED")

    def work(self) -> None:
        """Does what Ray does by itself: places what waits where there is room."""
        for job in self.jobs.values():
            if job.status != "PENDING":
                continue
            name = job.node_id = job.node_id or self._place(job)
            if name is None or self.is_installing:
                continue
            if name == "head" and time.monotonic() < job.made_at + STEP_S:
                continue
            job.status, job.message, job.node_id = "RUNNING", "Job is currently running.", name
            if job.is_told:
                job.end("STOPPED", "Job was intentionally stopped.")
        for job in self.jobs.values():
            is_due = job.status == "RUNNING" and time.monotonic() > job.made_at + 2 * STEP_S
            if is_due and "ray.kill" in job.body["entrypoint"]:
                for job_id, other in self.jobs.items():
                    if job_id in job.body["entrypoint"] and other.status == "PENDING":
                        other.end("FAILED", "Job supervisor actor died: killed by `ray.kill`.", "ACTOR_DIED")
                job.end("SUCCEEDED", "Job finished successfully.")

    def _place(self, job: FakeJob) -> str | None:
        wanted = _wanted(job)
        if not wanted:
            return "head"
        labels = job.body.get("entrypoint_label_selector", {})
        for name, node in self.nodes.items():
            free = dict(node.resources)
            for other in self.jobs.values():
                if other.node_id == name and other.status in ("PENDING", "RUNNING"):
                    for kind, n in _wanted(other).items():
                        free[kind] = free.get(kind, 0) - n
            fits = all(free.get(kind, 0) >= n for kind, n in wanted.items())
            if node.is_alive and fits and labels.items() <= node.labels.items():
                return name
        return None

    # ------------------------------------------------------------------------------------------------ routes

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        if self.is_silent:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if self.token and request.path != "/api/version":
            said = request.headers.get("Authorization", "")
            if not said:
                return web.Response(status=401, text="Unauthorized: Missing authentication token")
            if said != f"Bearer {self.token}":
                return web.Response(status=403, text="Forbidden: Invalid authentication token")
        if request.path in self.lies:
            return web.Response(text=self.lies[request.path])
        self.work()
        answer: web.StreamResponse = await handler(request)
        self.work()
        key = (request.method, request.match_info.route.resource.canonical if request.match_info.route.resource else "")
        if self.lost.get(key, 0) > 0:
            self.lost[key] -= 1
            assert request.transport is not None
            request.transport.close()
            await asyncio.sleep(0)
        return answer

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "session_name": "session"})

    async def _submit(self, request: web.Request) -> web.Response:
        body = await request.json()
        job_id = body["submission_id"]
        if job_id in self.jobs:
            text = TRACEBACK.format(f"Job with submission_id {job_id} already exists. Please use a different one.")
            return web.Response(status=500, text=text)
        job = self.jobs[job_id] = FakeJob(body)
        package = body.get("runtime_env", {}).get("working_dir", "")
        if package and package.removeprefix("gcs://") not in self.packages:
            job.end(
                "FAILED", f"runtime_env setup failed: {TRACEBACK.format('no package')}", "RUNTIME_ENV_SETUP_FAILURE"
            )
        elif any(n > 1 and n % 1 for n in [body.get("entrypoint_num_gpus", 0)]):
            why = f"Failed to start supervisor actor {job_id}: 'not whole'. Full traceback:\n"
            job.end("FAILED", why + TRACEBACK.format("x"), "JOB_SUPERVISOR_ACTOR_START_FAILURE")
        return web.json_response({"job_id": job_id, "submission_id": job_id})

    async def _list(self, _: web.Request) -> web.Response:
        driver = {"type": "DRIVER", "job_id": "01000000", "submission_id": None, "status": "RUNNING"}
        return web.json_response([driver, *(_shown(job_id, job) for job_id, job in self.jobs.items())])

    async def _get(self, request: web.Request) -> web.Response:
        job_id = request.match_info["id"]
        if job_id not in self.jobs:
            return web.Response(status=404, text=f"Job {job_id} does not exist")
        return web.json_response(_shown(job_id, self.jobs[job_id]))

    async def _stop(self, request: web.Request) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None:
            return web.Response(status=404, text="does not exist")
        if not self.keeps:
            if job.status == "RUNNING":
                job.end("STOPPED", "Job was intentionally stopped.")
            job.is_told = True
        return web.json_response({"stopped": True})

    async def _delete(self, request: web.Request) -> web.Response:
        job_id = request.match_info["id"]
        job = self.jobs.get(job_id)
        if job is None:
            return web.Response(status=404, text="does not exist")
        if job.status in ("PENDING", "RUNNING"):
            return web.Response(status=500, text=TRACEBACK.format("it is in a non-terminal state"))
        if time.monotonic() - job.ended_at < WATCHED_S:
            job.end("FAILED", "Job supervisor actor died: it exited.", "JOB_SUPERVISOR_ACTOR_DIED")
        else:
            del self.jobs[job_id]
        return web.json_response({"deleted": True})

    async def _status(self, _: web.Request) -> web.Response:
        self.reports += 1
        lines = [f"======== Autoscaler status: {self.reports} ========", "Resources", "Total Usage:"]
        for kind in ("CPU", "GPU"):
            total = sum(node.resources.get(kind, 0) for node in self.nodes.values() if node.is_alive)
            running = [job for job in self.jobs.values() if job.status == "RUNNING"]
            lines.append(f" {sum(_wanted(job).get(kind, 0) for job in running):.1f}/{total:.1f} {kind}")
        lines += [" 0B/63.18GiB memory", "", "From request_resources:", " (none)", "Pending Demands:"]
        unplaced = [job for job in self.jobs.values() if job.status == "PENDING" and job.node_id is None]
        waiting = [_wanted(job) for job in unplaced]
        lines += [f" {each}: 1+ pending tasks/actors" for each in waiting] or [" (no resource demands)"]
        return web.json_response({"result": True, "msg": "", "data": {"clusterStatus": "\n".join(lines)}})

    async def _log(self, request: web.Request) -> web.Response:
        job_id = request.query["filename"].removeprefix("job-driver-").removesuffix(".log")
        node = self.nodes.get(request.query["node_id"])
        if job_id not in self.jobs or node is None or not node.is_alive:
            return web.Response(status=500, text="500 Internal Server Error\n\nServer got itself in trouble")
        lines = self.jobs[job_id].log.splitlines(keepends=True)[-int(request.query["lines"]) :]
        return web.Response(body=b"".join(lines))

    async def _package(self, request: web.Request) -> web.Response:
        is_there = request.match_info["name"] in self.packages
        return web.Response() if is_there else web.Response(status=404, text="Package does not exist")

    async def _upload(self, request: web.Request) -> web.Response:
        self.packages[request.match_info["name"]] = await request.read()
        return web.Response()


def _wanted(job: FakeJob) -> dict[str, float]:
    body = job.body
    wanted = {
        "CPU": float(body.get("entrypoint_num_cpus", 0)),
        "GPU": float(body.get("entrypoint_num_gpus", 0)),
        "memory": float(body.get("entrypoint_memory", 0)),
        **body.get("entrypoint_resources", {}),
    }
    return {kind: n for kind, n in wanted.items() if n}


def _shown(job_id: str, job: FakeJob) -> dict[str, Any]:
    return {
        "type": "SUBMISSION",
        "job_id": None,
        "submission_id": job_id,
        "status": job.status,
        "entrypoint": job.body["entrypoint"],
        "message": job.message,
        "error_type": job.error_type,
        "metadata": job.body.get("metadata"),
        "runtime_env": job.body.get("runtime_env"),
        "driver_node_id": None if job.status == "PENDING" else job.node_id,
        "driver_exit_code": None,
    }
