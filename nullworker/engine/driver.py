"""The one loop that feeds the core and carries out what it commands.

Everything that happens comes through `Driver.handle`, on the event loop's thread, one event after another: calls from
clients and workers, news from fleets, time. What the core commands is carried out at once where it is an answer, and
given to the fleets where it is an order. What it changed is written down behind the answer; a grant before it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from nullworker.core.commands import Create, Destroy, Grant, Note, Refuse, Start, Stop
from nullworker.core.engine import Engine
from nullworker.core.events import Asked, FleetListed, HoldEnded, TimePassed, WaiterGone
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nullworker.core.commands import Command
    from nullworker.core.events import Event
    from nullworker.engine.fleet_orders import FleetOrders
    from nullworker.fleets.base import Instance

#: A held /route/ call is answered after this long: the SDK hangs up at 10 s, and takes that for an error.
HOLD_S = 8.0
#: So many calls are held at once; who asks beyond that is told to ask again at once, and keeps its place all the same.
HELD_MAX = 10_000
#: How often each fleet is asked what it has.
LIST_PERIOD_S = 30.0
#: Due times are met this much late rather than early, so that the core finds them due.
_TIMER_SLACK_S = 0.0005

#: A hold that ends so late says that the whole process was suspended; what came in meanwhile is read first.
_LATE_S = 1.0
_CATCH_UP_S = 0.2

#: In these a worker is where it will stay until it is stopped.
_SETTLED = frozenset({WorkerState.READY, WorkerState.HELD, WorkerState.DRAINING, WorkerState.ERROR})

log = logging.getLogger(__name__)


class Recorder(Protocol):
    """Whoever writes down what the core does (`nullworker.engine.recorder.Recorder`; tests may leave it out)."""

    def granted(self, grant: Grant) -> None:
        """A grant is about to be answered: it must survive our being killed from now on."""

    def handled(self, engine: Engine, event: Event, now: float, commands: Sequence[Command]) -> None:
        """An event was handled."""


class Driver:
    """Feeds one core. Made inside a running event loop, whose clock is the core's."""

    def __init__(self, orders: FleetOrders, recorder: Recorder | None = None) -> None:
        self.engine = Engine()
        self._loop = asyncio.get_running_loop()
        self._orders = orders
        self._recorder = recorder
        self._held: dict[int, asyncio.Future[Grant | Refuse | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._lists: list[asyncio.Task[None]] = []
        self._closed = False
        #: Where fleets say that their workers are reached, host:port by worker id; not all of them know.
        self.addresses: dict[int, str] = {}
        self._listed: dict[str, tuple[int, ...]] = {}  # whose addresses came from which fleet
        orders.report = self.handle

    # --------------------------------------------------------------------------------------------------------- events

    def handle(self, event: Event) -> list[Command]:
        """Lets the core take one event in, and carries out what it commands."""
        if self._closed:
            return []
        now = self._loop.time()
        commands = self.engine.handle(event, now)
        for command in commands:
            self._carry_out(command)
        if self._recorder is not None:
            self._recorder.handled(self.engine, event, now, commands)
        self._set_timer()
        return commands

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Grant):
            if self._recorder is not None:
                self._recorder.granted(command)
            self._answer(command.request_idx, command)
        elif isinstance(command, Refuse):
            self._answer(command.request_idx, command)
        elif isinstance(command, (Create, Start, Stop, Destroy)):
            self.addresses.pop(command.worker_id, None)
            self._orders.give(command)
        elif isinstance(command, Note):
            pass  # the recorder has it

    def _answer(self, request_idx: int, answer: Grant | Refuse) -> None:
        waiting = self._held.pop(request_idx, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    # ----------------------------------------------------------------------------------------------------------- time

    def _set_timer(self) -> None:
        due = self.engine.wake_at()
        if due is None or (self._timer_at is not None and self._timer_at <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._loop.call_at(due + _TIMER_SLACK_S, self._time_passed)

    def _time_passed(self) -> None:
        self._timer = self._timer_at = None
        self.handle(TimePassed())
        self._set_timer()

    # -------------------------------------------------------------------------------------------------------- waiters

    async def ask(
        self, endpoint_id: int, request_idx: int, cost: float, replay_timeout_s: float, hold_s: float = HOLD_S
    ) -> Grant | Refuse | None:
        """Asks for a worker and waits for it, ``hold_s`` seconds at most; None: still waiting.

        Cancelled (the client hung up), it tells the core that the waiter has gone.
        """
        earlier = self._held.pop(request_idx, None)
        if earlier is not None and not earlier.done():
            earlier.set_result(None)  # the same waiter asks on another connection; this one is the newer
        future: asyncio.Future[Grant | Refuse | None] = self._loop.create_future()
        self._held[request_idx] = future
        self.handle(Asked(endpoint_id, request_idx, cost, replay_timeout_s))
        if future.done():
            return future.result()
        if len(self._held) > HELD_MAX:
            hold_s = 0.0
        due = self._loop.time() + hold_s
        timer = self._loop.call_at(due, self._hold_ended, request_idx, future, due)
        try:
            return await future
        except asyncio.CancelledError:
            if self._held.get(request_idx) is future:
                del self._held[request_idx]
                self.handle(WaiterGone(request_idx))
            raise
        finally:
            timer.cancel()

    def _hold_ended(self, request_idx: int, future: asyncio.Future[Grant | Refuse | None], due: float) -> None:
        now = self._loop.time()
        if now - due > _LATE_S and not future.done():
            # We were suspended. Who hung up meanwhile is to be known as gone, and that has not been read yet.
            self._loop.call_later(_CATCH_UP_S, self._hold_ended, request_idx, future, now + _CATCH_UP_S)
        elif not future.done():
            future.set_result(None)
            if self._held.get(request_idx) is future:
                del self._held[request_idx]
                self.handle(HoldEnded(request_idx))

    @property
    def now(self) -> float:
        """The core's time."""
        return self._loop.time()

    @property
    def holding(self) -> int:
        """How many /route/ calls are held open now."""
        return len(self._held)

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
        asked_at = self._loop.time()
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
        """Stops feeding the core; those who wait are told to ask again."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        for task in self._lists:
            task.cancel()
        await asyncio.gather(*self._lists, return_exceptions=True)
        for future in self._held.values():
            if not future.done():
                future.set_result(None)
        self._held.clear()
