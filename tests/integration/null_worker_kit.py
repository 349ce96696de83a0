"""A small engine on Vast's wire, and real worker processes, for the tests of the Null PyWorker.

The engine is a stub, and says so: it has one key, gives every route call the one worker that has reported, and writes
down what it is told. All else is real: the worker's process, the `vastai` package on both sides, RSA, JWT and TLS.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import functools
import ipaddress
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from nullworker.wire import grant
from nullworker.wire.headers import FEATURES
from nullworker.wire.signature import signed_message
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

ROOT = Path(__file__).parents[2]
OURS = "prompt-reports, grants"  # what an engine of ours says of itself; Vast's own says nothing
TOKEN = "a-worker-token-of-at-least-thirty-two-characters"
WORKER_ID = 41
ENDPOINT = "null-test"
HANG_S = 60.0  # a limit for what hangs, not for what is slow


def now_s() -> float:
    """Unix time, which grants and sessions speak."""
    return time.time()  # noqa: TID251 - as said


def new_rsa_key() -> rsa.RSAPrivateKey:
    """A key that nobody knows."""
    return rsa.generate_private_key(65_537, 2048)


@functools.cache
def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


class Authority:
    """A certificate authority of its own, as an engine has one."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65_537, 2048)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stub authority")])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(constraints, critical=True).add_extension(usage, critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def sign(self, request_pem: bytes) -> bytes:
        """The certificate for a signing request, with the names that it asks for."""
        request = x509.load_pem_x509_csr(request_pem)
        assert request.is_signature_valid
        builder = self._builder(request.subject, request.public_key())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        builder = builder.add_extension(names, critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def certificate_of(self, key: rsa.RSAPrivateKey, address: str) -> bytes:
        """A certificate for an IP address, where no request is at hand."""
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = x509.CertificateSigningRequestBuilder().subject_name(self._name).add_extension(names, critical=False)
        return self.sign(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def _builder(self, subject: x509.Name, key: Any) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(minutes=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


@dataclass(frozen=True)
class Report:
    """One message of a worker: ``prompt`` if it has the ``seq`` that only the Null PyWorker adds."""

    path: str
    body: dict[str, Any]
    at_s: float  # time.monotonic()
    remote_port: int

    @property
    def prompt(self) -> bool:
        return "seq" in self.body

    @property
    def ready(self) -> bool:
        return self.path == "/worker_status/" and self.body.get("max_perf", 0) > 0 and not self.body["error_msg"]


@dataclass
class StubEngine:
    """The engine's side of the wire."""

    says: str | None = OURS
    token: str = TOKEN
    url: str = ""
    reports: list[Report] = field(default_factory=list)
    signed_requests: list[tuple[str, str]] = field(default_factory=list)  # (instance_id, Authorization)
    signs: bool = True  # certificates
    ready_url: str | None = None  # of the worker that last said that it is ready
    key: rsa.RSAPrivateKey = field(default_factory=_rsa_key)
    authority: Authority = field(default_factory=functools.cache(Authority))
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _request_idx: int = 100

    # ------------------------------------------------------------------------------------------------ what it gives

    def sign(self, url: str) -> str:
        return base64.b64encode(self.key.sign(signed_message(url), padding.PKCS1v15(), hashes.SHA256())).decode()

    def auth_data(self, url: str, request_idx: int = 0, **other: Any) -> dict[str, Any]:
        """A route answer that sends a client to the worker at ``url``."""
        if not request_idx:
            self._request_idx += 1
            request_idx = self._request_idx
        auth_data = {
            "url": url,
            "signature": self.sign(url),
            "cost": 100,
            "endpoint": ENDPOINT,
            "reqnum": request_idx,
            "request_idx": request_idx,
        }
        if self.says and "grants" in self.says:
            auth_data["grant"] = grant.issue(self.token, WORKER_ID, url, request_idx, 60.0, now_s())
        return {**auth_data, **other}

    # -------------------------------------------------------------------------------------------- what it is told

    async def wait_for(self, wanted: Callable[[Report], object], *, after: int = 0) -> Report:
        """The first report, from number ``after`` on, that fits."""

        async def waiting() -> Report:
            async with self._changed:
                while True:
                    found = next((report for report in self.reports[after:] if wanted(report)), None)
                    if found is not None:
                        return found
                    await self._changed.wait()

        return await asyncio.wait_for(waiting(), HANG_S)

    async def ready(self) -> Report:
        return await self.wait_for(lambda report: report.ready)

    def finished(self, request_idx: int) -> list[tuple[str, bool]]:
        """How the request ended, as told: (status, whether that came as a prompt report), in order."""
        return [
            (request["status"], report.prompt)
            for report in self.reports
            if report.path == "/delete_requests/"
            for request in report.body["requests"]
            if request["request_idx"] == request_idx
        ]

    async def _take_report(self, request: web.Request) -> web.Response:
        body = await request.json()
        peer = request.transport.get_extra_info("peername") if request.transport else None
        async with self._changed:
            self.reports.append(Report(request.path, body, time.monotonic(), peer[1] if peer else 0))
            if self.reports[-1].ready:
                self.ready_url = body["url"]
            self._changed.notify_all()
        return web.json_response({"success": True})

    # ---------------------------------------------------------------------------------------------------- the server

    async def _pubkey(self, _request: web.Request) -> web.Response:
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return web.Response(body=pem, headers={FEATURES: self.says} if self.says else {})

    async def _route(self, request: web.Request) -> web.Response:
        body = await request.json()
        url = self.ready_url
        if url is None:
            self._request_idx += 1
            return web.json_response({"request_idx": body["request_idx"] or self._request_idx, "status": "WAITING"})
        return web.json_response(self.auth_data(url, body["request_idx"], cost=body["cost"]))

    async def _endpoints(self, _request: web.Request) -> web.Response:
        endpoint = {
            "id": 1,
            "endpoint_name": ENDPOINT,
            "api_key": "endpoint-key-0123456789",
            "user_id": 1,
            "created_at": 0,
        }
        return web.json_response({"success": True, "results": [endpoint]})

    async def _sign_cert(self, request: web.Request) -> web.Response:
        if not self.signs:
            raise web.HTTPNotFound
        self.signed_requests.append((request.query["instance_id"], request.headers.get("Authorization", "")))
        return web.Response(body=self.authority.sign(await request.read()))

    async def _root(self, _request: web.Request) -> web.Response:
        return web.Response(body=self.authority.pem)

    @contextlib.asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[StubEngine]:
        app = web.Application()
        app.router.add_get("/pubkey/", self._pubkey)
        app.router.add_post("/worker_status/", self._take_report)
        app.router.add_post("/delete_requests/", self._take_report)
        app.router.add_post("/route/", self._route)
        app.router.add_get("/api/v0/endptjobs/", self._endpoints)
        app.router.add_post("/api/v0/sign_cert/", self._sign_cert)
        app.router.add_get("/static/jvastai_root.cer", self._root)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", port)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()


@dataclass
class WorkerProcess:
    """`python -m workers.null.worker`, running."""

    process: asyncio.subprocess.Process
    env: Mapping[str, str]
    directory: Path
    spawned_at_s: float

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.env['WORKER_PORT']}"

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.env['WORKER_HTTP_PORT']}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.env['NULL_CONTROL_PORT']}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    async def exit_code(self) -> int:
        return await asyncio.wait_for(self.process.wait(), HANG_S)


def worker_env(engine_url: str, **own: str) -> dict[str, str]:
    """All that a worker needs to be told, on free ports; ``own`` variables win."""
    port, http_port, control_port = free_port(), free_port(), free_port()
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": str(ROOT),
        "CONTAINER_ID": str(WORKER_ID),
        "REPORT_ADDR": engine_url,
        "MASTER_TOKEN": TOKEN,
        "WORKER_HOST": "127.0.0.1",
        "WORKER_PORT": str(port),
        "WORKER_HTTP_PORT": str(http_port),
        f"VAST_TCP_PORT_{port}": str(port),
        "PUBLIC_IPADDR": "127.0.0.1",
        "NULL_CONTROL_PORT": str(control_port),
        **({"SETUPTOOLS_USE_DISTUTILS": "stdlib"} if sys.version_info < (3, 12) else {}),  # as a fleet has it
        **own,
    }


