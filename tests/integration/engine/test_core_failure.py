"""A core that fails ends its engine; what was held goes on, the dump can be replayed, the next start adopts all."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from nullworker.engine.server import CORE_FAILED_EXIT_CODE
from tests.integration.engine.engines import Engines, key_of
from tests.integration.engine.kit import vast_client
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ENDPOINT = "null-local"

#: The command line of an engine whose core fails at the first rolling update, after it has begun to apply it.
FAILING = """
import sys
from nullworker.core import engine, events
from nullworker.cli.main import main

def fail(state, event):
    state.workers.clear()
    raise LookupError("planted")

engine._HANDLERS[events.WorkersUpdated] = fail
main(sys.argv[1:])
"""


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(tmp_path / "state")
    yield engines
    await engines.end()


async def command(*words: str) -> tuple[int, str]:
    """Runs nullworker, or FAILING where the first word is its text."""
    start = ("-c", *words) if words[0] == FAILING else ("-m", "nullworker.cli.main", *words)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *start, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode is not None
    return process.returncode, out.decode()


async def call(http: aiohttp.ClientSession, said: dict[str, Any], path: str, body: dict[str, Any]) -> tuple[int, Any]:
    async with http.post(f"{said['url']}{path}", json={"api_key": key_of(said), **body}) as response:
        return response.status, await response.json()


async def fail(http: aiohttp.ClientSession, said: dict[str, Any]) -> tuple[int, Any]:
    group = 2  # of the engine's own endpoint
    return await call(http, said, "/update_workers/", {"workergroup_id": group})


@pytest.mark.promise("P11")
async def test_a_core_that_fails_ends_the_engine_and_the_next_start_adopts_everything(engines: Engines) -> None:
    flags = ("--set", f"endpoint.{ENDPOINT}.max_workers=1", "--set", f"endpoint.{ENDPOINT}.inactivity_timeout=1")
    process, said = await engines.start(*flags, main=("-c", FAILING))
    async with vast_client(said["url"], key_of(said)) as client, aiohttp.ClientSession() as http:
        session = await (await client.get_endpoint(ENDPOINT)).session(cost=100, lifetime=120)
        before = engines.worker_pids()
        ask = {"endpoint": ENDPOINT, "cost": 100, "request_idx": 0, "replay_timeout": 60}
        waiting = asyncio.ensure_future(call(http, said, "/route/", ask))
        status_headers = {"Authorization": f"Bearer {key_of(said)}"}
        waiters = 0
        while not waiters:
            await asyncio.sleep(0.05)
            async with http.get(f"{said['url']}/api/v0/status/", headers=status_headers) as response:
                waiters = (await response.json())["endpoints"][0]["waiting"]

        status, body = await fail(http, said)
        assert (status, body["error"]) == (503, "engine_failed")
        status, body = await waiting
        assert (status, body["error"]) == (503, "engine_failed")
        assert await asyncio.wait_for(process.wait(), HANG_S) == CORE_FAILED_EXIT_CODE

        assert process.stderr is not None
        log = (await process.stderr.read()).decode()
        (dump,) = engines.state.glob("crash-*.journal")
        (sentence,) = [line for line in log.splitlines() if "core failed" in line]
        assert "LookupError: planted" in sentence
        assert f"nullworker replay {dump}" in sentence
        assert "Traceback" not in log
        assert dump.stat().st_mode & 0o777 == 0o600
        assert key_of(said) not in dump.read_text()
        assert engines.worker_pids() == before

        code, text = await command("replay", str(dump))
        assert code == 0, text
        assert "the core failed at WorkersUpdated(workergroup_id=2, cancel=False)" in text
        assert "LookupError: planted" in text
        assert "it does not fail" in text
        code, text = await command(FAILING, "replay", str(dump))
        assert code == 1, text
        assert text.count("LookupError: planted") == 2

        process, again = await engines.start(*flags, port=str(said["url"].rsplit(":", 1)[1]))
        assert engines.worker_pids() == before
        assert await session.is_open()
        async with http.get(f"{again['url']}/api/v0/status/", headers=status_headers) as response:
            (worker,) = (await response.json())["endpoints"][0]["workers_list"]
        assert worker["state"] == "held"
        await session.close()
        await until(lambda: not engines.worker_pids(), "the fleet is back at zero")
        process.terminate()
        assert await asyncio.wait_for(process.wait(), HANG_S) == 0


async def test_a_core_that_fails_at_the_start_says_so_and_leaves_a_dump(engines: Engines) -> None:
    failing = FAILING.replace("WorkersUpdated", "EndpointPut")
    process = await engines.begin(main=("-c", failing))
    _, errors = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == CORE_FAILED_EXIT_CODE, errors.decode()
    assert b"core failed at EndpointPut" in errors
    assert b"is likely to fail at the next start" in errors
    assert b"Traceback" not in errors
    (dump,) = engines.state.glob("crash-*.journal")
    code, text = await command("replay", str(dump))
    assert code == 0, text
    assert "LookupError: planted" in text
