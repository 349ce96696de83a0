"""Waits until Vast has done what it was told: a start that finds a machine, a stop after which nothing runs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.fleets.base import FleetError
from nullworker.fleets.vast.rows import Phase, phase_of, row_of

if TYPE_CHECKING:
    from nullworker.fleets.vast.rest import VastApi

#: How long a machine may take to be found for an instance that is started, and an instance to stop.
SCHEDULED_S, STOP_S = 30.0, 120.0
POLL_S = 2.0


@dataclass(frozen=True, slots=True)
class Started:
    """What became of a start."""

    has_machine: bool
    machine_id: int = 0  # of the host that has no room for it; 0: not known


async def has_machine(api: VastApi, contract_id: int) -> Started:
    """Whether a machine is found for an instance that was started, before long. Raises FleetError.

    Args:
        api: is asked.
        contract_id: the instance.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        row = row_of(await api.instance(contract_id), 0)
        if row is None:
            return Started(has_machine=False)
        if phase_of(row) is not Phase.SCHEDULED:
            return Started(has_machine=True)
        if loop.time() - began >= SCHEDULED_S:
            return Started(has_machine=False, machine_id=row.machine_id)
        await asyncio.sleep(POLL_S)


async def has_stopped(api: VastApi, worker_id: int, contract_id: int) -> None:
    """Returns when an instance that was told to stop runs no more.

    Args:
        api: is asked.
        worker_id: its worker.
        contract_id: the instance.

    Raises:
        FleetError: it goes on, or Vast does not answer.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        row = row_of(await api.instance(contract_id), 0)
        if row is None or row.actual_status != "running":
            return
        if loop.time() - began >= STOP_S:
            raise FleetError(
                f"The instance of worker {worker_id} has not stopped {STOP_S:g} s after it was told to.", definite=False
            )
        await asyncio.sleep(POLL_S)
