"""An operator changes endpoints that are in use: each takes effect at once, and no client loses its worker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nullworker.core import explain
from nullworker.engine.config import EndpointConfig, WorkergroupConfig
from tests.integration.engine.kit import ENDPOINT, Running, config, endpoint_of, quick, running
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


async def put(engine: Running, **parameters: Any) -> None:
    status, answer = await engine.call("PUT", f"/api/v0/endptjobs/{engine.endpoint_id()}/", parameters)
    assert status == 200, answer


async def join(engine: Running, perf: float) -> int:
    """Reports as a worker of that perf would; returns its number."""
    _, invited = await engine.call("GET", f"/api/v0/invite/?endpoint={ENDPOINT}")
    report = {"loadtime": 1.0, "max_perf": perf, "url": "http://127.0.0.1:9", "cur_load": 0.0}
    body = {"id": invited["container_id"], "mtoken": invited["master_token"], **report}
    status, answer = await engine.call("POST", "/worker_status/", body)
    assert status == 200, answer
    return int(invited["container_id"])


async def test_suspended_nothing_is_recruited_and_active_again_who_waited_is_served(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine, endpoint_of(engine) as endpoint:
        await put(engine, endpoint_state="suspended")
        asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=60))
        state = engine.server.driver.engine.state
        await until(lambda: bool(state.reservations), "it waits")
        (idx,) = state.reservations
        assert "suspended" in explain.why_waiting(engine.server.driver.engine, idx)
        assert engine.workers == {}
        await put(engine, endpoint_state="active")
        session = await asking
        assert list(engine.workers.values()) == ["held"]
        await put(engine, endpoint_state="suspended")
        await session.close()
        await until(lambda: engine.workers == {1: "ready"}, "it is free")
        await asyncio.sleep(3)  # inactivity_timeout is 1 s
        assert engine.workers == {1: "ready"}, "and nothing is released"
        await put(engine, endpoint_state="active")
        await until(lambda: engine.workers == {}, "the fleet is back at zero")


async def test_stopped_all_become_inactive_the_held_one_when_it_is_released(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(min_load=200.0))) as engine, endpoint_of(engine) as endpoint:
        await until(lambda: sorted(engine.workers.values()) == ["ready", "ready"], "both are ready")
        session = await endpoint.session(cost=100, lifetime=60)
        await put(engine, endpoint_state="stopped")
        await until(lambda: sorted(engine.workers.values()) == ["held", "inactive"], "the free one is stopped")
        assert await session.is_open()
        await session.close()
        await until(lambda: sorted(engine.workers.values()) == ["inactive", "inactive"], "and then the other")
        await put(engine, endpoint_state="active")
        await until(lambda: sorted(engine.workers.values()) == ["ready", "ready"], "both are back")
        kinds = [d.kind for d in engine.server.decisions.about() if d.kind in ("create", "start")]
        assert kinds == ["create", "create", "start", "start"]


async def test_a_lowered_and_a_raised_cap_take_effect_at_once(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick(max_workers=1))) as engine, endpoint_of(engine) as endpoint:
        first = await endpoint.session(cost=100, lifetime=60)
        asking = asyncio.ensure_future(endpoint.session(cost=100, lifetime=60))
        await until(lambda: len(engine.server.driver.engine.state.reservations) == 2, "it waits")
        await put(engine, max_workers=2)
        second = await asking
        await put(engine, max_workers=0)
        assert await first.is_open()
        assert await second.is_open()
        await first.close()
        await second.close()
        await until(lambda: engine.workers == {}, "and then none may be")


async def test_of_several_workergroups_the_cheapest_that_has_room_grows(tmp_path: Path) -> None:
    groups = (WorkergroupConfig(price_per_hour=0.9), WorkergroupConfig(price_per_hour=0.3, max_workers=1))
    settings = replace(config(tmp_path), endpoints=(EndpointConfig(ENDPOINT, quick(), groups),))
    async with running(settings) as engine, endpoint_of(engine) as endpoint:
        dear, cheap = sorted(engine.server.catalog.workergroups)
        first = await endpoint.session(cost=100, lifetime=60)
        second = await endpoint.session(cost=100, lifetime=60)
        rows = {row.id: row for row in await endpoint.get_workers()}
        state = engine.server.driver.engine.state
        assert sorted(rows) == [1, 2]
        assert [state.workers[n].workergroup.spec.workergroup_id for n in (1, 2)] == [cheap, dear]
        await first.close()
        await second.close()
        status, _ = await engine.call("DELETE", f"/api/v0/autojobs/{cheap}/")
        assert status == 200
        await until(lambda: engine.workers == {}, "all are gone")
        third = await endpoint.session(cost=100, lifetime=60)
        assert state.workers[3].workergroup.spec.workergroup_id == dear
        await third.close()


async def test_workers_of_different_perf_count_by_what_they_measured(tmp_path: Path) -> None:
    async with running(config(tmp_path, quick())) as engine:
        strong = await join(engine, perf=300.0)
        await put(engine, min_load=300.0)
        await asyncio.sleep(0.5)
        assert list(engine.workers) == [strong], "one of perf 300 is enough for a load of 300"
        await put(engine, min_load=301.0)
        await until(lambda: engine.workers == {strong: "ready", 1: "ready"}, "for more, there is another")
        await asyncio.sleep(0.5)
        assert len(engine.workers) == 2
