"""Workers that fleets have and that the store does not know: a start takes them over, and nothing of theirs ends.

A store may be lost, or brought back from an old copy, while workers hold sessions. A fleet that says what each instance
was created for gives them back to their endpoints, where they count against `max_workers`. The others stay unknown, and
the core leaves those alone that report that they hold something.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nullworker.core.events import RestoredWorker
from nullworker.core.worker import WorkerState
from nullworker.fleets.base import InstanceState

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from nullworker.engine.catalog import Catalog, WorkergroupEntry
    from nullworker.engine.fleet_orders import FleetOrders
    from nullworker.fleets.base import Instance

log = logging.getLogger(__name__)

#: A worker is taken over in the state that its instance is in; one that has ended by itself is nothing to take over.
_TAKEN_OVER_AS = {InstanceState.RUNNING: WorkerState.READY, InstanceState.STOPPED: WorkerState.INACTIVE}


async def workers_beyond_store(orders: FleetOrders, catalog: Catalog, known: Container[int]) -> list[RestoredWorker]:
    """The workers that fleets have and the store does not, of endpoints that exist.

    Args:
        orders: asks the fleets.
        catalog: the endpoints and workergroups that they may belong to.
        known: the ids of the workers that the store has with their workergroups.
    """
    found: list[RestoredWorker] = []
    for fleet in orders.fleets:
        for instance in await orders.list(fleet) or ():
            state = _TAKEN_OVER_AS.get(instance.state)
            if instance.worker_id in known or state is None:
                continue
            group = _group_of(catalog, fleet, instance)
            if group is not None:
                found.append(RestoredWorker(instance.worker_id, group.workergroup_id, state.value, "", 0.0))
            else:
                log.warning(
                    "fleet %s has worker %d, created for endpoint %s, which is not here; it goes when it is free",
                    fleet,
                    instance.worker_id,
                    instance.endpoint or "(unknown)",
                    extra={"action": "worker_unknown"},
                )
    if found:
        log.warning(
            "%d workers that the store does not know are taken over as their fleets list them: %s",
            len(found),
            ", ".join(str(worker.worker_id) for worker in found[:20]),
            extra={"action": "workers_taken_over"},
        )
    return found


def _group_of(catalog: Catalog, fleet: str, instance: Instance) -> WorkergroupEntry | None:
    """The workergroup that it was created for, or that has its place: ids of a new store may differ."""
    endpoint = catalog.by_name.get(instance.endpoint)
    if endpoint is None:
        return None
    groups: Iterable[WorkergroupEntry] = [
        group
        for group in catalog.workergroups.values()
        if group.endpoint_id == endpoint.endpoint_id and group.config.fleet == fleet
    ]
    same = (group for group in groups if group.workergroup_id == instance.workergroup_id)
    return next(same, next(iter(groups), None))
