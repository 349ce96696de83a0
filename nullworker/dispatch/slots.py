"""One reservation of the dispatcher's, from asking to its end, in a task of its own.

The ledger is written before each step that a crash could lose: before asking, before a worker may hold it, and once it
does. So a successor finds every reservation that may be held, and asks its worker.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nullworker.client.errors import ClientError, ReservationLostError, WorkerRefusedError
from nullworker.dispatch.ledger import LedgerError, Row
from nullworker.dispatch.plan import Phase, Slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from nullworker.client import NullClient, Reservation
    from nullworker.dispatch.ledger import Ledger

log = logging.getLogger(__name__)

#: How often a held reservation is looked at, where no notice tells of its end.
CHECK_S = 1.0
#: The same where one does: a worker that was killed sends none.
CHECK_WITH_NOTICE_S = 2.0
#: All reservations of a process together are looked at so many times a second at most.
LOOKS_PER_S = 50.0
#: Pauses between attempts to reach a worker whose reservation is to be adopted.
ADOPT_PAUSE_S = 2.0
#: A worker that was asked answers within this, or the client has given it up.
CREATE_S = 20.0
_BAD_REQUEST = 400


class Door(Protocol):
    """The part of `nullworker.dispatch.notices.Notices` that a reservation needs."""

    usable: bool

    def door(self, on_closed: Callable[[], None]) -> str: ...

    def shut(self, url: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Clock:
    """Where the time comes from."""

    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time  # noqa: TID251 - what the ledger says must mean the same after a restart
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Tools:
    """What all reservations of a process share."""

    client: NullClient
    ledger: Ledger
    notices: Door | None = None
    clock: Clock = Clock()


@dataclass(frozen=True, slots=True)
class Terms:
    """What is asked for."""

    endpoint: str
    cost: float = 100.0
    lifetime_s: float = 600.0
    price_per_hour: float = 0.0


class OpenSlot:
    """A reservation that is asked for or held. ``on_change`` is called at each change of its phase."""

    def __init__(
        self,
        pair: str,
        tools: Tools,
        terms: Terms,
        on_change: Callable[[OpenSlot], None],
        *,
        row: Row | None = None,
        check_s: float = 0.0,
    ) -> None:
        """``row``: what a dispatcher before this one left; ``check_s``: look no more often than this."""
        clock = tools.clock
        self.is_adopted = row is not None
        self.row = row or Row(secrets.token_hex(8), pair, Phase.ASKED.value, clock.wall_s())
        self.slot = Slot(Phase(self.row.phase), self._since(clock, self.row.asked_at_s))
        if self.row.held_at_s is not None:
            self.slot.held_at_s = self._since(clock, self.row.held_at_s)
        self.failure: ClientError | LedgerError | None = None
        self.reservation: Reservation | None = None
        self.waits_because = ""
        self.task: asyncio.Task[None] | None = None
        self._tools = tools
        self._terms = terms
        self._on_change = on_change
        self._check_s = check_s
        self._withdrawn = False
        self._background: set[asyncio.Task[None]] = set()

    @staticmethod
    def _since(clock: Clock, wall_s: float) -> float:
        """A moment of the wall clock as one of the monotonic clock, never in the future."""
        return clock.monotonic_s() - max(0.0, clock.wall_s() - wall_s)

    @property
    def phase(self) -> Phase:
        """Where it is."""
        return self.slot.phase

    @property
    def held_s(self) -> float:
        """For how long it has been held, or was."""
        if self.slot.held_at_s is None:
            return 0.0
        until_s = self.slot.closed_at_s if self.slot.closed_at_s is not None else self._tools.clock.monotonic_s()
        return max(0.0, until_s - self.slot.held_at_s)

    # --------------------------------------------------------------------------------------------------------- its life

    def open(self) -> None:
        """Asks for a worker, and stays until the reservation is over.

        Raises:
            LedgerError: nothing was asked for, because it could not be written down.
        """
        self._tools.ledger.asked(self.row.id, self.row.pair, self.row.asked_at_s)
        self._begin(self._ask())

    def adopt(self) -> None:
        """Takes up what a dispatcher before this one held, or was asking for."""
        self._begin(self._take_up())

    def _begin(self, holding: Coroutine[Any, Any, None]) -> None:
        self.task = asyncio.ensure_future(self._live(holding))

    async def _live(self, holding: Coroutine[Any, Any, None]) -> None:
        try:
            await holding
        except ClientError as error:
            self.failure = error
        except Exception as error:
            log.exception("a reservation failed in a way that nobody foresaw")
            self.failure = ClientError(f"A reservation failed ({type(error).__name__}); the log has more.")
        except asyncio.CancelledError:
            if not self._withdrawn:
                raise  # the process ends; what the ledger says is for the next one
            if self.slot.phase is Phase.CREATING:
                # It was withdrawn just when a worker was named. The client sees to it that what the worker may have
                # confirmed is ended; until then it counts.
                await self._tools.clock.sleep(CREATE_S)
        self._close()

    def _close(self) -> None:
        clock = self._tools.clock
        self.slot.phase = Phase.CLOSED
        self.slot.closed_at_s = clock.monotonic_s()
        cost = self.held_s / 3600 * self._terms.price_per_hour
        try:
            self._tools.ledger.closed(self.row, clock.wall_s(), self.held_s, cost)
        except LedgerError as error:
            log.error("%s", error)  # noqa: TRY400 - one sentence; the next dispatcher will find that it is over
        self._on_change(self)

    def withdraw(self) -> None:
        """Gives up waiting. One that a worker holds by now, or may, stays."""
        if self.slot.phase is Phase.ASKED and self.task is not None:
            self._withdrawn = True
            self.task.cancel()

    async def end(self) -> None:
        """Releases what is held."""
        if self.reservation is not None:
            try:
                await self.reservation.release()
            except ClientError as error:
                log.warning("%s", error)

    # ----------------------------------------------------------------------------------------------------------- asking

    async def _ask(self) -> None:
        notices = self._tools.notices
        while True:
            door = notices.door(self._look) if notices is not None and notices.usable else None
            try:
                await self._hold(await self._open(door))
            except WorkerRefusedError as error:
                if door is None or notices is None or error.status != _BAD_REQUEST:
                    raise
                # It does not call this machine, and says so once for all: its reservations are looked at instead.
                notices.usable = False
                self._waiting("")
            else:
                return
            finally:
                if door is not None and notices is not None:
                    notices.shut(door)

    async def _open(self, door: str | None) -> Reservation:
        terms = self._terms
        return await self._tools.client.open(
            terms.endpoint,
            cost=terms.cost,
            lifetime_s=terms.lifetime_s,
            payload={"dispatch": self.row.id},
            on_close_route=door,
            check_s=self._pause_s(CHECK_WITH_NOTICE_S if door else CHECK_S),
            on_waiting=self._waiting,
            on_creating=self._creating,
        )

    def _pause_s(self, shortest_s: float) -> float:
        return min(max(shortest_s, self._check_s), self._terms.lifetime_s / 3)

    def _waiting(self, reason: str) -> None:
        self.waits_because = reason
        if self.slot.phase is Phase.CREATING:  # the worker did not take it; it waits for another
            self.slot.phase = Phase.ASKED
            try:
                self._tools.ledger.asked(self.row.id, self.row.pair, self.row.asked_at_s)
            except LedgerError as error:
                log.warning("%s", error)  # "creating" is on the safe side
        self._on_change(self)

    def _creating(self, record: dict[str, Any] | None) -> None:
        self.slot.phase = Phase.CREATING
        try:
            self._tools.ledger.creating(self.row.id, self._tools.clock.wall_s(), record)
        except LedgerError as error:
            self.failure = error
            self._withdrawn = True
            if self.task is not None:
                self.task.cancel()
        self._on_change(self)

    async def _hold(self, reservation: Reservation) -> None:
        clock = self._tools.clock
        self.reservation = reservation
        self.slot.phase = Phase.HELD
        if self.slot.held_at_s is None:
            self.slot.held_at_s = clock.monotonic_s()
            held_at_s = clock.wall_s()
        else:
            held_at_s = self.row.held_at_s or clock.wall_s()
        try:
            self._tools.ledger.held(self.row.id, held_at_s, reservation.to_record())
        except LedgerError as error:
            log.error("%s", error)  # noqa: TRY400 - one sentence; "creating" with its record will do to adopt it
        self._on_change(self)
        await reservation.wait_closed()

    def _look(self) -> None:
        """A worker says that it is over: its word is checked at once."""
        if self.reservation is not None:
            task = asyncio.ensure_future(self._check(self.reservation))
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    @staticmethod
    async def _check(reservation: Reservation) -> None:
        try:
            await reservation.is_open()
        except ClientError as error:
            log.debug("a look at a worker failed: %s", error)

    # --------------------------------------------------------------------------------------------------------- adopting

    async def _take_up(self) -> None:
        row, clock = self.row, self._tools.clock
        if row.phase == Phase.ASKED.value:
            return  # it only waited, and those who have gone are forgotten
        if row.phase == Phase.HELD.value:
            # Keep-alive lets no session outlive its holder by more than five thirds of a lifetime.
            over_at_s = clock.monotonic_s() + 2 * self._terms.lifetime_s
        else:
            over_at_s = self._since(clock, row.creating_at_s or row.asked_at_s) + self._terms.lifetime_s + CREATE_S
        while (left_s := over_at_s - clock.monotonic_s()) > 0:
            try:
                reservation = await self._found(row)
            except ReservationLostError:
                return
            except ClientError as error:
                log.info("a reservation is not adopted yet: %s", error)
            else:
                if reservation is not None:
                    await self._hold(reservation)
                    return
            await clock.sleep(min(ADOPT_PAUSE_S, left_s))
        log.warning("A reservation of %s was never heard of again, and is over by now.", row.pair)

    async def _found(self, row: Row) -> Reservation | None:
        """What the worker says that it holds; None where it is not known which worker to ask."""
        client, check_s = self._tools.client, self._pause_s(CHECK_S)
        if row.record is None:
            return None
        if row.phase == Phase.HELD.value:
            return await client.adopt(row.record, check_s=check_s)
        return await client.recover(row.record, check_s=check_s)
