"""A stub of Vast's REST interface: a real HTTP server on loopback, driven by the unmodified ``vastai`` package.

Each request and each answer is checked against ``schemas.json``. With ``runs``, an instance is a process of this
machine that runs the commands it was rented with, in an environment like a rented machine's; without, it is a state.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
from aiohttp import web

from nullworker.testing.fleets import PlaceFaults
from tests.kit.servers import end_server
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from typing_extensions import Self

ROOT = Path(__file__).parents[3]
SCHEMAS = json.loads(Path(__file__).with_name("schemas.json").read_text())
KEY = "account-key"


def offer(number: int, **changes: Any) -> dict[str, Any]:
    """One offer of a machine, as Vast shows it."""
    return {
        "id": number,
        "ask_contract_id": number,
        "machine_id": 1000 + number,
        "host_id": 70 + number % 7,
        "gpu_name": "RTX 4090",
        "num_gpus": 1,
        "gpu_ram": 24564,
        "cpu_cores_effective": 16.0,
        "cpu_ram": 64000,
        "disk_space": 500.0,
        "direct_port_count": 100,
        "dph_base": 0.30,
        "dph_total": 0.31,
        "storage_total_cost": 0.01,
        "min_bid": 0.10,
        "dlperf": 90.0,
        "reliability": 0.99,
        "geolocation": "Sweden, SE",
        "verified": True,
        "rentable": True,
        "rented": False,
        "external": False,
        **changes,
    }


@dataclass
class FakeInstance:
    """One rented instance."""

    contract_id: int
    offer: dict[str, Any]
    body: dict[str, Any]
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    intended: str = "running"
    cur: str = "running"
    actual: str | None = "running"
    message: str = "success, running"
    hidden_for: int = 0  # so many lists do not show it
    ends_at: float | None = None
    process: asyncio.subprocess.Process | None = None
    ports: dict[str, Any] = field(default_factory=dict)
    log: Path | None = None

    def shown(self) -> dict[str, Any]:
        env = {name: value for name, value in self.body["env"].items() if not name.startswith("-")}
        return {
            "id": self.contract_id,
            "label": self.body["label"],
            "actual_status": self.actual,
            "cur_state": self.cur,
            "intended_status": self.intended,
            "next_state": self.intended,
            "status_msg": self.message,
            "is_bid": bool(self.body["price"]),
            "machine_id": self.offer["machine_id"],
            "host_id": self.offer["host_id"],
            "dph_total": self.body["price"] or self.offer["dph_total"],
            "storage_total_cost": self.offer["storage_total_cost"],
            "disk_space": self.body["disk"],
            "public_ipaddr": "127.0.0.1",
            "ports": self.ports,
            "extra_env": [[name, value] for name, value in env.items()],
            "start_date": time.time(),  # noqa: TID251 - as Vast has it
            "end_date": self.ends_at,
        }


class FakeVast:
    """One account's view of the place."""

    def __init__(self, directory: Path, *, runs: bool = False) -> None:
        self.directory = directory
        self.runs = runs
        self.offers = [offer(number) for number in range(1, 201)]
        self.instances: dict[int, FakeInstance] = {}
        self.calls: list[str] = []  # kinds, in the order of their coming
        self.bodies: list[tuple[str, Any]] = []
        self.lost: dict[str, int] = {}  # by kind: so many answers do not arrive, though all is done
        self.refuses: dict[str, list[tuple[int, dict[str, Any], dict[str, str]]]] = {}  # by kind: what is answered next
        self.lies: dict[str, str] = {}  # by kind: what is answered in the place of the truth
        self.has_room = True  # for instances that are started
        self.is_quick = True  # an instance that is started has its machine at once
        self.ignores_destroy = 0
        self.is_silent = False  # nothing is done, and nothing answered
        self.begins = True  # what is rented comes to run; else its image is loaded for ever
        self.has_repository = True  # instances have this repository, and need not clone it
        self.variables: dict[str, str] = {}  # that instances have besides
        self.violations: list[str] = []
        self.rented: list[int] = []  # the offers that were taken
        self._next = 5000
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        for kind, call in SCHEMAS["calls"].items():
            app.router.add_route(call["method"], call["path"], getattr(self, f"_{kind}"), name=kind)
        app.router.add_get("/logs/{id}", self._fetch_log, name="fetch")
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        for each in self.instances.values():
            await self._kill(each)
        if self._runner is not None:
            await end_server(self._runner)
            self._runner = None
        assert self.violations == [], f"what was sent is not as Vast documents it: {self.violations[:3]}"

    # ------------------------------------------------------------------------------------------------ for tests

    def of(self, worker_id: int, mark: str = "mark") -> list[FakeInstance]:
        """The instances of a worker."""
        return [each for each in self.instances.values() if each.body["label"].startswith(f"nw-{mark}-{worker_id}-")]

    def crash(self, worker_id: int, mark: str = "mark") -> None:
        """What a machine does when its worker has ended: it stops itself."""
        for each in self.of(worker_id, mark):
            each.intended, each.cur, each.actual, each.message = "stopped", "stopped", "exited", "stopped"

    def outbid(self, worker_id: int) -> None:
        """Another bids more: the instance is to run, and has no machine."""
        for each in self.of(worker_id):
            each.cur, each.actual, each.message = "stopped", "exited", ""

    def resume(self, worker_id: int) -> None:
        """The other has gone: what is to run does."""
        for each in self.of(worker_id):
            if each.intended == "running":
                each.cur, each.actual = "running", "running"

    def faults(self) -> PlaceFaults:
        """What `check_fleet` has this place do wrong."""

        @contextlib.asynccontextmanager
        async def lost_answer(*_: object) -> AsyncIterator[None]:
            self.lost["rent"] = 1
            yield
            assert self.lost.pop("rent") == 0

        @contextlib.asynccontextmanager
        async def silence(*_: object) -> AsyncIterator[None]:
            self.is_silent = True
            yield
            self.is_silent = False

        @contextlib.asynccontextmanager
        async def kept(*_: object) -> AsyncIterator[None]:
            self.ignores_destroy = 1000
            yield
            self.ignores_destroy = 0

        @contextlib.asynccontextmanager
        async def unstarted(*_: object) -> AsyncIterator[None]:
            self.begins = False
            yield
            self.begins = True

        async def ends_soon(_fleet: object, mark: str, worker_id: int) -> None:
            for each in self.of(worker_id, mark):
                each.ends_at = time.time() + 100  # noqa: TID251 - as Vast has it

        async def moved(_fleet: object, mark: str, worker_id: int) -> None:
            for each in self.of(worker_id, mark):
                each.ports = {"3000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "40000"}]}

        def count(mark: str) -> int:
            return sum(each.body["label"].startswith(f"nw-{mark}-") for each in self.instances.values())

        return PlaceFaults(lost_answer, silence, kept, unstarted, ends_soon, moved, count)

    def running(self) -> list[int]:
        return sorted(each.contract_id for each in self.instances.values() if each.actual == "running")

    # ------------------------------------------------------------------------------------------------ routes

    def _check(self, kind: str, part: str, content: Any, schema: dict[str, Any]) -> None:
        checker = jsonschema.Draft202012Validator({**schema, "$defs": SCHEMAS["$defs"]})
        self.violations += [f"{kind} {part}: {error.message}" for error in checker.iter_errors(content)]

    @web.middleware
    async def _guard(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        kind = request.match_info.route.name or ""
        call = SCHEMAS["calls"].get(kind)
        if call is None:
            return await handler(request)  # type: ignore[no-any-return]
        self.calls.append(kind)
        if self.is_silent:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        raw = await request.read()
        body = json.loads(raw) if raw else None
        self.bodies.append((kind, body))
        if "request" in call:
            self._check(kind, "request", body, call["request"])
        query = {name: _read(value) for name, value in request.query.items()}
        if "query" in call or query:
            self._check(kind, "query", query, call.get("query", {"maxProperties": 0}))
        answer = await self._answer(kind, request, handler)
        if kind not in self.lies:
            content = json.loads(answer.body) if isinstance(answer.body, bytes) else None
            if str(answer.status) in call["answers"]:
                self._check(kind, f"answer {answer.status}", content, call["answers"][str(answer.status)])
            else:
                assert answer.status >= 500, f"{kind}: the stub has no answer {answer.status}"
        if self.lost.get(kind, 0) > 0:
            self.lost[kind] -= 1
            assert request.transport is not None
            request.transport.close()
            await asyncio.sleep(0)
        return answer

    async def _answer(self, kind: str, request: web.Request, handler: Any) -> web.Response:
        refusals = self.refuses.get(kind)
        if refusals:
            status, content, headers = refusals.pop(0)
            return web.json_response(content, status=status, headers=headers)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        own = self.instances.get(int(request.match_info.get("id", 0)))
        may = token == KEY or (own is not None and kind in ("state", "destroy", "show") and token == own.key)
        if not may and kind != "search":
            return refusal(401, "auth_error", "Invalid user key")
        if kind in self.lies:
            return web.Response(text=self.lies[kind])
        answer: web.Response = await handler(request)
        return answer

    async def _search(self, request: web.Request) -> web.Response:
        query = await request.json()
        found = [each for each in self.offers if all(_fits(each, name, value) for name, value in query.items())]
        found.sort(key=lambda each: float(each["dph_total"]))
        return web.json_response({"offers": found[: query["limit"]]})

    async def _rent(self, request: web.Request) -> web.Response:
        offer_id = int(request.match_info["id"])
        found = next((each for each in self.offers if each["id"] == offer_id), None)
        if found is None:
            return refusal(410, "no_such_ask", f"Instance type {offer_id} is no longer available.")
        self.offers.remove(found)
        self._next += 1
        contract_id = self._next
        instance = self.instances[contract_id] = FakeInstance(contract_id, found, await request.json())
        self.rented.append(offer_id)
        if self.begins:
            await self._run(instance)
        else:
            instance.cur, instance.actual, instance.message = "loading", None, "Pulling the image"
        return web.json_response({"success": True, "new_contract": contract_id, "instance_api_key": instance.key})

    async def _list(self, request: web.Request) -> web.Response:
        after = int(request.query.get("after_token", "after-0").removeprefix("after-"))
        limit = int(request.query["limit"])
        rows = []
        for each in sorted(self.instances.values(), key=lambda one: one.contract_id):
            if each.hidden_for > 0 and each.contract_id > after:
                each.hidden_for -= 1
            elif each.contract_id > after:
                rows.append(each)
        page = rows[:limit]
        answer = {
            "success": True,
            "total_instances": len(self.instances),
            "label_counts": {},
            "instances_found": len(page),
            "instances": [each.shown() for each in page],
            "next_token": f"after-{page[-1].contract_id}" if len(rows) > limit else None,
        }
        return web.json_response(answer)

    async def _show(self, request: web.Request) -> web.Response:
        found = self.instances.get(int(request.match_info["id"]))
        return web.json_response({"instances": None if found is None else found.shown()})

    async def _state(self, request: web.Request) -> web.Response:
        found = self.instances.get(int(request.match_info["id"]))
        if found is None:
            return _no_instance(request)
        found.intended = (await request.json())["state"]
        if found.intended == "stopped":
            found.cur, found.actual, found.message = "stopped", "exited", "stopped"
            await self._kill(found)
        elif found.actual != "running":
            if not self.has_room:
                text = "Required resources are currently unavailable, state change queued."
                return web.json_response({"success": False, "error": "resources_unavailable", "msg": text})
            if self.is_quick:
                found.cur, found.actual = "running", "running"
                await self._run(found)
        return web.json_response({"success": True})

    async def _destroy(self, request: web.Request) -> web.Response:
        found = self.instances.get(int(request.match_info["id"]))
        if found is None:
            return _no_instance(request)
        if self.ignores_destroy > 0:
            self.ignores_destroy -= 1
        else:
            del self.instances[found.contract_id]
            await self._kill(found)
        return web.json_response({"success": True})

    async def _log(self, request: web.Request) -> web.Response:
        found = self.instances.get(int(request.match_info["id"]))
        if found is None:
            return _no_instance(request)
        return web.json_response({"result_url": f"{self.url}/logs/{found.contract_id}"})

    async def _fetch_log(self, request: web.Request) -> web.Response:
        log = self.instances[int(request.match_info["id"])].log
        return web.Response(text=log.read_text() if log is not None else "first line\nlast line\n")

    # ------------------------------------------------------------------------------------------------ processes

    async def _run(self, instance: FakeInstance) -> None:
        """Starts what an instance was rented to run."""
        if not self.runs:
            return
        home = self.directory / f"instance-{instance.contract_id}"
        home.mkdir(exist_ok=True, parents=True)
        instance.log = home / "log"
        if self.has_repository and not (home / "nullworker").exists():
            (home / "nullworker").mkdir()
            for name in ("start_server.sh", "requirements.txt", "nullworker", "workers"):
                (home / "nullworker" / name).symlink_to(ROOT / name)
        port = free_port()
        given = {name: value for name, value in instance.body["env"].items() if not name.startswith("-")}
        inside = given.get("WORKER_PORT", "3000")
        instance.ports = {f"{inside}/tcp": [{"HostIp": "0.0.0.0", "HostPort": str(port)}]}
        environment = {
            "PATH": f"{ROOT / '.venv/bin'}:{os.environ['PATH']}",
            "PYTHON": str(ROOT / ".venv/bin/python"),
            "HOME": str(home),
            **given,
            # Containers have networks of their own, where all may listen on one port; processes do not.
            "WORKER_PORT": str(port),
            f"VAST_TCP_PORT_{port}": str(port),
            "WORKER_HTTP_PORT": str(free_port()),
            "NULL_CONTROL_PORT": str(free_port()),
            "WORKER_HOST": "127.0.0.1",
            "PUBLIC_IPADDR": "127.0.0.1",
            "CONTAINER_ID": str(instance.contract_id),
            "CONTAINER_API_KEY": instance.key,
            **self.variables,
        }
        with instance.log.open("ab") as log:
            instance.process = await asyncio.create_subprocess_exec(
                "bash", "-c", instance.body["onstart"], cwd=home, env=environment, stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    async def _kill(self, instance: FakeInstance) -> None:
        """Ends all processes of an instance, as the end of its container does."""
        process, instance.process = instance.process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def refusal(status: int, code: str, text: str) -> web.Response:
    return web.json_response({"success": False, "error": code, "msg": text}, status=status)


def _no_instance(request: web.Request) -> web.Response:
    return refusal(404, "no_such_instance", f"Instance {request.match_info['id']} not found.")


def _read(value: str) -> Any:
    try:
        read = json.loads(value)
    except ValueError:
        return value
    return value if isinstance(read, int) and not value.isdigit() else read


def _fits(row: dict[str, Any], name: str, value: Any) -> bool:
    """Whether an offer passes a filter of a search."""
    if name in ("order", "type", "limit", "allocated_storage"):
        return True
    own = row.get(name)
    if name == "geolocation":
        own = str(own).rpartition(", ")[2]
    tests: dict[str, Callable[[Any, Any], bool]] = {
        "eq": lambda a, b: a == b,
        "gte": lambda a, b: a >= b,
        "lte": lambda a, b: a <= b,
        "in": lambda a, b: a in b,
    }
    return all(tests[operator](own, against) for operator, against in value.items())
