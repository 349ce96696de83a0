"""One reservation of the dispatcher, from the request to its end, in an asyncio task of its own.

The store is written before each step that a crash could lose: before the request, before a worker may hold the
reservation, and once a worker does. So the next dispatcher finds every reservation that may be held, and asks its
worker.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nullworker.client.errors import ClientError, ReservationLostError, WorkerRefusedError
from nullworker.demand.reservations import Phase, ReservationState
from nullworker.dispatch.store import DispatchStoreError, Row
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from nullworker.client import NullClient, Reservation
    from nullworker.dispatch.store import DispatchStore

log = logging.getLogger(__name__)

#: How often a held reservation is checked where no call to the webhook announces its end.
CHECK_S = 1.0
#: The same where one does: a worker that was killed makes no call.
CHECK_WITH_WEBHOOK_S = 2.0
#: Upper bound on the checks of all reservations of a process together.
CHECKS_PER_S = 50.0
#: Pauses between attempts to reach a worker whose reservation is to be adopted.
ADOPT_PAUSE_S = 2.0
#: A worker that was asked answers within this time, or the client has given up on it.
CREATE_S = 20.0
_BAD_REQUEST = 400


class CloseNotifier(Protocol):
    """The part of `nullworker.dispatch.close_webhook.CloseWebhook` that a reservation needs."""

    usable: bool

    def add(self, on_closed: Callable[[], None]) -> str: ...

    def remove(self, url: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Clock:
    """The source of time."""

    monotonic_s: Callable[[], float] = time.monotonic
    wall_s: Callable[[], float] = time.time  # noqa: TID251 - stored times must mean the same after a restart
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(frozen=True, slots=True)
class Tools:
    """What all reservations of a process share."""

    client: NullClient
    store: DispatchStore
    webhook: CloseNotifier | None = None
    clock: Clock = Clock()


@dataclass(frozen=True, slots=True)
class Terms:
    """What is requested of the engine."""

    endpoint: str
    cost: float = 100.0
    lifetime_s: float = 600.0
    price_per_hour: float = 0.0


class ReservationTask:
    """A reservation that is requested or held."""

    def __init__(
        self,
        binding: str,
        tools: Tools,
        terms: Terms,
        on_change: Callable[[ReservationTask], None],
        *,
        row: Row | None = None,
        check_s: float = 0.0,
    ) -> None:
        """Does nothing yet: call `open` or `adopt`.

        Args:
            binding: the name of the binding that it belongs to.
            tools: what all reservations share.
            terms: what to request.
            on_change: called at each change of the phase.
            row: what an earlier dispatcher stored of it; None: it is new.
            check_s: seconds between two checks of the worker, at least.
        """
        clock = tools.clock
        self.is_adopted = row is not None
        self.row = row or Row(secrets.token_hex(8), binding, Phase.ASKED.value, clock.wall_s())
        self.state = ReservationState(Phase(self.row.phase), self._since(clock, self.row.asked_at_s))
        self.state.is_adopted = self.is_adopted
        if self.row.held_at_s is not None:
            self.state.held_at_s = self._since(clock, self.row.held_at_s)
        self.failure: ClientError | DispatchStoreError | None = None
        self.client_reservation: Reservation | None = None  # while a worker holds it
        #: Jobs in its queue that its consumer has had, as far as the broker named them.
        self.jobs: list[str] = []
        self.waits_because = ""
        self.running: asyncio.Task[None] | None = None
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
        """The phase it is in."""
        return self.state.phase

    @property
    def held_s(self) -> float:
        """For how long it has been held, or was held."""
        if self.state.held_at_s is None:
            return 0.0
        until_s = self.state.closed_at_s if self.state.closed_at_s is not None else self._tools.clock.monotonic_s()
        return max(0.0, until_s - self.state.held_at_s)

    # ------------------------------------------------------------------------------------------------------- life cycle

    def open(self) -> None:
        """Requests a worker, and follows the reservation to its end in the background.

        Raises:
            DispatchStoreError: the store cannot be written, and so nothing was requested.
        """
        self._tools.store.asked(self.row.id, self.row.binding, self.row.asked_at_s)
        self._begin(self._request())

    def adopt(self) -> None:
        """Continues a reservation that an earlier dispatcher held or requested."""
        self._begin(self._adopt_stored())

    def _begin(self, holding: Coroutine[Any, Any, None]) -> None:
        self.running = tasks.watch(self._live(holding), "Looking after a reservation", self._lost_track)

    async def _live(self, holding: Coroutine[Any, Any, None]) -> None:
        try:
            await holding
        except ClientError as error:
            self.failure = error
        except Exception as error:
            log.exception("a reservation failed unexpectedly")
            self.failure = ClientError(f"A reservation failed ({type(error).__name__}); the log has more.")
        except asyncio.CancelledError:
            if not self._withdrawn:
                raise  # the process ends; what is stored is for the next one
            if self.state.phase is Phase.CREATING:
                # It was withdrawn just when a worker was assigned. The client ends what the worker may have confirmed;
                # until then it counts.
                await self._tools.clock.sleep(CREATE_S)
        self._close()

    def _lost_track(self, sentence: str) -> None:
        self.failure = ClientError(sentence)
        self.state.phase = Phase.CLOSED  # its place is free; what is stored is for the next dispatcher

    def _close(self) -> None:
        clock = self._tools.clock
        self.state.phase = Phase.CLOSED
        self.state.closed_at_s = clock.monotonic_s()
        cost = self.held_s / 3600 * self._terms.price_per_hour
        try:
            self._tools.store.closed(self.row, clock.wall_s(), self.held_s, cost)
        except DispatchStoreError as error:
            log.error("%s", error)  # noqa: TRY400 - one sentence; the next dispatcher finds that it has ended
        self._on_change(self)

    def withdraw(self) -> None:
        """Ends the request while it waits; does nothing once a worker holds it, or may."""
        if self.state.phase is Phase.ASKED and self.running is not None:
            self._withdrawn = True
            self.running.cancel()

    async def end(self) -> None:
        """Releases the worker."""
        if self.client_reservation is not None:
            try:
                await self.client_reservation.release()
            except ClientError as error:
                log.warning("%s", error)

    # ------------------------------------------------------------------------------------------------------- requesting

    async def _request(self) -> None:
        webhook = self._tools.webhook
        while True:
            url = webhook.add(self._check_soon) if webhook is not None and webhook.usable else None
            try:
                await self._hold(await self._open(url))
            except WorkerRefusedError as error:
                if url is None or webhook is None or error.status != _BAD_REQUEST:
                    raise
                # The worker refuses URLs of this machine, and so will all others: reservations are polled instead.
                webhook.usable = False
                self._waiting("")
            else:
                return
            finally:
                if url is not None and webhook is not None:
                    webhook.remove(url)

    async def _open(self, close_url: str | None) -> Reservation:
        terms = self._terms
        return await self._tools.client.open(
            terms.endpoint,
            cost=terms.cost,
            lifetime_s=terms.lifetime_s,
            payload={"dispatch": self.row.id},
            on_close_route=close_url,
            check_s=self._pause_s(CHECK_WITH_WEBHOOK_S if close_url else CHECK_S),
            on_waiting=self._waiting,
            on_creating=self._creating,
        )

    def _pause_s(self, shortest_s: float) -> float:
        return min(max(shortest_s, self._check_s), self._terms.lifetime_s / 3)

    def _waiting(self, reason: str) -> None:
        self.waits_because = reason
        if self.state.phase is Phase.CREATING:  # the worker refused it; it waits for another
            self.state.phase = Phase.ASKED
            try:
                self._tools.store.asked(self.row.id, self.row.binding, self.row.asked_at_s)
            except DispatchStoreError as error:
                log.warning("%s", error)  # "creating", which is stored, is the safe side
        self._on_change(self)

    def _creating(self, record: dict[str, Any] | None) -> None:
        self.state.phase = Phase.CREATING
        try:
            self._tools.store.creating(self.row.id, self._tools.clock.wall_s(), record)
        except DispatchStoreError as error:
            self.failure = error
            self._withdrawn = True
            if self.running is not None:
                self.running.cancel()
        self._on_change(self)

    async def _hold(self, reservation: Reservation) -> None:
        clock = self._tools.clock
        self.client_reservation = reservation
        self.state.phase = Phase.HELD
        if self.state.held_at_s is None:
            self.state.held_at_s = clock.monotonic_s()
            held_at_s = clock.wall_s()
        else:
            held_at_s = self.row.held_at_s or clock.wall_s()
        try:
            self._tools.store.held(self.row.id, held_at_s, reservation.to_record())
        except DispatchStoreError as error:
            log.error("%s", error)  # noqa: TRY400 - one sentence; "creating" with its record is enough to adopt it
        self._on_change(self)
        await reservation.wait_closed()

    def _check_soon(self) -> None:
        """The worker announced the end: it is asked whether that is so."""
        if self.client_reservation is not None:
            task = tasks.watch(self._check(self.client_reservation), "Asking a worker whether it is held")
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    @staticmethod
    async def _check(reservation: Reservation) -> None:
        try:
            await reservation.is_open()
        except ClientError as error:
            log.debug("a worker could not be checked: %s", error)

    # --------------------------------------------------------------------------------------------------------- adopting

    async def _adopt_stored(self) -> None:
        row, clock = self.row, self._tools.clock
        if row.phase == Phase.ASKED.value:
            return  # it only waited, and the engine forgets requests whose client has gone
        if row.phase == Phase.HELD.value:
            # Without keep-alive a session ends within five thirds of a lifetime.
            over_at_s = clock.monotonic_s() + 2 * self._terms.lifetime_s
        else:
            over_at_s = self._since(clock, row.creating_at_s or row.asked_at_s) + self._terms.lifetime_s + CREATE_S
        while (left_s := over_at_s - clock.monotonic_s()) > 0:
            try:
                reservation = await self._find(row)
            except ReservationLostError:
                return
            except ClientError as error:
                log.info("a reservation is not adopted yet: %s", error)
            else:
                if reservation is not None:
                    await self._hold(reservation)
                    return
            await clock.sleep(min(ADOPT_PAUSE_S, left_s))
        log.warning("A reservation of %s could not be adopted, and has expired by now.", row.binding)

    async def _find(self, row: Row) -> Reservation | None:
        """The reservation as its worker confirms it; None where the worker is not known."""
        client, check_s = self._tools.client, self._pause_s(CHECK_S)
        if row.record is None:
            return None
        if row.phase == Phase.HELD.value:
            return await client.adopt(row.record, check_s=check_s)
        return await client.recover(row.record, check_s=check_s)
