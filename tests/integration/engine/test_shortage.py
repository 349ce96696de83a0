"""More is wanted than the place has: who waits is told why and since when, and is served once there is room."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.client import NullClient
from nullworker.core import explain
from nullworker.engine.config import EndpointConfig, WorkergroupConfig
from nullworker.fleets import registry
from nullworker.fleets.base import EndsSoon
from tests.integration.engine.kit import ENDPOINT, config, endpoint_of, quick, running
from tests.kit.waiting import HANG_S, until

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.fleets.base import Fleet

OTHER = "null-other"


async def test_two_endpoints_share_one_gpu(tmp_path: Path) -> None:
    group = WorkergroupConfig(gpus=1)
    endpoints = tuple(EndpointConfig(name, quick(inactivity_timeout=0.0), (group,)) for name in (ENDPOINT, OTHER))
    settings = replace(config(tmp_path), endpoints=endpoints, fleets={"processes": {"gpus": 1, "grace_s": 2.0}})
    async with (
        running(settings) as engine,
        endpoint_of(engine) as endpoint,
        endpoint_of(engine, OTHER) as other,
    ):
        session = await endpoint.session(cost=100, lifetime=60)
        asking = asyncio.ensure_future(other.session(cost=100, lifetime=60))
        state = engine.server.driver.engine.state
        second, gone = engine.server.catalog.by_name[OTHER].endpoint_id, "has had no place since"
        await until(
            lambda: gone in explain.about_endpoint(engine.server.driver.engine, second, engine.server.driver.now()),
            "the second is told of the shortage",
        )
        (waiter,) = [idx for idx, each in state.reservations.items() if each.endpoint_id == second]
        why = explain.why_waiting(engine.server.driver.engine, waiter)
        assert "found no place" in why
        assert "the fleet processes has had no place since 20" in why
        assert "wants 1 GPU, and 0 of 1 are free (the others are held by worker 1)" in why
        _, told = await engine.call("GET", f"/api/v0/story/?about=request%20{waiter}")
        assert "has had no place since" in str(told)
        (mine,) = [g for g in state.workergroups.values() if g.spec.endpoint_id == second]
        mine.next_try_at += 1000.0  # by itself, the core would not try again in this test's time
        await session.close()
        served = await asking
        assert [w.workergroup.spec.workergroup_id for w in state.workers.values() if w.held] == [
            mine.spec.workergroup_id
        ]
        await served.close()


@pytest.mark.promise("P16")
async def test_a_dearer_workergroup_stands_in_after_its_time_and_goes_when_it_is_not_needed(tmp_path: Path) -> None:
    cheap = WorkergroupConfig(gpus=1, price_per_hour=1.0)
    dear = WorkergroupConfig(gpus=0, price_per_hour=3.0, fallback_after_s=2.0)
    endpoint_config = EndpointConfig(ENDPOINT, quick(inactivity_timeout=600.0), (cheap, dear))
    settings = replace(
        config(tmp_path), endpoints=(endpoint_config,), fleets={"processes": {"gpus": 1, "grace_s": 2.0}}
    )
    async with running(settings) as engine, endpoint_of(engine) as endpoint:
        core = engine.server.driver.engine

        def held_by(workergroup_id: int) -> list[int]:
            return [
                w.worker_id
                for w in core.state.workers.values()
                if w.held and w.workergroup.spec.workergroup_id == workergroup_id
            ]

        cheap_id, dear_id = core.state.workergroups
        first = await endpoint.session(cost=100, lifetime=60)
        assert len(held_by(cheap_id)) == 1
        asked_at = engine.server.driver.now()
        asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=60))
        await until(
            lambda: "is used in its place in" in explain.about_endpoint(core, 1, engine.server.driver.now()),
            "the second is told when the dearer one is used",
        )
        second = await asking
        assert engine.server.driver.now() >= asked_at + 2.0
        (stand_in,) = held_by(dear_id)
        await first.close()
        third = await endpoint.session(cost=100, lifetime=60)
        assert len(held_by(cheap_id)) == 1
        core.state.workergroups[cheap_id].failed_at -= 600.0  # the shortage was long ago
        await second.close()
        await until(lambda: stand_in not in core.state.workers, "it goes at once, not after inactivity_timeout")
        await third.close()


async def test_a_worker_of_which_the_place_gives_notice_gets_nothing_new(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine, endpoint_of(engine) as endpoint:
        session = await endpoint.session(cost=100, lifetime=60)
        engine.server._noticed("processes", EndsSoon(1, 300.0, "its time limit"))
        await until(lambda: engine.workers.get(1) == "error", "it is drained")
        assert await session.is_open(), "what it holds goes on"
        about = explain.about_worker(engine.server.driver.engine, 1, engine.server.driver.now())
        assert "its place ends it in 300 s: its time limit" in about
        second = await endpoint.session(cost=100, lifetime=60)
        assert {r.worker_id for r in engine.server.driver.engine.state.reservations.values()} == {1, 2}
        await session.close()
        await second.close()


async def test_the_holder_is_told_that_the_place_ends_the_worker(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine, NullClient(engine.url, engine.key) as client:
        reservation = await client.open(ENDPOINT, lifetime_s=60.0, check_s=0.2)
        engine.server._noticed("processes", EndsSoon(1, 300.0, "its time limit; 5 min"))
        told = await asyncio.wait_for(reservation.wait_place_ends(), HANG_S)
        assert told is not None
        assert told.reason == "its time limit; 5 min"
        assert 250 < (told.at - datetime.now(timezone.utc)).total_seconds() <= 300
        assert not reservation.is_closed
        await reservation.release()


async def test_a_notice_that_a_fleet_gives_while_the_engine_starts_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(config(tmp_path, quick(min_load=100.0)), destroy=False) as engine:
        await until(lambda: engine.workers == {1: "ready"})

    async def open_fleet(*arguments: Any) -> Fleet:
        arguments[-1](EndsSoon(1, 300.0, "its time limit"))
        return await registry.open_fleet(*arguments)

    monkeypatch.setattr("nullworker.engine.server.open_fleet", open_fleet)
    async with running(config(tmp_path, quick(min_load=100.0))) as engine:
        assert engine.server.surface.drains.reason(1) == "its place ends it in 300 s: its time limit"
