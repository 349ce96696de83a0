"""How an engine begins and ends: a taken port, Ctrl-C once and twice, a kill and a start."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import psutil
import pytest

from tests.integration.engine.engines import Engines, key_of
from tests.integration.engine.kit import vast_client
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(tmp_path / "state")
    yield engines
    await engines.end()


async def held(said: dict[str, Any]) -> Any:
    key = key_of(said)
    async with vast_client(said["url"], key) as client:
        endpoint = await client.get_endpoint("null-local")
        return await endpoint.session(cost=100, lifetime=60)


async def test_a_taken_port_is_one_sentence_and_nothing_is_started(engines: Engines) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = await engines.begin(port=str(taken.getsockname()[1]))
        _, err = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == 1
    assert err.decode().count("\n") == 1
    assert "--port" in err.decode()


async def test_a_second_engine_on_the_same_state_is_refused(engines: Engines) -> None:
    await engines.start()
    second = await engines.begin()
    _, err = await asyncio.wait_for(second.communicate(), HANG_S)
    assert second.returncode == 1
    assert "--state" in err.decode()


@pytest.mark.parametrize(
    ("signum", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.long), (signal.SIGTERM, 0)]
)
async def test_told_to_the_end_of_an_engine_ends_all_its_workers(engines: Engines, signum: int, code: int) -> None:
    process, said = await engines.start("--end-workers")
    await held(said)
    assert engines.worker_pids()
    process.send_signal(signum)
    _, err = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == code, err.decode()
    assert engines.worker_pids() == []


@pytest.mark.promise("P2", "P13")
@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 0, marks=pytest.mark.long)]
)
async def test_the_end_of_an_engine_ends_no_job(engines: Engines, signum: int, code: int) -> None:
    flags = ("--set", "endpoint.null-local.inactivity_timeout=60")
    process, said = await engines.start(*flags)
    key = key_of(said)
    async with vast_client(said["url"], key) as client:
        endpoint = await client.get_endpoint("null-local")
        free = await endpoint.session(cost=100, lifetime=60)
        session = await endpoint.session(cost=100, lifetime=60)
        before = engines.worker_pids()
        await free.close()
        free_pids = set(before) - {pid for pid in before if str(session.url).rpartition(":")[2] in ports(pid)}
        process.send_signal(signum)
        _, err = await asyncio.wait_for(process.communicate(), HANG_S)
        assert process.returncode == code
        assert "runs on (2)" in err.decode()
        assert set(engines.worker_pids()) == set(before) - free_pids != set(before)
        assert await session.is_open()
        process, _ = await engines.start(*flags, port=said["url"].rpartition(":")[2])
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http,
            http.get(f"{said['url']}/api/v0/story/?about=null-local") as response,
        ):
            record = (await response.json())["decisions"]
        ends = [(d["kind"], d["worker_id"]) for d in record if d["cause"] == "engine_ended"]
        assert ends == [("destroy", 1), ("left_running", 2)]
        assert await session.is_open()
        await session.close()


def ports(pid: int) -> set[str]:
    connections = psutil.Process(pid).net_connections("tcp")
    return {str(c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_second_ctrl_c_hurries_and_leaves_nothing(engines: Engines, tmp_path: Path) -> None:
    deaf = tmp_path / "deaf"
    script = (
        f"import pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(deaf)!r}).touch(); time.sleep(600)"
    )
    consumer = f'endpoint.null-local.workergroup.0.consumer={sys.executable} -c "{script}"'
    grace = "endpoint.null-local.workergroup.0.env={ NULL_CONSUMER_GRACE = 300 }"
    process, said = await engines.start(
        "--end-workers", "--set", consumer, "--set", grace, "--set", "fleet.processes.grace_s=300"
    )
    await held(said)
    await until(deaf.exists, "the consumer hears no SIGTERM")
    process.send_signal(signal.SIGINT)
    port = int(said["url"].rpartition(":")[2])
    await until(lambda: not listens(port), "the engine has heard the first")
    assert process.returncode is None
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == 130
    assert engines.worker_pids() == []


async def test_a_killed_engine_adopts_its_held_worker_and_ends_nothing(engines: Engines) -> None:
    process, said = await engines.start()
    session = await held(said)
    before = engines.worker_pids()
    process.kill()
    await process.wait()
    assert engines.worker_pids() == before
    _, said = await engines.start()
    key = key_of(said)
    async with vast_client(said["url"], key) as client:
        endpoint = await client.get_endpoint("null-local")
        (row,) = await endpoint.get_workers()
        assert row.reqs_working == 1
        session.endpoint = endpoint
        assert await session.is_open()
    assert engines.worker_pids() == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--set", "endpoint.null-local.target_util=7"), "target_util"),
        (("--set", "nonsense"), "KEY=VALUE"),
        (("--config", "/no/such/file.toml"), "/no/such/file.toml"),
    ],
)
async def test_a_wrong_configuration_is_one_sentence(engines: Engines, flags: tuple[str, ...], said: str) -> None:
    process = await engines.begin(*flags)
    _, err = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode in (1, 2)
    assert said in err.decode()
    assert "Traceback" not in err.decode()
