"""What the dispatcher's unit tests share: time that is moved by hand, and a client that does as it is told."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from nullworker.demand.plan import Reading
from nullworker.demand.reservations import Phase
from nullworker.dispatch.binding import Binding, BindingSettings
from nullworker.dispatch.reservation_task import Clock, Tools
from nullworker.dispatch.store import DispatchStore
from nullworker.queues.base import Depth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nullworker.client import NullClient
    from nullworker.dispatch.reservation_task import ReservationTask

START_S = 1_000.0
START_WALL_S = 1_700_000_000.0
QUEUE = "sqlite:///tmp/jobs.db"


class HandTime:
    """A clock and a sleep that only `go` moves."""

    def __init__(self) -> None:
        self.now_s = START_S
        self.wall_s = START_WALL_S
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now_s, lambda: self.wall_s, self.sleep)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now_s + seconds, woken))
        await woken

    async def go(self, seconds: float) -> None:
        """Lets time pass, and everything happen that waits for it."""
        end_s = self.now_s + seconds
        await settle()
        while True:
            due = min((at for at, woken in self._sleepers if at <= end_s and not woken.done()), default=None)
            if due is None:
                break
            self.wall_s += due - self.now_s
            self.now_s = due
            for at, woken in self._sleepers:
                if at <= self.now_s and not woken.done():
                    woken.set_result(None)
            self._sleepers = [(at, woken) for at, woken in self._sleepers if not woken.done()]
            await settle()
        self.wall_s += end_s - self.now_s
        self.now_s = end_s


async def settle() -> None:
    """Lets everything happen that can happen now."""
    for _ in range(20):
        await asyncio.sleep(0)


class ScriptedReservation:
    """A worker that is held."""

    request_idx = 17

    _numbers = itertools.count(1)

    def __init__(self, session_id: str = "") -> None:
        self.session_id = session_id or f"s{next(self._numbers)}"
        self.closed = asyncio.Event()
        self.releases = 0
        self.looks = 0

    def to_record(self) -> dict[str, Any]:
        return {"session_id": self.session_id}

    async def wait_closed(self) -> str:
        await self.closed.wait()
        return "as told"

    async def is_open(self) -> bool:
        self.looks += 1
        return not self.closed.is_set()

    async def release(self) -> None:
        self.releases += 1
        self.closed.set()


@dataclass
class Asking:
    """One call of ``open``, at the mercy of the test."""

    how: dict[str, Any]
    outcome: asyncio.Future[ScriptedReservation]
    cancelled: bool = False

    def wait(self, reason: str) -> None:
        self.how["on_waiting"](reason)

    def create(self, record: dict[str, Any] | None = None) -> None:
        self.how["on_creating"](record)

    def confirm(self) -> ScriptedReservation:
        reservation = ScriptedReservation()
        self.outcome.set_result(reservation)
        return reservation

    def fail(self, error: Exception) -> None:
        self.outcome.set_exception(error)


class ScriptedClient:
    """Stands for `NullClient`: ``asked`` are calls of ``open``, ``looked_for`` those of ``adopt`` and ``recover``."""

    def __init__(self) -> None:
        self.asked: list[Asking] = []
        self.looked_for: list[tuple[str, dict[str, Any]]] = []
        self.found: Callable[[str, dict[str, Any]], ScriptedReservation] = lambda _, record: ScriptedReservation(
            record.get("session_id", "")
        )

    async def open(self, _endpoint: str, **how: Any) -> ScriptedReservation:
        asking = Asking(how, asyncio.get_running_loop().create_future())
        self.asked.append(asking)
        try:
            return await asking.outcome
        except asyncio.CancelledError:
            asking.cancelled = True
            raise

    async def adopt(self, record: dict[str, Any], **_: Any) -> ScriptedReservation:
        self.looked_for.append(("adopt", record))
        return self.found("adopt", record)

    async def recover(self, record: dict[str, Any], **_: Any) -> ScriptedReservation:
        self.looked_for.append(("recover", record))
        return self.found("recover", record)


@dataclass
class DispatchHarness:
    """A store, a clock and a client; `binding` makes what is tested."""

    file: Path
    time: HandTime = field(default_factory=HandTime)
    client: ScriptedClient = field(default_factory=ScriptedClient)

    def __post_init__(self) -> None:
        self.store = DispatchStore(self.file)

    @property
    def tools(self) -> Tools:
        return Tools(cast("NullClient", self.client), self.store, None, self.time.clock)

    def binding(
        self,
        *,
        open_queue: Callable[[], Any] | None = None,
        on_named: Callable[[Binding, ReservationTask], None] = lambda *_: None,
        **settings: Any,
    ) -> Binding:
        chosen = BindingSettings(**{"endpoint": "gpu", "queue": QUEUE, **settings})
        return Binding(chosen, self.tools, open_queue=open_queue or no_queue, on_named=on_named)

    def reading(self, waiting: int = 0, in_flight: int | None = 0, *, age_s: float = 0.0, **more: Any) -> Reading:
        depth = Depth(waiting, in_flight, self.time.wall_s - age_s, **more)
        return Reading(depth, self.time.now_s - age_s)

    async def consider(self, binding: Binding, waiting: int = 0, in_flight: int | None = 0, **more: Any) -> None:
        """One round of ``binding`` over this reading, and all that follows from it at once."""
        await settle()
        binding.consider(self.reading(waiting, in_flight, **more))
        await settle()

    async def held(self, binding: Binding, count: int) -> list[ScriptedReservation]:
        """Opens ``count`` reservations for as many waiting jobs, and has them confirmed."""
        await self.consider(binding, count)
        reservations = [asking.confirm() for asking in self.client.asked[-count:]]
        await settle()
        assert binding.count(Phase.HELD) >= count
        return reservations

    async def end(self, *bindings: Binding) -> None:
        """The process ends."""
        tasks = [
            reservation.running
            for binding in bindings
            for reservation in binding.reservations
            if reservation.running is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.store.close()


async def no_queue() -> Any:
    raise AssertionError("this test reads no queue")
