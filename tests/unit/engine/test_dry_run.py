"""A dry run decides what an engine would, and gives its orders to nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine.config import EndpointConfig, EngineConfig, WorkergroupConfig
from nullworker.engine.dry_run import COMPLAINT, DryFleet, scratch, would
from nullworker.engine.server import Server
from nullworker.fleets.base import Fleet, FleetError, InstanceSpec, InstanceState
from nullworker.views.billing import Price
from tests.kit.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.engine.decisions import Decision


async def test_it_decides_and_starts_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    parameters = replace(TESTED_PARAMETERS, cold_workers=2)
    group = WorkergroupConfig(consumer="false", price_per_hour=0.4)
    real = EngineConfig("127.0.0.1", 0, tmp_path / "state", (EndpointConfig("null-test", parameters, (group,)),))
    (tmp_path / "state").mkdir()
    (tmp_path / "state/api_key").write_text("0123456789abcdef" * 3)
    decided: list[Decision] = []
    with scratch(real) as config:
        server = await Server.open(config, {}, dry_run=True)
        try:
            server.on_decision(decided.append)
            decided += server.decisions.about()
            assert server.keys.account_key.reveal() == "0123456789abcdef" * 3
            assert server._complaints()[0] == COMPLAINT
            await until(
                lambda: set(map(would, decided)) >= {f"would create worker {n}: {_why(decided, n)}" for n in (1, 2)}
            )
            fleet = server._orders.fleets["processes"] if server._orders is not None else None
            assert isinstance(fleet, DryFleet)
            await until(lambda: len(fleet._instances) == 2)
            assert not list(config.state.glob("logs/*"))
            # What an instance costs counts before its workergroup's price.
            fleet._instances[1] = replace(fleet._instances[1], price_per_hour=0.9)
            await server.driver.list_once("processes")
            (group_id,) = server.catalog.workergroups
            assert server._price(1, group_id) == Price(0.9, 0.0, "running")
            assert server._price(2, group_id) == Price(0.4, 0.0, "running")
            assert server._price(1, 99) is None
        finally:
            await server.close(destroy=False)
    assert not config.state.exists()
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["api_key"]


def _why(decided: list[Decision], worker_id: int) -> str:
    return next((d.reason for d in decided if (d.kind, d.worker_id) == ("create", worker_id)), "?")


async def test_its_fleet_remembers_what_would_be_there() -> None:
    fleet = await DryFleet.open({}, "", lambda *_: None)
    assert isinstance(fleet, Fleet)
    spec = InstanceSpec(3, "null-test", 2, "null", "http://here", "")
    await fleet.create(spec)
    await fleet.create(spec)
    (instance,) = await fleet.list()
    assert (instance.worker_id, instance.state, instance.workergroup_id) == (3, InstanceState.RUNNING, 2)
    await fleet.stop(3)
    assert (await fleet.list())[0].state is InstanceState.STOPPED
    await fleet.start(3)
    await fleet.destroy(3)
    await fleet.destroy(3)
    assert await fleet.list() == []
    with pytest.raises(FleetError, match="no worker 3"):
        await fleet.start(3)
