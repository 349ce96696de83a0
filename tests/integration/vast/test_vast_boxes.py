"""What runs on a rented machine: the commands that it starts with, the real worker, and the dead man's switch."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from aiohttp import web

from nullworker.core import explain
from nullworker.fleets.vast import dead_mans_switch, rest, settling
from nullworker.fleets.vast.fleet import VastFleet
from nullworker.testing.fleets import check_fleet
from nullworker.wire import paths
from tests.integration.engine.kit import config, endpoint_of, quick, running
from tests.integration.process_fleets import spec
from tests.integration.vast.fake_vast import KEY, FakeVast
from tests.kit.servers import end_server
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nullworker.fleets.base import Fleet
    from nullworker.testing.fleet_kit import OnExit, OnNotice


@pytest.fixture(autouse=True)
def no_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "SPACING_S", dict.fromkeys(rest.SPACING_S, 0.0))


@contextlib.asynccontextmanager
async def vast_in(path: Path, **variables: str) -> AsyncIterator[tuple[FakeVast, dict[str, Any]]]:
    """A place whose instances are processes, and a table for it."""
    async with FakeVast(path, runs=True) as vast:
        vast.variables = variables
        (path / "key").write_text(KEY)
        table = {
            "url": vast.url,
            "api_key_file": str(path / "key"),
            "repository": "https://example.com/nullworker.git",
            "price_per_hour_max": 0.5,
            "spend_per_day_max": 0.5,
            "instances_s": 0.2,
        }
        yield vast, table


async def test_a_reservation_is_served_by_a_rented_machine_and_a_second_waits_for_money(tmp_path: Path) -> None:
    async with vast_in(tmp_path) as (vast, table):
        settings = config(tmp_path / "engine", quick(max_workers=2), fleet="vast")
        settings = replace(settings, fleets={"vast": table})
        async with running(settings) as engine, endpoint_of(engine) as endpoint:
            session = await endpoint.session(cost=100, lifetime=300)
            (instance,) = vast.instances.values()
            assert session.url == f"http://127.0.0.1:{instance.ports['3000/tcp'][0]['HostPort']}"
            asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=300))
            core = engine.server.driver.engine
            workergroup = next(iter(core.state.workergroups.values()))
            await until(lambda: "Nothing more is rented today" in workergroup.last_error)
            about = explain.about_endpoint(core, engine.endpoint_id(), engine.server.driver.now())
            assert "the fleet vast has had no place since 20" in about
            assert instance.process is not None
            assert instance.log is not None
            await session.close()
            second = await asking
            assert second.url == session.url, "the worker that was held serves the next"
            await second.close()
            await until(lambda: engine.workers == {})
        assert vast.instances == {}
        assert len(vast.rented) == 1


def make_repository(path: Path) -> Path:
    """A git repository whose start_server.sh tells what it was given, and ends with exit code 3."""
    path.mkdir()
    script = 'echo "backend $1, worker $CONTAINER_ID of instance $NULLWORKER_INSTANCE_ID, ${CONTAINER_API_KEY:-no} key"'
    (path / "start_server.sh").write_text(script + "\nexit 3\n")
    git = ["git", "-C", str(path), "-c", "user.name=test", "-c", "user.email=test@example.com"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "test"], ["branch", "v1"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    return path


async def test_a_machine_clones_the_repository_and_stops_itself_when_its_worker_has_ended(tmp_path: Path) -> None:
    repository = make_repository(tmp_path / "repository")
    exits: list[tuple[int, str]] = []
    async with vast_in(tmp_path, NULLWORKER_SWITCH_S="0.1") as (vast, table):
        vast.has_repository = False
        settings = {**table, "state_dir": tmp_path, "repository": f"file://{repository}", "ref": "v1"}
        opened = await VastFleet.open(settings, "mark", lambda *exited: exits.append(exited))
        await opened.create(spec(7, "null"))
        (instance,) = vast.instances.values()
        assert instance.log is not None
        await until(lambda: exits)
        log = (await opened.read_log(7, 1000)).decode()
        assert f"backend null, worker 7 of instance {instance.contract_id}, no key" in log
        assert "The worker has ended with exit code 3" in log
        assert exits == [(7, "it was stopped, and not by this engine: its worker has ended, or someone stopped it")]
        assert instance.intended == "stopped"
        await opened.close(destroy=True)


async def test_a_machine_that_no_engine_has_any_more_destroys_itself(tmp_path: Path) -> None:
    exits: list[tuple[int, str]] = []
    async with vast_in(tmp_path, NULLWORKER_SILENCE_S="1", NULLWORKER_SWITCH_S="0.1") as (vast, table):
        settings = {**table, "state_dir": tmp_path}
        opened = await VastFleet.open(settings, "mark", lambda *exited: exits.append(exited))
        await opened.create(spec(1, "null"))  # whose engine is not there
        assert len(vast.instances) == 1
        await until(lambda: vast.instances == {})
        await until(lambda: exits)
        assert exits == [(1, "its instance is gone (someone has destroyed it, or it has itself)")]
        await opened.close(destroy=True)


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_machines_that_run_real_workers_pass_the_conformance_kit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "POLL_S", 0.02)
    async with vast_in(tmp_path) as (vast, table):
        settings = {**table, "state_dir": tmp_path / "state", "spend_per_day_max": 1000.0}

        async def make_fleet(mark: str, on_exit: OnExit, on_notice: OnNotice) -> Fleet:
            return await VastFleet.open(settings, mark, on_exit, on_notice)

        async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
            (instance,) = vast.of(worker_id, mark)

            def workers() -> list[psutil.Process]:
                assert instance.process is not None
                found = psutil.Process(instance.process.pid).children(recursive=True)
                with contextlib.suppress(psutil.NoSuchProcess):  # one of them has ended meanwhile
                    return [each for each in found if "workers.null.worker" in each.cmdline()]
                return []

            await until(workers)
            workers()[0].kill()
            await until(lambda: instance.intended == "stopped")

        @contextlib.asynccontextmanager
        async def shortage(_fleet: Fleet, _mark: str) -> AsyncIterator[None]:
            kept, vast.offers = vast.offers, []
            yield
            vast.offers = kept

        result = await check_fleet(
            make_fleet, crash=crash, shortage=shortage, faults=vast.faults(), settings=settings, lag_s=5, quiet_s=0.3
        )
        assert result.left_out == ()
        assert vast.instances == {}


@pytest.mark.parametrize("spared_by", ["the engine", "what the worker holds", "nothing"])
async def test_the_switch_asks_the_engine_and_spares_what_is_held(spared_by: str) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    async def engine(request: web.Request) -> web.Response:
        asked.append((request.path, await request.json()))
        return web.json_response({}, status=200 if spared_by == "the engine" else 404)

    async def reservation(_: web.Request) -> web.Response:
        return web.json_response({"held": spared_by == "what the worker holds"})

    async def end(request: web.Request) -> web.Response:
        asked.append((request.path, {"key": request.headers["Authorization"]}))
        return web.json_response({"success": True})

    app = web.Application()
    app.router.add_post("/delete_requests/", engine)
    app.router.add_get("/reservation", reservation)
    app.router.add_delete("/api/v0/instances/5/", end)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    environment = {
        "CONTAINER_ID": "7",
        "MASTER_TOKEN": "token",
        "REPORT_ADDR": f"http://127.0.0.1:9, http://127.0.0.1:{port}/",
        "NULL_CONTROL_PORT": str(port),
        "NULLWORKER_VAST_URL": f"http://127.0.0.1:{port}",
        "NULLWORKER_INSTANCE_ID": "5",
        "CONTAINER_API_KEY": "its own",
        "NULLWORKER_SILENCE_S": "0.3",
        "NULLWORKER_ASK_PATH": paths.DELETE_REQUESTS,
        "NULLWORKER_SWITCH_S": "0.05",
    }
    switch = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(dead_mans_switch.__file__)), env=environment, stdout=asyncio.subprocess.DEVNULL
    )
    ends = ("/api/v0/instances/5/", {"key": "Bearer its own"})
    if spared_by == "nothing":
        await until(lambda: ends in asked)
    else:
        await until(lambda: len(asked) > 12)
        assert ends not in asked
    assert asked[0] == ("/delete_requests/", {"worker_id": 7, "mtoken": "token", "requests": []})
    switch.kill()
    await switch.wait()
    await end_server(runner)
