"""The core's driver on an asyncio event loop: its calls are futures, its clock is the loop's, its orders go to fleets.

Everything that happens comes through `AsyncDriver.handle`, on the event loop's thread, one event after another: calls
from clients and workers, fleets' answers and lists, time. `nullworker.core.driver` says what is done for each event.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from typing import TYPE_CHECKING, Protocol

from nullworker.core import views
from nullworker.core.commands import Create, Grant
from nullworker.core.driver import HOLD_S, LIST_PERIOD_S, Driver
from nullworker.core.events import FleetListed
from nullworker.core.journal import described
from nullworker.core.worker import WorkerState
from nullworker.wire import tasks
from nullworker.wire.errors import WireError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nullworker.core.commands import Command, Refuse
    from nullworker.core.driver import Order
    from nullworker.core.engine import Engine
    from nullworker.core.events import Event
    from nullworker.engine.fleet_orders import FleetOrders
    from nullworker.fleets.base import Instance

    Call = asyncio.Future[Grant | Refuse | None]

#: In these a worker is where it will stay until it is stopped.
_SETTLED = frozenset({WorkerState.READY, WorkerState.HELD, WorkerState.DRAINING, WorkerState.ERROR})


log = logging.getLogger(__name__)


class EngineFailedError(WireError):
    """The core has failed, and the engine ends; what it answers could be wrong."""

    status = 503
    error = "engine_failed"

    def __init__(self) -> None:
        super().__init__("", "The engine has failed and ends; ask again once it is started again.")


class DriverRecorder(Protocol):
    """What writes down what the core does (`nullworker.engine.recorder.Recorder`)."""

    def decided(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """An event was handled, and nothing is carried out yet."""

    def commit(self, engine: Engine) -> None:
        """Writes down what was decided since the last time: it must survive a kill from now on."""

    def answered(self, engine: Engine) -> None:
        """The calls that waited for `commit` are answered."""

    def handled(self, engine: Engine, event: Event, now: float, commands: Sequence[Command]) -> None:
        """An event was handled, and its commands are carried out."""

    def failed(self, event: Event, now: float, error: Exception) -> str:
        """The core failed at an event; returns where that can be read."""


class AsyncDriver:
    """Feeds one core. Made inside a running event loop."""

    def __init__(
        self,
        orders: FleetOrders,
        recorder: DriverRecorder | None = None,
        on_failure: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Takes what is around the core.

        Args:
            orders: carries out orders to fleets.
            recorder: writes down what the core does; None: nothing does.
            on_failure: called with a sentence when the core has failed and this driver has ended.
        """
        self._loop = asyncio.get_running_loop()
        self._orders = orders
        self._recorder = recorder
        self._on_failure = on_failure
        self._driver: Driver[Call] = Driver(self)
        self._has_failed = False
        self._uncommitted: list[tuple[Call, Grant]] = []  # answered when they are committed
        self._commit_is_planned = False
        self._lists: list[asyncio.Task[None]] = []
        #: The address (host:port) of each worker, by its id, where its fleet reports one.
        self.addresses: dict[int, str] = {}
        #: What each worker costs an hour, running and for its storage, by its id, where its fleet tells.
        self.prices: dict[int, tuple[float | None, float | None]] = {}
        self._listed: dict[str, tuple[int, ...]] = {}  # by fleet: the workers whose addresses it reported
        self.engine = self._driver.engine
        #: The time of the core.
        self.now = self._loop.time
        #: Told how long the core took for each event, in seconds.
        self.on_decided: Callable[[float], object] = lambda _: None
        orders.driver = self

    # --------------------------------------------------------------------------------------------------------- events

    def handle(self, event: Event) -> list[Command]:
        """Lets the core handle one event and carries out what it commands; after `close`, does nothing.

        Raises:
            EngineFailedError: the core failed at this event, or at one before it.
        """
        if self._has_failed:
            raise EngineFailedError
        return self._driver.handle(event)

    def report(self, event: Event) -> None:
        """As `handle`, for callers that wait for no answer."""
        with contextlib.suppress(EngineFailedError):
            self.handle(event)

    def order_ended(
        self, worker_id: int, verb: str, error: str = "", *, definite: bool = True, short: bool = False
    ) -> None:
        """A fleet answers an order.

        Args:
            worker_id: the worker that the order is about.
            verb: ``create``, ``start``, ``stop`` or ``destroy``.
            error: why it was not carried out; "": it was.
            definite: whether an order that failed was certainly not carried out.
            short: whether a creation failed for there is no place now.
        """
        with contextlib.suppress(EngineFailedError):
            self._driver.order_ended(worker_id, verb, error, definite=definite, short=short)

    @property
    def holding(self) -> int:
        """How many /route/ calls are held open now."""
        return len(self._driver.calls)

    async def ask(
        self, endpoint_id: int, request_idx: int, cost: float, replay_timeout_s: float, hold_s: float = HOLD_S
    ) -> Grant | Refuse | None:
        """Asks for a worker and waits for it.

        Cancelled (the client hung up), it reports to the core that the waiter is gone.

        Args:
            endpoint_id: the endpoint whose worker is asked for.
            request_idx: the request that asks.
            cost: what it takes of a worker's perf.
            replay_timeout_s: how long it keeps its place after an answer that it still waits.
            hold_s: the answer comes no later than this.

        Returns:
            The grant or the refusal; None: it still waits.

        Raises:
            EngineFailedError: the core failed.
        """
        if self._has_failed:
            raise EngineFailedError
        if self._driver.has_ended:
            return None
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
        return self._loop.call_at(when, self._call_back, callback, *arguments)

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: object) -> asyncio.TimerHandle:
        """Plans a call for later."""
        return self._loop.call_later(delay_s, self._call_back, callback, *arguments)

    def _call_back(self, callback: Callable[..., object], *arguments: object) -> None:
        try:
            callback(*arguments)
        except EngineFailedError:
            pass
        except Exception as error:
            log.exception("a planned call failed")
            self.end_engine(tasks.failed("A call that the engine had planned", error))

    def decided(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Notes what must not be lost."""
        self.on_decided(self._loop.time() - now)
        if self._recorder is not None:
            self._recorder.decided(event, now, commands)
            if not commands or self._commit_is_planned:
                return
            if any(isinstance(command, (Create, Grant)) for command in commands):
                self._commit_is_planned = True
                # Planned before the orders of this event are given, so done before any of them is begun: an order is a
                # task, and the loop begins what was planned in its order.
                self._loop.call_soon(self._commit)

    def answer(self, call: Call, _request_idx: int, answer: Grant | Refuse | None) -> None:
        """Answers a held call: a grant once it is committed, together with all others of this turn of the loop."""
        if isinstance(answer, Grant) and self._recorder is not None:
            self._uncommitted.append((call, answer))
        elif not call.done():
            call.set_result(answer)

    def _commit(self) -> None:
        self._commit_is_planned = False
        if self._recorder is not None and not self._has_failed:
            try:
                self._commit_to(self._recorder)
            except Exception as error:
                log.exception("what was decided could not be committed")
                self.end_engine(tasks.failed("Writing down what the core decided", error))

    def _commit_to(self, recorder: DriverRecorder) -> None:
        recorder.commit(self.engine)
        for call, grant in self._uncommitted:
            if not call.done():
                call.set_result(grant)
        self._uncommitted.clear()
        # After the answers are sent, which is planned already.
        self._loop.call_soon(self._call_back, recorder.answered, self.engine)

    def order(self, order: Order) -> None:
        """Gives an order to its fleet."""
        self.addresses.pop(order.worker_id, None)
        self._orders.give(order)

    def handled(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Writes down what changed."""
        if self._recorder is not None:
            self._recorder.handled(self.engine, event, now, commands)

    def failed(self, event: Event, now: float, error: Exception) -> None:
        """Answers the held calls that the engine ends, writes down at what, and has it end."""
        self._refuse_calls()
        try:
            where = "" if self._recorder is None else self._recorder.failed(event, now, error)
        except Exception as second:
            log.exception("what led to a failure of the core could not be written down")
            where = f"what led to it could not be written down ({described(second)})"
        self.end_engine(f"The engine's core failed at {type(event).__name__} ({described(error)}); {where}.")
        raise EngineFailedError from error

    def end_engine(self, sentence: str) -> None:
        """Something failed that the engine cannot do without: refuses all calls, and has it end with ``sentence``."""
        self._refuse_calls()
        self._on_failure(
            f"{sentence} The engine ends; workers and consumers go on, and when it is started again it adopts them."
        )

    def _refuse_calls(self) -> None:
        self._has_failed = True
        # Grants that are not committed may come of the fault; who asks again is given one by the next engine.
        for call in (*(call for call, _ in self._uncommitted), *self._driver.end().values()):
            if not call.done():
                call.set_exception(EngineFailedError())
        self._uncommitted.clear()

    # ---------------------------------------------------------------------------------------------------------- lists

    def start_listing(self, period_s: float = LIST_PERIOD_S) -> None:
        """Begins to list every fleet's instances, now and every ``period_s`` seconds."""
        for fleet in self._orders.fleets:
            listing = tasks.repeat(functools.partial(self.list_once, fleet), period_s, f"Listing fleet {fleet}")
            self._lists.append(tasks.watch(listing, f"The listing of fleet {fleet}", self.end_engine))

    async def list_once(self, fleet: str) -> None:
        """Lists one fleet's instances. No answer changes nothing."""
        asked_at = self.now()
        instances = await self._orders.list(fleet)
        if instances is not None:
            self._note_addresses(fleet, asked_at, instances)
            self._note_prices(instances)
            self.report(FleetListed(fleet, asked_at, tuple((i.worker_id, i.state.value) for i in instances)))

    def _note_addresses(self, fleet: str, asked_at: float, instances: Iterable[Instance]) -> None:
        """Keeps the addresses that a fleet reports, of settled workers only: one that starts may still move."""
        for gone in self._listed.pop(fleet, ()):
            self.addresses.pop(gone, None)
        settled = {
            i.worker_id: i.address
            for i in instances
            if i.address
            and (worker := views.worker_ref(self.engine, i.worker_id)) is not None
            and worker.state in _SETTLED
            and worker.state_since < asked_at
        }
        self.addresses.update(settled)
        self._listed[fleet] = tuple(settled)

    def _note_prices(self, instances: Iterable[Instance]) -> None:
        """Keeps what instances cost, where the place tells: prices of rented machines differ, and change."""
        there = views.worker_ids(self.engine)
        told = {
            i.worker_id: (i.price_per_hour, i.storage_price_per_hour)
            for i in instances
            if i.price_per_hour is not None or i.storage_price_per_hour is not None
        }
        if told or self.prices:
            self.prices = {i: price for i, price in {**self.prices, **told}.items() if i in there}

    async def close(self) -> None:
        """Stops feeding the core; held calls are answered that their requests still wait."""
        self._commit()
        if self._recorder is not None and not self._has_failed:
            self._recorder.answered(self.engine)
        for call in self._driver.end().values():
            if not call.done():
                call.set_result(None)
        for task in self._lists:
            task.cancel()
        await asyncio.gather(*self._lists, return_exceptions=True)
