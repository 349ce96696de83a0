"""FleetOrders to fleets, carried out one after another for each worker and at the same time for different ones.

What a fleet answers, or fails to answer, comes back to the core as an event.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from nullworker.core.commands import Create, Destroy, Start
from nullworker.core.events import (
    InstanceCreated,
    InstanceExited,
    InstanceFailed,
    InstanceGone,
    InstanceStarted,
    InstanceStopped,
)
from nullworker.fleets.base import FleetError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from nullworker.core.commands import Stop
    from nullworker.core.events import Event
    from nullworker.fleets.base import Fleet, Instance, InstanceSpec

log = logging.getLogger(__name__)

#: A fleet that has not answered for so long is told so to the core; its answer is taken when it comes.
ANSWER_TIMEOUT_S = 600.0


class FleetOrders:
    """Carries out the core's orders. ``spec_of`` makes what a fleet needs to create a worker."""

    def __init__(
        self,
        fleets: Mapping[str, Fleet],
        spec_of: Callable[[Create], InstanceSpec],
        fleet_of: Callable[[int], str | None],
    ) -> None:
        self.fleets = dict(fleets)
        #: Where news goes; the driver sets it.
        self.report: Callable[[Event], object] = lambda _: None
        self._spec_of = spec_of
        self._fleet_of = fleet_of
        self._under_way: dict[int, tuple[str, asyncio.Task[None]]] = {}

    def give(self, order: Create | Start | Stop | Destroy) -> None:
        """Sets about an order. The same one given again while it is under way is not doubled."""
        verb = type(order).__name__.lower()
        worker_id = order.worker_id
        before = self._under_way.get(worker_id)
        if before is not None and before[0] == verb:
            return
        task = asyncio.get_running_loop().create_task(self._carry_out(order, verb, before[1] if before else None))
        self._under_way[worker_id] = (verb, task)
        task.add_done_callback(lambda done: self._done(worker_id, done))

    def _done(self, worker_id: int, task: asyncio.Task[None]) -> None:
        entry = self._under_way.get(worker_id)
        if entry is not None and entry[1] is task:
            del self._under_way[worker_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("an order to worker %d ended in a fault of ours", worker_id, exc_info=error)

    async def _carry_out(
        self, order: Create | Start | Stop | Destroy, verb: str, before: asyncio.Task[None] | None
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        worker_id = order.worker_id
        try:
            await asyncio.wait_for(self._call(order), ANSWER_TIMEOUT_S)
        except FleetError as error:
            news: Event = InstanceFailed(worker_id, verb, str(error), error.definite)
        except asyncio.TimeoutError:
            news = InstanceFailed(worker_id, verb, f"no answer for {ANSWER_TIMEOUT_S:g} s", definite=False)
        except Exception as error:
            log.exception("the fleet failed to %s worker %d", verb, worker_id)
            news = InstanceFailed(worker_id, verb, f"{type(error).__name__}: {error}", definite=False)
        else:
            news = _DONE[verb](worker_id)
        # The entry goes first: what the core answers to the news may be a new order for the same worker.
        self._under_way.pop(worker_id, None)
        self.report(news)

    def _call(self, order: Create | Start | Stop | Destroy) -> Coroutine[object, object, None]:
        if isinstance(order, Destroy):
            name: str | None = order.fleet
        else:
            name = self._fleet_of(order.worker_id)
        fleet = self.fleets.get(name or "")
        if fleet is None:
            raise FleetError(f"There is no fleet called {name!r}; name one of {', '.join(self.fleets)}.")
        if isinstance(order, Create):
            return fleet.create(self._spec_of(order))
        if isinstance(order, Start):
            return fleet.start(order.worker_id)
        if isinstance(order, Destroy):
            return fleet.destroy(order.worker_id)
        return fleet.stop(order.worker_id)

    def exited(self, worker_id: int, detail: str) -> None:
        """A fleet says that an instance ended by itself."""
        self.report(InstanceExited(worker_id, detail))

    async def list(self, name: str) -> list[Instance] | None:
        """What a fleet has; None when it did not say."""
        try:
            return await asyncio.wait_for(self.fleets[name].list(), ANSWER_TIMEOUT_S)
        except (FleetError, asyncio.TimeoutError) as error:
            log.warning("fleet %s did not say what it has: %s", name, error)
            return None

    async def close(self, *, destroy: bool, grace_s: float | None = None) -> None:
        """Lets go of the fleets; with ``destroy``, ends all that they run first."""
        tasks = [task for _, task in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        closing = [fleet.close(destroy=destroy, grace_s=grace_s) for fleet in self.fleets.values()]
        for error in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(error, FleetError):
                log.error("%s", error)
            elif isinstance(error, BaseException):
                raise error


_DONE: dict[str, Callable[[int], Event]] = {
    "create": InstanceCreated,
    "start": InstanceStarted,
    "stop": InstanceStopped,
    "destroy": InstanceGone,
}
