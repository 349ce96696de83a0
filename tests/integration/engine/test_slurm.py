"""An engine with null workers as jobs of Slurm, and the unmodified client."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nullworker.core import explain
from tests.integration.engine.kit import config, endpoint_of, quick, running
from tests.integration.slurm_cluster import cluster_in, needs_slurm
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs_slurm


@pytest.mark.long
async def test_a_reservation_is_served_by_a_job_and_a_second_waits_for_slurm_s_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster_in(tmp_path, monkeypatch) as cluster:
        table = {name: value for name, value in cluster.settings.items() if name != "state_dir"}
        settings = config(tmp_path / "engine", quick(max_workers=3), fleet="slurm")
        settings = replace(settings, fleets={"slurm": {**table, "backlog": 1}})
        async with running(settings) as engine, endpoint_of(engine) as endpoint:
            session = await endpoint.session(cost=100, lifetime=300)
            assert session.url.startswith("http://127.0.0.1:")
            cluster.scontrol("update", "NodeName=ALL", "State=DRAIN", "Reason=test")
            asking = [asyncio.ensure_future(endpoint.session(cost=100, lifetime=300)) for _ in range(2)]
            core = engine.server.driver.engine
            workergroup = next(iter(core.state.workergroups.values()))
            await until(lambda: "waits in Slurm's queue" in workergroup.last_error)
            assert "the fleet slurm has had no place since 20" in workergroup.last_error
            assert await session.is_open(), "what runs on a node that is drained goes on"
            about = explain.about_endpoint(core, engine.endpoint_id(), engine.server.driver.now())
            assert "2 wait" in about
            cluster.scontrol("update", "NodeName=ALL", "State=RESUME")
            for each in (session, *(await asyncio.gather(*asking))):
                await each.close()
            await until(lambda: engine.workers == {})
        assert cluster.running() == []
