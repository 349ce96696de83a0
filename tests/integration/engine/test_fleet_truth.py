"""What a fleet has and what the engine knows: unknown instances, destroys that fail, stopped workers that come back."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from nullworker.core import limits
from nullworker.core.causes import Cause
from nullworker.fleets.base import FleetError, InstanceSpec
from nullworker.fleets.processes import ProcessFleet
from tests.integration.engine.kit import Running, config, endpoint_of, quick, running
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.engine.decisions import Decision
    from nullworker.fleets.base import Fleet

FLEET = "processes"


def fleet_of(engine: Running) -> Fleet:
    orders = engine.server._orders
    assert orders is not None
    return orders.fleets[FLEET]


def spec(engine: Running, worker_id: int) -> InstanceSpec:
    token = engine.server.keys.worker_token(worker_id).reveal()
    return InstanceSpec(worker_id, "null-test", 2, "null", engine.url, token)


def pids(directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        try:
            if str(directory) in process.cwd():
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def record(engine: Running, kind: str) -> list[Decision]:
    return [d for d in engine.server.decisions.about() if d.kind == kind]


@pytest.mark.promise("P9")
async def test_an_unknown_instance_is_destroyed_after_a_grace_period_and_anothers_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIST_LAG_S", 1.0)
    theirs = await ProcessFleet.open({"state_dir": str(tmp_path / "theirs")}, "another-mark", lambda *_: None)
    async with running(config(tmp_path / "ours", quick(max_workers=0))) as engine:
        try:
            await theirs.create(spec(engine, 500))
            await fleet_of(engine).create(spec(engine, 500))
            await engine.server.driver.list_once(FLEET)
            assert pids(tmp_path / "ours"), "there is a grace"
            while pids(tmp_path / "ours"):
                await engine.server.driver.list_once(FLEET)
                await asyncio.sleep(0.05)
            (order,) = record(engine, "destroy")[:1]
            assert order.cause == Cause.UNKNOWN_INSTANCE.value
            assert pids(tmp_path / "theirs")
        finally:
            await theirs.close(destroy=True, grace_s=0.1)


@pytest.mark.promise("P9")
async def test_a_termination_that_fails_is_ordered_again_until_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ORDER_RETRY_MAX_S", 0.2)
    async with running(config(tmp_path, quick())) as engine, endpoint_of(engine) as endpoint:
        fleet, tried = fleet_of(engine), 0
        really = fleet.destroy

        async def destroy(worker_id: int) -> None:
            nonlocal tried
            tried += 1
            if tried <= 3:
                raise FleetError("The provider is out of order.", definite=tried != 2)
            await really(worker_id)

        monkeypatch.setattr(fleet, "destroy", destroy)
        await (await endpoint.session(cost=100, lifetime=60)).close()
        await until(lambda: engine.workers == {}, "it is gone in the end")
        assert tried == 4
        failures = record(engine, "order_failed")
        assert len(failures) == 3
        assert "out of order" in failures[0].reason


@pytest.mark.promise("P5")
async def test_an_inactive_worker_is_really_stopped_and_is_the_one_that_comes_back(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(cold_workers=1))) as engine, endpoint_of(engine) as endpoint:
        await until(lambda: engine.workers == {1: "inactive"}, "the spare worker is inactive")
        assert pids(tmp_path) == []
        session = await endpoint.session(cost=100, lifetime=60)
        assert engine.workers == {1: "held"}
        await session.close()
        await until(lambda: engine.workers == {1: "inactive"}, "it is inactive again")
        assert pids(tmp_path) == []
    assert [len(record(engine, kind)) for kind in ("create", "start", "stop")] == [1, 1, 2]


PREPARES_S = 0.5
BACKEND = f"""
import pathlib, time
if not pathlib.Path("prepared").exists():
    time.sleep({PREPARES_S})  # a model is downloaded
with pathlib.Path("starts").open("a") as file:
    file.write("prepared\\n" if pathlib.Path("prepared").exists() else "new\\n")
pathlib.Path("prepared").touch()
from nullworker.worker.main import main
raise SystemExit(main())
"""


async def test_an_inactive_worker_keeps_its_directory_and_is_spared_what_a_new_one_must_do(tmp_path: Path) -> None:
    backend = tmp_path / "workers" / "preparing" / "worker.py"
    backend.parent.mkdir(parents=True)
    backend.write_text(BACKEND)
    settings = config(tmp_path / "state", quick(cold_workers=1), backend="preparing")
    fleets = {FLEET: {"grace_s": 2.0, "workers_path": [str(tmp_path)]}}
    async with running(replace(settings, fleets=fleets)) as engine, endpoint_of(engine) as endpoint:
        await until(lambda: engine.workers == {1: "inactive"}, "the spare worker is inactive")
        session = await endpoint.session(cost=100, lifetime=60)
        (starts,) = (tmp_path / "state").rglob("starts")
        assert starts.read_text().split() == ["new", "prepared"]
        await session.close()
    (create,), (ready, *_) = record(engine, "create"), record(engine, "worker_ready")
    assert ready.at_s - create.at_s > PREPARES_S
