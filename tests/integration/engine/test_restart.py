"""An engine is killed in mid-flight and started again: all is as it was; no client loses its worker or its place.

``make soak-restart`` runs this fifty times in a row; NULLWORKER_SOAK is how often.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.integration.engine.engines import Engines, key_of
from tests.integration.engine.kit import vast_client
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.promise("P11"), pytest.mark.timeout(180)]

ENDPOINT = "null-local"
#: A worker reports at least this often; nothing may shrink before all had time to.
REPORTING_PERIOD_S = 10.0


@pytest.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    engines = Engines(tmp_path / "state")
    yield engines
    await engines.end()


class Waiter:
    """Asks for a worker as the SDK does, but for going on when the engine is away; then holds it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, key: str) -> None:
        self._http, self._url, self._key = http, url, key
        self.request_idx = 0
        self.reason = ""
        self.got_at = 0.0
        self.grant: dict[str, Any] = {}
        self._session_id = ""
        self.task = asyncio.ensure_future(self._wait())

    async def _wait(self) -> None:
        while not self.got_at:
            body = {"endpoint": ENDPOINT, "api_key": self._key, "cost": 100, "request_idx": self.request_idx}
            try:
                async with self._http.post(f"{self._url}/route/", json={**body, "replay_timeout": 60}) as response:
                    answer = await response.json()
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
                continue
            assert response.status == 200, answer
            self.request_idx, self.reason = answer["request_idx"], answer.get("reason", "")
            if "url" in answer:
                self.grant = answer
                create = {"auth_data": answer, "session_id": None, "payload": {"lifetime": 60}}
                async with self._http.post(f"{answer['url']}/session/create", json=create) as response:
                    assert response.status == 201, await response.text()
                    self._session_id = (await response.json())["session_id"]
                self.got_at = time.monotonic()

    async def release(self) -> None:
        end = {"session_id": self._session_id, "session_auth": self.grant}
        async with self._http.post(f"{self.grant['url']}/session/end", json=end) as response:
            assert response.status == 200, await response.text()


async def decisions(http: aiohttp.ClientSession, url: str, key: str) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    async with http.get(f"{url}/api/v0/story/?about={ENDPOINT}", headers=headers) as response:
        story = await response.json()
    return list(story["decisions"])


async def waiters(http: aiohttp.ClientSession, url: str, key: str) -> int:
    headers = {"Authorization": f"Bearer {key}"}
    async with http.get(f"{url}/api/v0/status/", headers=headers) as response:
        (endpoint,) = (await response.json())["endpoints"]
    return int(endpoint["waiting"])


async def workers(http: aiohttp.ClientSession, url: str, key: str) -> list[dict[str, Any]]:
    async with http.post(f"{url}/get_endpoint_workers/", json={"id": 1, "api_key": key}) as response:
        return list(await response.json())


async def put(http: aiohttp.ClientSession, url: str, key: str, **parameters: float) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    async with http.put(f"{url}/api/v0/endptjobs/1/", json=parameters, headers=headers) as response:
        assert response.status == 200, await response.text()


