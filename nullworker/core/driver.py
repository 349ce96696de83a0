"""The loop around one core: feeds it events, carries out its commands, holds calls open and wakes it in time.

The engine and the simulator run this class. It has no clock and no sockets of its own: both give it a `DriverIO`, which
says what time it is and takes what the core commands. For each event, in this order:

1. the core handles it (`Engine.handle`);
2. `DriverIO.decided` is told, so that grants and creations are written down before anyone learns of them;
3. calls are answered (`DriverIO.answer`) and fleets get their orders (`DriverIO.order`);
4. `DriverIO.handled` writes down the rest;
5. the driver has itself called at `Engine.wake_at`, to send `TimePassed`.

A driver serves one engine. After a kill, a restart or an exception of the core (`DriverIO.failed`) another is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from nullworker.core.commands import Create, Destroy, Grant, Refuse, Start, Stop
from nullworker.core.engine import Engine
from nullworker.core.events import (
    Asked,
    HoldEnded,
    InstanceCreated,
    InstanceFailed,
    InstanceGone,
    InstanceStarted,
    InstanceStopped,
    TimePassed,
    WaiterGone,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nullworker.core.commands import Command
    from nullworker.core.events import Event

#: A held /route/ call is answered after this long: the SDK hangs up at 10 s, and takes that for an error.
HOLD_S = 8.0
#: So many calls are held at once. A further one is answered at once that it waits, and keeps its place all the same.
HELD_MAX = 10_000
#: How often each fleet is asked what it has.
LIST_PERIOD_S = 30.0
#: Due times are met this much late rather than early, so that the core finds them due.
TIMER_SLACK_S = 0.0005
#: A hold that ends this late says that the whole process was suspended: what arrived meanwhile is read first.
SUSPENDED_S = 1.0
CATCH_UP_S = 0.2

Order = Create | Start | Stop | Destroy
#: A held /route/ call, as the DriverIO has it; the driver only keeps it and gives it back.
CallT = TypeVar("CallT")
CallT_contra = TypeVar("CallT_contra", contravariant=True)


class Reminder(Protocol):
    """A callback that was planned."""

    def cancel(self) -> object:
        """The callback is not called."""


class DriverIO(Protocol[CallT_contra]):
    """What surrounds a driver: a clock, and where commands go."""

    def now(self) -> float:
        """The time in seconds of a monotonic clock; the core's times are of this clock."""

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> Reminder | None:
        """Plans ``callback(*arguments)`` for the time ``when``.

        Returns:
            What cancels it; None where that is not possible. The driver ignores callbacks that come too often.
        """

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: object) -> Reminder | None:
        """As `call_at`, ``delay_s`` seconds from now."""

    def decided(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """The core handled ``event``, and none of ``commands`` is carried out yet.

        Args:
            event: what was handled.
            now: the core's time then.
            commands: what it led to, in order.
        """

    def answer(self, call: CallT_contra, request_idx: int, answer: Grant | Refuse | None) -> None:
        """Answers a held call; None: its request still waits.

        Args:
            call: as it was given to `Driver.ask`.
            request_idx: its request.
            answer: the grant or refusal; None: the request still waits.
        """

    def order(self, order: Order) -> None:
        """Gives an order to a fleet, which is answered by `Driver.order_ended`."""

    def handled(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """All of ``commands`` is carried out.

        Args:
            event: what was handled.
            now: the core's time then.
            commands: what it led to, in order.
        """

    def failed(self, event: Event, now: float, error: Exception) -> None:
        """The core (or another part of `Driver.handle`) raised ``error``; the driver has ended. ``error`` is raised on
        after this, unless this raises another in its place.

        Args:
            event: at which it was raised.
            now: the core's time then.
            error: what was raised.
        """


class Driver(Generic[CallT]):
    """Feeds one core. Everything that happens to it comes through `handle`, one event after another."""

    def __init__(self, io: DriverIO[CallT], engine: Engine | None = None) -> None:
        self.engine = engine or Engine()
        #: The calls that are held open, by request_idx. For reading.
        self.calls: dict[int, CallT] = {}
        self._io = io
        self._holds: dict[int, Reminder] = {}
        self._wake_at: float | None = None
        self._wake: Reminder | None = None
        self._orders: dict[int, str] = {}  # worker id -> the verb of the last order that is not answered yet
        self.has_ended = False

    # --------------------------------------------------------------------------------------------------------- events

    def handle(self, event: Event) -> list[Command]:
        """Lets the core handle one event and carries out what it commands; after `end`, does nothing.

        An exception ends the driver: the event may be half applied, and nothing that the core says after it is sound.
        """
        if self.has_ended:
            return []
        io = self._io
        now = io.now()
        try:
            commands = self.engine.handle(event, now)
            io.decided(event, now, commands)
            for command in commands:
                if self.has_ended:
                    return commands  # the IO was killed between two effects
                self._carry_out(command)
            if not self.has_ended:
                io.handled(event, now, commands)
                self._plan_wake()
        except Exception as error:
            self.has_ended = True
            io.failed(event, now, error)
            raise
        return commands

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, (Grant, Refuse)):
            if command.request_idx in self.calls:
                self._io.answer(self._let_go(command.request_idx), command.request_idx, command)
        elif isinstance(command, (Create, Start, Stop, Destroy)):
            verb = type(command).__name__.lower()
            if self._orders.get(command.worker_id) != verb:  # else it was given already, and is being carried out
                self._orders[command.worker_id] = verb
                self._io.order(command)

    # ----------------------------------------------------------------------------------------------------------- time

    def _plan_wake(self) -> None:
        due = self.engine.wake_at()
        if due is None or (self._wake_at is not None and self._wake_at <= due):
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = due
        self._wake = self._io.call_at(due + TIMER_SLACK_S, self._woken, due)

    def _woken(self, planned: float) -> None:
        if planned == self._wake_at and not self.has_ended:
            self._wake_at = self._wake = None
            self.handle(TimePassed())
            if not self.has_ended:
                self._plan_wake()

    def clock_changed(self) -> None:
        """Plans the next wake again: the clock was set, and what was planned by it may come at a wrong time."""
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = self._wake = None
        if not self.has_ended:
            self._plan_wake()

    # ---------------------------------------------------------------------------------------------------------- calls

    def ask(
        self,
        call: CallT,
        endpoint_id: int,
        request_idx: int,
        cost: float,
        replay_timeout_s: float,
        hold_s: float = HOLD_S,
    ) -> None:
        """A /route/ call arrives: it is answered with a worker, or after ``hold_s`` seconds that it still waits.

        Args:
            call: what `DriverIO.answer` gets.
            endpoint_id: the endpoint that it asks for.
            request_idx: its request; an earlier call of the same request that is still held is answered now.
            cost: what the request takes of a worker's perf.
            replay_timeout_s: how long the request keeps its place after its call was answered.
            hold_s: how long the call may be held.
        """
        if request_idx in self.calls:
            self._io.answer(self._let_go(request_idx), request_idx, None)
        self.calls[request_idx] = call
        self.handle(Asked(endpoint_id, request_idx, cost, replay_timeout_s))
        if self.calls.get(request_idx) is call and not self.has_ended:
            if len(self.calls) > HELD_MAX:
                hold_s = 0.0
            self._hold(call, request_idx, hold_s)

    def hang_up(self, call: CallT, request_idx: int) -> None:
        """The client of a held call closed its connection."""
        if self.calls.get(request_idx) is call and not self.has_ended:
            self._let_go(request_idx)
            self.handle(WaiterGone(request_idx))

    def _hold(self, call: CallT, request_idx: int, hold_s: float) -> None:
        due = self._io.now() + hold_s
        reminder = self._io.call_later(hold_s, self._hold_ended, call, request_idx, due)
        if reminder is not None:
            self._holds[request_idx] = reminder

    def _hold_ended(self, call: CallT, request_idx: int, due: float) -> None:
        if self.calls.get(request_idx) is not call or self.has_ended:
            return
        if self._io.now() - due > SUSPENDED_S:
            # The client may have hung up while the process was suspended, and that has not been read yet.
            self._hold(call, request_idx, CATCH_UP_S)
            return
        self._io.answer(self._let_go(request_idx), request_idx, None)
        self.handle(HoldEnded(request_idx))

    def _let_go(self, request_idx: int) -> CallT:
        reminder = self._holds.pop(request_idx, None)
        if reminder is not None:
            reminder.cancel()
        return self.calls.pop(request_idx)

    # ----------------------------------------------------------------------------------------------------------- fleets

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
        # First: what the core answers may be the same order for the same worker.
        if self._orders.get(worker_id) == verb:
            del self._orders[worker_id]
        self.handle(InstanceFailed(worker_id, verb, error, definite, short) if error else _DONE[verb](worker_id))

    # -------------------------------------------------------------------------------------------------------------- end

    def end(self) -> dict[int, CallT]:
        """Stops feeding the core.

        Returns:
            The calls that are still held, by request_idx; they are for the caller to answer.
        """
        self.has_ended = True
        if self._wake is not None:
            self._wake.cancel()
        for reminder in self._holds.values():
            reminder.cancel()
        self._holds.clear()
        calls, self.calls = self.calls, {}
        return calls


_DONE: dict[str, Callable[[int], Event]] = {
    "create": InstanceCreated,
    "start": InstanceStarted,
    "stop": InstanceStopped,
    "destroy": InstanceGone,
}
