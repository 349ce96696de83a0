"""A lost or damaged store, with workers held: no job ends for it, and it is said in a sentence what is lost."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from nullworker.engine.store import LOG_SUFFIX
from tests.integration.engine.engines import Engines, key_of
from tests.integration.engine.kit import vast_client
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = [pytest.mark.promise("P2"), pytest.mark.timeout(120)]

ENDPOINT = "null-local"
FLAGS = ("--set", f"endpoint.{ENDPOINT}.max_workers=2", "--set", f"endpoint.{ENDPOINT}.inactivity_timeout=1")
#: The grace of unknown instances (longer than the 10 s between two reports) and the time between lists, made short.
LIST_LAG_S = 12.0
QUICK = f"""
from nullworker.core import driver, limits
limits.LIST_LAG_S = {LIST_LAG_S}
limits.QUIET_S = 4.0
driver.LIST_PERIOD_S = 0.3
from nullworker.cli.main import main
main()
"""


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(tmp_path / "state")
    yield engines
    await engines.end()


def everything(state: Path) -> None:
    for file in state.glob("engine.db*"):
        file.unlink()


def the_log(state: Path) -> None:
    (state / f"engine.db{LOG_SUFFIX}").unlink()


async def endpoint_status(url: str, key: str) -> tuple[dict[str, Any], list[str]]:
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.get(f"{url}/api/v0/status/") as response:
        status = await response.json()
    return next(row for row in status["endpoints"] if row["name"] == ENDPOINT), status["complaints"]


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    ("lose", "said_of_it"), [(everything, "was missing"), pytest.param(the_log, "are lost", marks=pytest.mark.long)]
)
async def test_workers_that_are_held_are_taken_over_and_none_is_created_beyond_max_workers(
    engines: Engines, lose: Callable[[Path], None], said_of_it: str
) -> None:
    process, said = await engines.start(*FLAGS)
    url, key = said["url"], key_of(said)
    async with vast_client(url, key) as client:
        endpoint = await client.get_endpoint(ENDPOINT)
        held = await asyncio.gather(*(endpoint.session(cost=100, lifetime=120) for _ in range(2)))
        before = engines.worker_pids()
        process.kill()
        await process.wait()
        lose(engines.state)
        process, _ = await engines.start(*FLAGS, port=url.rpartition(":")[2], main=("-c", QUICK))
        third = asyncio.ensure_future(endpoint.session(cost=100, lifetime=120))
        await asyncio.sleep(LIST_LAG_S + 2)
        assert engines.worker_pids() == before
        assert [await session.is_open() for session in held] == [True, True]
        while True:  # each reports within 10 s
            row, complaints = await endpoint_status(url, key)
            if {worker["state"] for worker in row["workers_list"]} == {"held"}:
                break
            await asyncio.sleep(0.2)
        assert len(row["workers_list"]) == 2
        assert [line for line in complaints if said_of_it in line]
        await held[0].close()
        session = await asyncio.wait_for(third, HANG_S)
        assert engines.worker_pids() == before
        await session.close()
        await held[1].close()
        await until(lambda: not engines.worker_pids(), "the fleet is back at zero")


async def test_a_held_worker_of_an_endpoint_that_is_lost_is_left_until_it_is_free(engines: Engines) -> None:
    process, said = await engines.start(*FLAGS)
    url, key = said["url"], key_of(said)
    headers = {"Authorization": f"Bearer {key}"}
    async with vast_client(url, key) as client, aiohttp.ClientSession(headers=headers) as http:
        new = {"endpoint_name": "mine", "target_util": 1.0, "cold_workers": 0, "max_workers": 1, "cold_mult": 1.0}
        async with http.post(f"{url}/api/v0/endptjobs/", json=new) as response:
            assert response.status == 200, await response.text()
        async with http.post(f"{url}/api/v0/workergroups/", json={"endpoint_name": "mine"}) as response:
            assert response.status == 200, await response.text()
        held = await (await client.get_endpoint("mine")).session(cost=100, lifetime=120)
        process.kill()
        await process.wait()
        everything(engines.state)
        process, _ = await engines.start(*FLAGS, port=url.rpartition(":")[2], main=("-c", QUICK))
        await asyncio.sleep(LIST_LAG_S + 2)
        assert await held.is_open()
        assert engines.worker_pids()
        await held.close()
        await until(lambda: not engines.worker_pids(), "it is destroyed")


async def refusal(engines: Engines) -> str:
    process = await engines.begin(*FLAGS)
    _, err = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == 1, err.decode()
    return err.decode()


async def test_a_damaged_page_is_one_sentence_and_ends_no_worker(engines: Engines) -> None:
    process, said = await engines.start(*FLAGS)
    async with vast_client(said["url"], key_of(said)) as client:
        held = await (await client.get_endpoint(ENDPOINT)).session(cost=100, lifetime=120)
        process.kill()
        await process.wait()
        path = engines.state / "engine.db"
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            root = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'workers'").fetchone()[0]
            page_bytes = db.execute("PRAGMA page_size").fetchone()[0]
        with path.open("r+b") as file:
            file.seek((root - 1) * page_bytes)
            file.write(b"\xff" * page_bytes)
        text = await refusal(engines)
        assert text.count("\n") == 1
        assert "is damaged" in text
        assert await held.is_open()
        assert engines.worker_pids()


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE workers SET state = ?", "of no kind"),
        pytest.param("UPDATE workers SET workergroup_id = ?", "many", marks=pytest.mark.long),
        ("UPDATE reservations SET cost = ?", "much"),
        pytest.param("UPDATE endpoints SET parameters = ?", '{"max_workers": "many"}', marks=pytest.mark.long),
        pytest.param("UPDATE workergroups SET endpoint_id = ?", 99, marks=pytest.mark.long),
        ("UPDATE meta SET value = ?", "text"),
    ],
)
async def test_a_value_that_cannot_be_is_one_sentence_or_is_left_out(
    engines: Engines, statement: str, value: object
) -> None:
    process, said = await engines.start(*FLAGS)
    async with vast_client(said["url"], key_of(said)) as client:
        held = await (await client.get_endpoint(ENDPOINT)).session(cost=100, lifetime=120)
        process.kill()
        await process.wait()
        with contextlib.closing(sqlite3.connect(engines.state / "engine.db")) as db, db:
            assert db.execute(statement, (value,)).rowcount
        process = await engines.begin("--json", *FLAGS, port=said["url"].rpartition(":")[2], main=("-c", QUICK))
        assert process.stdout is not None
        assert process.stderr is not None
        if await asyncio.wait_for(process.stdout.readline(), HANG_S):
            await asyncio.sleep(LIST_LAG_S + 2)
            assert process.returncode is None
            process.kill()
        err = (await asyncio.wait_for(process.stderr.read(), HANG_S)).decode()
        assert "Traceback" not in err
        assert await held.is_open()
