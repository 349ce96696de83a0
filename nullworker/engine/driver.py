"""The core's driver on an asyncio event loop: its calls are futures, its clock is the loop's, its orders go to fleets.

Everything that happens comes through `AsyncDriver.handle`, on the event loop's thread, one event after another: calls
from clients and workers, fleets' answers and lists, time. `nullworker.core.driver` says what is done for each event.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from nullworker.core.commands import Grant, Refuse
from nullworker.core.driver import HOLD_S, LIST_PERIOD_S, Driver
from nullworker.core.events import FleetListed
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nullworker.core.commands import Command
    from nullworker.core.driver import Order
    from nullworker.core.engine import Engine
    from nullworker.core.events import Event
    from nullworker.engine.fleet_orders import FleetOrders
    from nullworker.fleets.base import Instance

    Call = asyncio.Future[Grant | Refuse | None]

#: In these a worker is where it will stay until it is stopped.
_SETTLED = frozenset({WorkerState.READY, WorkerState.HELD, WorkerState.DRAINING, WorkerState.ERROR})

log = logging.getLogger(__name__)


class DriverRecorder(Protocol):
    """What writes down what the core does (`nullworker.engine.recorder.Recorder`)."""

    def granted(self, grant: Grant) -> None:
        """A grant is about to be answered: it must survive a kill from now on."""

    def handled(self, engine: Engine, event: Event, now: float, commands: Sequence[Command]) -> None:
        """An event was handled, and its commands are carried out."""


class AsyncDriver:
    """Feeds one core. Made inside a running event loop."""

    def __init__(self, orders: FleetOrders, recorder: DriverRecorder | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._orders = orders
        self._recorder = recorder
        self._driver: Driver[Call] = Driver(self)
        self._lists: list[asyncio.Task[None]] = []
        #: Where fleets say that their workers are reached, host:port by worker id; not all of them know.
        self.addresses: dict[int, str] = {}
        self._listed: dict[str, tuple[int, ...]] = {}  # whose addresses came from which fleet
        self.engine = self._driver.engine
        self.handle = self._driver.handle
        #: The time of the core.
        self.now = self._loop.time
        orders.driver = self._driver

    @property
    def holding(self) -> int:
        """How many /route/ calls are held open now."""
        return len(self._driver.calls)

    async def ask(
        self, endpoint_id: int, request_idx: int, cost: float, replay_timeout_s: float, hold_s: float = HOLD_S
    ) -> Grant | Refuse | None:
        """Asks for a worker and waits for it.

        Cancelled (the client hung up), it tells the core that the waiter has gone.

        Args:
            endpoint_id: the endpoint whose worker is asked for.
            request_idx: the request that asks.
            cost: what it takes of a worker's perf.
            replay_timeout_s: how long it keeps its place after an answer that it still waits.
            hold_s: the answer comes no later than this.

        Returns:
            The grant or the refusal; None: it still waits.
        """
        call: Call = self._loop.create_future()
        self._driver.ask(call, endpoint_id, request_idx, cost, replay_timeout_s, hold_s)
        if call.done():
            return call.result()
        try:
            return await call
        except asyncio.CancelledError:
            self._driver.hang_up(call, request_idx)
            raise

    # ------------------------------------------------------------------------------------------- what the driver needs

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        """Plans a call for a time of the loop's."""
        return self._loop.call_at(when, callback, *arguments)

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        """Plans a call for later."""
        return self._loop.call_later(delay_s, callback, *arguments)

    def decided(self, _event: Event, _now: float, commands: Sequence[Command]) -> None:
        """Writes grants down before they are answered."""
        if self._recorder is not None:
            for command in commands:
                if isinstance(command, Grant):
                    self._recorder.granted(command)

    def answer(self, call: Call, _request_idx: int, answer: Grant | Refuse | None) -> None:
        """Answers a held call."""
        if not call.done():
            call.set_result(answer)

    def order(self, order: Order) -> None:
        """Gives an order to its fleet."""
        self.addresses.pop(order.worker_id, None)
        self._orders.give(order)

    def handled(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Writes down what changed."""
        if self._recorder is not None:
            self._recorder.handled(self.engine, event, now, commands)

    def failed(self, event: Event, _now: float, error: Exception) -> None:
        """Says that the core failed."""
        log.critical("the core failed at %s", type(event).__name__, exc_info=error)

    # ---------------------------------------------------------------------------------------------------------- lists

    def start_listing(self, period_s: float = LIST_PERIOD_S) -> None:
        """Begins to ask every fleet what it has, now and every ``period_s`` seconds."""
        for fleet in self._orders.fleets:
            self._lists.append(self._loop.create_task(self._list_for_ever(fleet, period_s)))

    async def _list_for_ever(self, fleet: str, period_s: float) -> None:
        while True:
            await self.list_once(fleet)
            await asyncio.sleep(period_s)

    async def list_once(self, fleet: str) -> None:
        """Asks one fleet what it has. No answer is no news."""
        asked_at = self.now()
        instances = await self._orders.list(fleet)
        if instances is not None:
            self._note_addresses(fleet, asked_at, instances)
            self.handle(FleetListed(fleet, asked_at, tuple((i.worker_id, i.state.value) for i in instances)))

    def _note_addresses(self, fleet: str, asked_at: float, instances: Iterable[Instance]) -> None:
        """Keeps where the fleet has its workers; of those alone that have settled, as one that starts may yet move."""
        for gone in self._listed.pop(fleet, ()):
            self.addresses.pop(gone, None)
        workers = self.engine.state.workers
        settled = {
            i.worker_id: i.address
            for i in instances
            if i.address
            and (worker := workers.get(i.worker_id)) is not None
            and worker.state in _SETTLED
            and worker.state_since < asked_at
        }
        self.addresses.update(settled)
        self._listed[fleet] = tuple(settled)

    async def close(self) -> None:
        """Stops feeding the core; held calls are answered that their requests still wait."""
        for call in self._driver.end().values():
            if not call.done():
                call.set_result(None)
        for task in self._lists:
            task.cancel()
        await asyncio.gather(*self._lists, return_exceptions=True)
