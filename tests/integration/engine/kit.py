"""What the engine's tests share: an engine with null workers on this machine, and the unmodified client."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import aiohttp
import vastai

from nullworker.core.parameters import TESTED_PARAMETERS, Parameters
from nullworker.engine.config import EndpointConfig, EngineConfig, WorkergroupConfig
from nullworker.engine.server import Server
from tests.kit.signing_key import give_signing_key
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ENDPOINT = "null-test"


@dataclass
class Running:
    """A running engine."""

    server: Server
    url: str
    key: str

    @property
    def workers(self) -> dict[int, str]:
        """The state of each worker that the engine knows."""
        return {w.worker_id: w.state.value for w in self.server.driver.engine.state.workers.values()}

    def endpoint_id(self, name: str = ENDPOINT) -> int:
        return self.server.catalog.by_name[name].endpoint_id

    async def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
        """One bare HTTP call."""
        headers = {"Authorization": f"Bearer {self.key if key is None else key}"}
        url = self.url + path
        async with aiohttp.ClientSession() as http, http.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)


def config(state: Path, parameters: Parameters = TESTED_PARAMETERS, **group: Any) -> EngineConfig:
    endpoint = EndpointConfig(ENDPOINT, parameters, (WorkergroupConfig(**group),))
    return EngineConfig("127.0.0.1", 0, state, (endpoint,), {"processes": {"grace_s": 2.0}})


@contextlib.asynccontextmanager
async def running(settings: EngineConfig, *, destroy: bool = True) -> AsyncIterator[Running]:
    give_signing_key(settings.state)
    server = await Server.open(settings, {})
    try:
        yield Running(server, server.url, server.keys.account_key.reveal())
    finally:
        await server.close(destroy=destroy)


@contextlib.asynccontextmanager
async def vast_client(url: str, key: str) -> AsyncIterator[Any]:
    """The unmodified `vastai.Serverless`, told where engine and root certificate are."""
    kind = type("Client", (vastai.Serverless,), {"SSL_CERT_URL": f"{url}/static/jvastai_root.cer"})
    async with kind(api_key=key, autoscaler_url=url, webserver_url=url) as client:
        yield client


@contextlib.asynccontextmanager
async def endpoint_of(engine: Running, name: str = ENDPOINT) -> AsyncIterator[Any]:
    async with vast_client(engine.url, engine.key) as client:
        yield await client.get_endpoint(name)


def quick(**changes: Any) -> Parameters:
    """The tested parameters, with a short idle time and what a test changes."""
    return replace(TESTED_PARAMETERS, **{"inactivity_timeout": 1.0, **changes})


async def invitation(engine: Running, endpoint: str = ENDPOINT) -> dict[str, str]:
    """What `nullworker join` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nullworker.cli.main", "join", endpoint, "--instance", engine.url,
        "--api-key", engine.key, "--address", "127.0.0.1", "--port", str(free_port()), "--json",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    variables: dict[str, str] = json.loads(out)
    return variables