@pytest.mark.parametrize("_round", range(int(os.environ.get("NULLWORKER_SOAK", "1"))))
async def test_killed_in_mid_flight_everything_goes_on(engines: Engines, _round: int) -> None:
    flags = ("--set", f"endpoint.{ENDPOINT}.max_workers=2", "--set", f"endpoint.{ENDPOINT}.inactivity_timeout=1")
    process, said = await engines.start(*flags)
    url, key = said["url"], key_of(said)
    async with vast_client(url, key) as client, aiohttp.ClientSession() as http:
        endpoint = await client.get_endpoint(ENDPOINT)
        held = await asyncio.gather(*(endpoint.session(cost=100, lifetime=120) for _ in range(2)))
        waiting = []
        for place in range(1, 4):
            waiting.append(Waiter(http, url, key))
            while await waiters(http, url, key) != place:  # noqa: ASYNC110 - the engine is another process
                await asyncio.sleep(0.02)
        await until(lambda: all(waiter.request_idx for waiter in waiting), "each knows its place")
        before = set(engines.worker_pids())
        await put(http, url, key, max_workers=3)
        await until(lambda: len(engines.worker_pids()) == 3, "a worker boots for the first of them")
        boots = set(engines.worker_pids())
        assert before < boots

        process.kill()
        await process.wait()
        await held[1].close()  # while the engine is away
        assert set(engines.worker_pids()) == boots
        process, _ = await engines.start(*flags, port=url.rpartition(":")[2])
        back_at = time.time()  # noqa: TID251 - the record is dated for people

        # The worker that booted and the one that was given back go to those who came first.
        await asyncio.wait_for(asyncio.gather(waiting[0].task, waiting[1].task), HANG_S)
        assert not waiting[2].got_at
        assert waiting[0].request_idx < waiting[1].request_idx < waiting[2].request_idx
        assert await held[0].is_open()
        await held[0].close()
        await asyncio.wait_for(waiting[2].task, HANG_S)
        assert {waiter.grant["url"] for waiter in waiting} == {row["url"] for row in await workers(http, url, key)}
        assert set(engines.worker_pids()) == boots, "no worker came or went"

        for waiter in waiting:
            await waiter.release()
        await until(lambda: not engines.worker_pids(), "the fleet is back at zero")
        record = await decisions(http, url, key)
    orders = [d for d in record if d["kind"] in ("create", "start", "stop", "destroy")]
    created = [d["worker_id"] for d in orders if d["kind"] == "create"]
    assert sorted(set(created)) == [1, 2, 3]
    since = [d for d in orders if d["at_s"] >= back_at and d["kind"] != "create"]
    assert min(d["at_s"] for d in since) - back_at >= REPORTING_PERIOD_S
    process.terminate()
    assert await asyncio.wait_for(process.wait(), HANG_S) == 0


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "killed_after_s",
    [*(pytest.param(after_s, marks=pytest.mark.long) for after_s in (0.0, 0.005, 0.05)), 0.02],
)
async def test_killed_while_it_creates_workers_there_are_never_more_than_max_workers(
    engines: Engines, killed_after_s: float
) -> None:
    """Creations are written down before they are ordered, so the next start counts those that were under way."""
    flags = ("--set", f"endpoint.{ENDPOINT}.max_workers=3")
    process, said = await engines.start(*flags)
    url, key = said["url"], key_of(said)
    async with aiohttp.ClientSession() as http:
        waiting = [Waiter(http, url, key) for _ in range(5)]
        await until(engines.worker_pids, "a worker is created")
        await asyncio.sleep(killed_after_s)
        process.kill()
        await process.wait()
        process, _ = await engines.start(*flags, port=url.rpartition(":")[2])
        most, before = 0, set[int]()
        looks = 100  # after the third grant, for what would be created beyond them
        while looks:
            looks -= sum(1 for waiter in waiting if waiter.got_at) >= 3
            now = set(engines.worker_pids())
            most, before = max(most, len(now & before)), now  # not a process that is forked now to become another one
            await asyncio.sleep(0.01)
        for waiter in waiting:
            if not waiter.got_at:
                waiter.task.cancel()
        assert most == 3


async def test_what_was_being_deleted_goes_on_being_deleted_and_no_client_loses_a_worker(engines: Engines) -> None:
    """An endpoint, a workergroup and an update of workers, each begun while a worker is held, and then a kill."""
    config = engines.state.parent / "nullworker.toml"
    names = ("endpoint-goes", "group-goes", "updated")
    parameters = "min_load = 0\ntarget_util = 1.0\ncold_workers = 0\ncold_mult = 1\nmax_workers = 2\n"
    table = f'{parameters}\n[[endpoint.workergroup]]\nbackend = "null"\n'
    config.write_text("\n".join(f'[[endpoint]]\nname = "{name}"\n{table}' for name in names))
    process, said = await engines.start("--config", str(config))
    url, key = said["url"], key_of(said)
    async with (
        vast_client(url, key) as client,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"}) as http,
    ):

        async def state() -> dict[str, dict[int, str]]:
            async with http.get(f"{url}/api/v0/status/") as response:
                endpoints = (await response.json())["endpoints"]
            return {row["name"]: {w["id"]: w["state"] for w in row["workers_list"]} for row in endpoints}

        held = {}
        for name in names:
            held[name] = await (await client.get_endpoint(name)).session(cost=100, lifetime=300)
        ids = {endpoint.name: endpoint.id for endpoint in await client.get_endpoints()}
        async with http.get(f"{url}/api/v0/workergroups/") as response:
            groups = {row["endpoint_id"]: row["id"] for row in (await response.json())["results"]}
        async with http.delete(f"{url}/api/v0/endptjobs/{ids['endpoint-goes']}/") as response:
            assert response.status == 200, await response.text()
        async with http.delete(f"{url}/api/v0/workergroups/{groups[ids['group-goes']]}/") as response:
            assert response.status == 200, await response.text()
        update = {"workergroup_id": groups[ids["updated"]]}
        async with http.post(f"{url}/update_workers/", json=update) as response:
            assert response.status == 200, await response.text()
        before = await state()
        assert [set(before[name].values()) for name in names] == [{"draining"}] * 3
        process.kill()
        await process.wait()

        process, _ = await engines.start("--config", str(config), port=url.rpartition(":")[2])
        assert await state() == before
        for session in held.values():
            assert await session.is_open()
            await session.close()

        async def is_over() -> bool:
            now = await state()
            return (
                "endpoint-goes" not in now and not now["group-goes"] and not (now["updated"].keys() & before["updated"])
            )

        while not await is_over():  # noqa: ASYNC110 - the engine is another process
            await asyncio.sleep(0.1)
        async with http.get(f"{url}/api/v0/workergroups/") as response:
            left = [row["endpoint_id"] for row in (await response.json())["results"]]
        assert left == [ids["updated"]]
