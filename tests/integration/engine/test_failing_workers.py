"""Workers that are killed, hang, fall ill, never get ready or crash: each is replaced, and the reason is told."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import psutil
import pytest
import pytest_asyncio
from aiohttp import web

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.engine.config import EndpointConfig, WorkergroupConfig
from tests.integration.engine.kit import Running, config, quick, running
from tests.kit.servers import end_server
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from nullworker.engine.decisions import Decision

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.promise("P12")]

#: A healthy worker reports every 10 s; here silence is judged soon after that.
UNRESPONSIVE_AFTER_S, SILENCE_FAILS_S = 14.0, 15.0


@pytest.fixture(scope="module", autouse=True)
def short_patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "UNRESPONSIVE_AFTER_S", UNRESPONSIVE_AFTER_S)
        patch.setattr(limits, "SILENCE_FAILS_S", SILENCE_FAILS_S)
        yield


class Health:
    """The health pages of consumers."""

    def __init__(self) -> None:
        self.status = {"falls-ill": 200, "never-ready": 503}
        self.asked = dict.fromkeys(self.status, 0)

    async def page(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        self.asked[name] += 1
        return web.Response(status=self.status[name])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def health() -> AsyncIterator[tuple[Health, str]]:
    health = Health()
    app = web.Application()
    app.router.add_get("/{name}", health.page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield health, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await end_server(runner)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory, health: tuple[Health, str]) -> AsyncIterator[Running]:
    """One engine with an endpoint for each way to fail: all of them fail at the same time."""
    _, url = health
    groups = {
        "hangs": WorkergroupConfig(),
        "is-killed": WorkergroupConfig(),
        "falls-ill": WorkergroupConfig(env={"BACKEND_HEALTH_URL": f"{url}/falls-ill"}),
        "never-ready": WorkergroupConfig(env={"BACKEND_HEALTH_URL": f"{url}/never-ready"}, boot_timeout_s=5.0),
        "crashes": WorkergroupConfig(env={"NULL_CONSUMER_GRACE": "soon"}),
    }
    endpoints = tuple(EndpointConfig(name, quick(min_load=100.0), (group,)) for name, group in groups.items())
    settings = replace(config(tmp_path_factory.mktemp("engine")), endpoints=endpoints)
    async with running(settings) as engine:
        yield engine


def states(engine: Running, name: str) -> dict[int, str]:
    pool = engine.server.driver.engine.state.endpoints[engine.endpoint_id(name)]
    return {worker.worker_id: worker.state.value for worker in pool.workers.values()}


def record(engine: Running, name: str, kind: str) -> list[Decision]:
    return [d for d in engine.server.decisions.about(endpoint_id=engine.endpoint_id(name)) if d.kind == kind]


async def one_ready(engine: Running, name: str) -> int:
    """The id of the endpoint's one ready worker, once it has one."""
    await until(lambda: list(states(engine, name).values()) == ["ready"], f"the worker of {name} is ready")
    return next(iter(states(engine, name)))


def pid_of(engine: Running, worker_id: int) -> int:
    directory = f"{os.sep}{worker_id}"
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # others end all the time
            if process.cwd().endswith(directory):
                found.append(process.pid)
    (pid,) = found
    return pid


async def replaced(engine: Running, name: str, worker_id: int) -> str:
    """Waits until another worker is ready in its place; returns why it failed."""
    await until(lambda: worker_id not in states(engine, name), f"worker {worker_id} is gone")
    assert await one_ready(engine, name) != worker_id
    (failure,) = [d for d in record(engine, name, "worker_failed") if d.worker_id == worker_id]
    return failure.reason


async def route_reason(engine: Running, name: str) -> str:
    """What /route/ answers to one who has to wait."""
    status, answer = await engine.call("POST", "/route/", {"endpoint": name, "cost": 100})
    assert status == 200
    return str(answer["reason"])


async def test_a_killed_worker_is_replaced(engine: Running) -> None:
    worker_id = await one_ready(engine, "is-killed")
    os.kill(pid_of(engine, worker_id), signal.SIGKILL)
    assert "SIGKILL" in await replaced(engine, "is-killed", worker_id)


async def test_a_hanging_worker_is_replaced_after_its_silence(engine: Running) -> None:
    worker_id = await one_ready(engine, "hangs")
    pid = pid_of(engine, worker_id)
    os.kill(pid, signal.SIGSTOP)
    reason = await replaced(engine, "hangs", worker_id)
    silent = re.match(r"no report for (\d+) s", reason)
    assert silent is not None, reason
    assert int(silent[1]) >= SILENCE_FAILS_S
    assert not psutil.pid_exists(pid), "a stopped process is ended, too"


async def test_a_worker_whose_health_check_fails_is_replaced(engine: Running, health: tuple[Health, str]) -> None:
    pages, _ = health
    worker_id = await one_ready(engine, "falls-ill")
    pages.status["falls-ill"] = 500
    await until(lambda: worker_id not in states(engine, "falls-ill"), "the ill worker is gone")
    pages.status["falls-ill"] = 200
    reason = await replaced(engine, "falls-ill", worker_id)
    assert "500" in reason or "health" in reason.lower(), reason


async def test_a_worker_that_never_gets_ready_is_given_up(engine: Running, health: tuple[Health, str]) -> None:
    pages, _ = health
    # On a busy machine a worker may not even ask before it is given up; a later one does.
    await until(lambda: pages.asked["never-ready"] > 0, "one asked for its consumer's health")
    await until(lambda: len(record(engine, "never-ready", "worker_failed")) >= 2, "two were given up")
    failure = record(engine, "never-ready", "worker_failed")[0]
    assert failure.cause == Cause.FAILED_BOOT.value


async def test_a_crash_loop_is_retried_ever_more_slowly_and_who_waits_is_told_why(engine: Running) -> None:
    await until(lambda: len(record(engine, "crashes", "create")) >= 4, "it was tried four times")
    at = [d.at_s for d in record(engine, "crashes", "create")]
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert pauses[0] >= 1.0
    assert pauses[1] >= 2.0
    assert pauses[2] >= 4.0
    assert "NULL_CONSUMER_GRACE" in record(engine, "crashes", "worker_failed")[0].reason
    assert "failed 3 times in a row" in record(engine, "crashes", "workergroup_backs_off")[2].reason
    told = ""
    for _ in range(5):  # /route/ answers after seconds, and may do so just when another one is coming up
        told = await route_reason(engine, "crashes")
        if "coming up" not in told:
            break
    assert "failed to start" in told
    assert "NULL_CONSUMER_GRACE" in told