@contextlib.asynccontextmanager
async def worker(env: Mapping[str, str], directory: Path, *command: str) -> AsyncIterator[WorkerProcess]:
    """Runs a worker (or ``command``) in ``directory``, and whatever happens ends it and all of its session."""
    with (directory / "log").open("wb") as log:
        spawned_at_s = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(command or (sys.executable, "-m", "workers.null.worker")),
            env=env,
            cwd=directory,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield WorkerProcess(process, env, directory, spawned_at_s)
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 15)
        for pid in session_pids(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


def session_pids(session: int) -> list[int]:
    """The living processes of a session, by number."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == session and is_alive(int(entry.name)):
                    found.append(int(entry.name))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition that nothing announces."""
    ends_at = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < ends_at, "it never came"
        await asyncio.sleep(0.01)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read."""

    status: int
    body: Any


async def post(url: str, body: Any = None, **kwargs: Any) -> Answer:
    """One POST, with ``body`` as JSON where it is given."""
    return await call("POST", url, **({"json": body} if body is not None else {}), **kwargs)


async def call(method: str, url: str, **kwargs: Any) -> Answer:
    """One request of a client that keeps nothing."""
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HANG_S)) as http,
        http.request(method, url, **kwargs) as answer,
    ):
        is_json = answer.content_type == "application/json"
        return Answer(answer.status, await answer.json() if is_json else await answer.text())


async def create(worker: WorkerProcess, auth_data: dict[str, Any], **payload: Any) -> Answer:
    """POSTs /session/create as the SDK does."""
    body = {"auth_data": auth_data, "session_id": None, "payload": {"lifetime": 60, **payload}}
    return await post(worker.url + "/session/create", body)


async def end(worker: WorkerProcess, session_id: str, auth_data: dict[str, Any]) -> Answer:
    """POSTs /session/end as the SDK does."""
    return await post(worker.url + "/session/end", {"session_id": session_id, "session_auth": auth_data})


@contextlib.asynccontextmanager
async def ready_worker(directory: Path, **own: str) -> AsyncIterator[tuple[StubEngine, WorkerProcess]]:
    """A worker that has reported itself ready, and its engine; ``own`` variables are the worker's."""
    async with StubEngine().running() as engine, worker(worker_env(engine.url, **own), directory) as process:
        await engine.ready()
        yield engine, process


async def free(engine: StubEngine, worker: WorkerProcess) -> None:
    """Frees a worker that tests share; of what happened before, all has been told, and is forgotten."""
    await post(worker.control_url + "/release")
    last = engine.auth_data(worker.url)
    assert (await create(worker, last)).status == 201
    await post(worker.control_url + "/release")
    await engine.wait_for(lambda _: bool(engine.finished(last["request_idx"])))  # changes are told in order
    engine.reports.clear()
