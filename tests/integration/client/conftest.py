"""Engines for the client to talk to.

``engine_url``, ``api_key`` and ``endpoint_name`` are all that most tests know of theirs, and they run twice: with the
stub of `stubs`, and with the real engine, whose fleet starts real workers. ``stub_engine`` is for what no real one
does on demand.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nullworker.client import NullClient
from tests.kit.authority import Authority
from tests.kit.client_stubs import RoutingEngine, StubWorker
from tests.kit.waiting import HANG_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

ROOM = 4
ENGINE_STOP_LIMIT_S = 30.0


@dataclass(frozen=True)
class Engine:
    """An engine that has an endpoint with room for four workers."""

    url: str
    api_key: str
    endpoint: str


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def stub_engine(authority: Authority) -> AsyncIterator[RoutingEngine]:
    """An engine without workers."""
    engine = RoutingEngine(authority.pem)
    await engine.start()
    yield engine
    await engine.stop()


@pytest.fixture
async def stub_workers() -> AsyncIterator[list[StubWorker]]:
    """Workers that no engine knows yet."""
    workers = [StubWorker() for _ in range(ROOM)]
    for worker in workers:
        await worker.start()
    yield workers
    for worker in workers:
        await worker.stop()


@pytest.fixture
async def client(stub_engine: RoutingEngine) -> AsyncIterator[NullClient]:
    """A client of the stub engine."""
    async with NullClient(stub_engine.url, stub_engine.api_key) as client:
        yield client


@pytest.fixture
async def stub_url(stub_engine: RoutingEngine, stub_workers: list[StubWorker]) -> str:
    """The URL of the stub engine, which has room for four."""
    for worker in stub_workers:
        stub_engine.add(worker)
    return stub_engine.url


def wait_until_up(url: str, key: str) -> None:
    give_up_at = time.monotonic() + HANG_S
    request = urllib.request.Request(f"{url}/api/v0/status/", headers={"Authorization": f"Bearer {key}"})
    states: list[str] = []
    while states != ["ready"] * ROOM:
        assert time.monotonic() < give_up_at, f"the workers never came up: {states}"
        time.sleep(0.05)
        with urllib.request.urlopen(request) as answer:
            (endpoint,) = json.load(answer)["endpoints"]
        states = [worker["state"] for worker in endpoint["workers_list"]]


@pytest.fixture(scope="session")
def real_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """``nullworker engine`` in a process of its own, with four workers that are always up."""
    directory = tmp_path_factory.mktemp("engine")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NULLWORKER_", "VAST_"))}
    always_up = ("--set", f"endpoint.null-local.min_load={100 * ROOM}")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "nullworker.cli.main",
                "engine",
                "--port",
                "0",
                "--state",
                "state",
                "--json",
                *always_up,
            ],
            cwd=directory,
            env={**environment, "PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (directory / "log").read_text()
        said = json.loads(line)
        key = (directory / "state" / "api_key").read_text().strip()
        wait_until_up(said["url"], key)
        yield Engine(said["url"], key, said["endpoints"][0])
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=ENGINE_STOP_LIMIT_S)
        process.kill()
        process.communicate()


@pytest.fixture(params=["stub", "nullworker engine"])
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    if request.param == "stub":
        stub: RoutingEngine = request.getfixturevalue("stub_engine")
        return Engine(request.getfixturevalue("stub_url"), stub.api_key, next(iter(stub.endpoints)))
    real: Engine = request.getfixturevalue("real_engine")
    return real


@pytest.fixture
def engine_url(engine: Engine) -> str:
    """The engine's URL."""
    return engine.url


@pytest.fixture
def api_key(engine: Engine) -> str:
    """A key that the engine takes."""
    return engine.api_key


@pytest.fixture
def endpoint_name(engine: Engine) -> str:
    """The name of an endpoint of the engine, with room for four workers."""
    return engine.endpoint
