"""Workers on machines that are reached by SSH, with real sshd's and real processes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import InstanceState
from nullworker.fleets.ssh import SshFleet
from nullworker.testing.fleets import check_fleet
from tests.integration.process_fleets import kill
from tests.integration.ssh_hosts import Boxes, boxes_in, needs_sshd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from nullworker.fleets.base import Fleet

pytestmark = needs_sshd
RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture
async def boxes(tmp_path: Path) -> AsyncIterator[Boxes]:
    async with boxes_in(tmp_path) as boxes:
        yield boxes


@pytest.mark.parametrize("count", [1, pytest.param(3, marks=pytest.mark.long)])
async def test_it_passes_the_conformance_kit(tmp_path: Path, count: int) -> None:
    async with boxes_in(tmp_path, count) as boxes:

        async def make_fleet(mark: str, on_exit: Callable[[int, str], None]) -> Fleet:
            return await SshFleet.open(boxes.settings, mark, on_exit)

        async def crash(_fleet: Fleet, mark: str, worker_id: int) -> None:
            await kill(boxes.host_of(worker_id, mark).pid(worker_id, mark))

        @contextlib.asynccontextmanager
        async def shortage(fleet: Fleet, _mark: str) -> AsyncIterator[None]:
            assert isinstance(fleet, SshFleet)
            hosts = dict(fleet._hosts)
            for name, host in hosts.items():
                fleet._hosts[name] = type(host)(host=name, slots=1)
            yield
            fleet._hosts.update(hosts)

        result = await check_fleet(
            make_fleet, crash=crash, shortage=shortage, make_spec=boxes.spec, settings=boxes.settings, quiet_s=0.2
        )
        assert result.left_out == ()
        assert boxes.left() == []
