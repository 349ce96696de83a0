"""The Vast fleet over a stub of Vast's interface: the conformance kit, what is lost on the way, money, and bad input."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.fleets.base import Fleet, FleetError, InstanceState, Resources, ShortageError
from nullworker.fleets.vast import fleet, rest, renting, watching
from nullworker.fleets.vast.fleet import VastFleet
from nullworker.testing.fleets import check_fleet, plain_spec
from tests.integration.process_fleets import spec
from tests.integration.vast.fake_vast import KEY, FakeVast, offer
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from nullworker.fleets.base import Notice

RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub has no limits on calls, and does at once what Vast takes seconds for."""
    monkeypatch.setattr(rest, "SPACING_S", dict.fromkeys(rest.SPACING_S, 0.0))
    for module, name, seconds in (
        (rest, "PAUSE_S", 0.01),
        (fleet, "SCHEDULED_S", 0.2),
        (fleet, "POLL_S", 0.02),
        (renting, "LOST_S", 0.5),
        (renting, "LOST_POLL_S", 0.02),
    ):
        monkeypatch.setattr(module, name, seconds)


@dataclass
class Account:
    vast: FakeVast
    settings: dict[str, Any]
    exits: list[tuple[int, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    fleets: list[VastFleet] = field(default_factory=list)

    async def open(self, mark: str = "mark", **settings: Any) -> VastFleet:
        opened = await VastFleet.open(
            {**self.settings, **settings}, mark, lambda *exited: self.exits.append(exited), self.notices.append
        )
        self.fleets.append(opened)
        return opened


@pytest.fixture
async def account(tmp_path: Path) -> AsyncIterator[Account]:
    async with FakeVast(tmp_path) as vast:
        key = tmp_path / "key"
        key.write_text(KEY + "\n")
        settings = {
            "state_dir": tmp_path / "state",
            "url": vast.url,
            "api_key_file": str(key),
            "repository": "https://example.com/nullworker.git",
            "gpu_name": "RTX_4090",
            "price_per_hour_max": 0.5,
            "spend_per_day_max": 100.0,
            "instances_s": 0.1,
        }
        made = Account(vast, settings)
        yield made
        for each in made.fleets:
            await each.close()


async def states(of: Fleet) -> dict[int, InstanceState]:
    return {each.worker_id: each.state for each in await of.list()}


async def test_it_passes_the_conformance_kit(account: Account) -> None:
    async def make_fleet(mark: str, on_exit: Callable[[int, str], None]) -> Fleet:
        return await VastFleet.open(account.settings, mark, on_exit)

    async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
        account.vast.crash(worker_id, mark)

    @contextlib.asynccontextmanager
    async def shortage(_fleet: Fleet, _mark: str) -> AsyncIterator[None]:
        kept, account.vast.offers = account.vast.offers, []
        yield
        account.vast.offers = kept

    result = await check_fleet(
        make_fleet,
        crash=crash,
        shortage=shortage,
        make_spec=plain_spec,
        settings=account.settings,
        lag_s=5.0,
        quiet_s=0.15,
    )
    assert result.left_out == ()
    assert account.vast.instances == {}
