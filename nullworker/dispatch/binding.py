"""A binding: one queue and one endpoint, with the loop that keeps as many reservations as there is work.

The loop is level-triggered: each round reads the queue, compares it with all reservations that are requested or held,
and opens or withdraws the difference. No event is needed for correctness; an event only brings the next round forward.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from nullworker.demand.limits import Limits
from nullworker.demand.plan import Reading, ReservationPlan, covers, is_fresh, want
from nullworker.demand.reservations import HOLDING, LIVE, Belief, Phase
from nullworker.demand.round import Demand
from nullworker.dispatch.job_names import JobNames
from nullworker.dispatch.reservation_task import CHECKS_PER_S, ReservationTask, Terms, Tools
from nullworker.dispatch.store import DispatchStoreError
from nullworker.queues.base import QueueError, QueueUrlError
from nullworker.queues.urls import shown_url
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.queues.base import Queue, QueueInfo, QueueWarning

log = logging.getLogger(__name__)

#: The shortest time between two readings of a queue.
ROUND_MIN_S = 0.03
FUTILE = "Reservations end, and the queue gets no shorter: check that the consumer reads this queue."
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
#: How long `Binding.drain` waits for workers that are about to confirm a reservation.
DRAIN_S = 15.0
#: A queue's settings and the warnings of them are read again so often.
INFO_EVERY_S = 60.0
#: After so long it is said that a worker is held for nothing, and again each time that the next is reached.
IDLE_SAID_S = (60.0, 600.0, *(3600.0 * hours for hours in (1, 2, 4, 8, 16, 24, 48, 96, 168)))


@dataclass(frozen=True, slots=True)
class BindingSettings:
    """The settings of one binding."""

    endpoint: str
    queue: str  # its URL
    most: int = 16
    jobs_per_worker: int = 1
    poll_s: float = 1.0
    cost: float = 100.0
    lifetime_s: float = 600.0
    claim_s: float = 30.0
    end_idle_s: float | None = None
    max_idle_hold_s: float | None = None
    price_per_hour: float = 0.0
    priority: int = 0

    @property
    def name(self) -> str:
        """Endpoint and queue: names the binding in the store and in messages. Contains no password."""
        return f"{self.endpoint} {without_password(self.queue)}"

    @property
    def limits(self) -> Limits:
        """The limits that the plan observes."""
        stale_after_s = max(10.0, 3 * self.poll_s)
        return Limits(
            self.most,
            self.jobs_per_worker,
            stale_after_s=stale_after_s,
            claim_s=self.claim_s,
            end_idle_s=self.end_idle_s,
            max_idle_hold_s=self.max_idle_hold_s,
        )


@dataclass(frozen=True, slots=True)
class BindingStatus:
    """A binding at one moment, as it is shown. None: not read yet, or not reported by the broker."""

    queue: str  # the binding's name
    waiting: int | None
    in_flight: int | None
    want: int | None
    asked: int  # reservations that are requested, or that a worker is confirming
    held: int
    trouble: str  # why the queue cannot be read, why nothing can be opened, and what is held for nothing
    reason: str  # of ``want``
    waits_because: str  # why a request waits, as the engine says
    abandoned: int | None = 0
    #: How many of the held are believed to be doing what, by `Belief`'s words.
    doing: dict[str, int] = field(default_factory=dict)
    warnings: tuple[QueueWarning, ...] = ()  # of the queue, as ``--check`` prints them


class Binding:
    """Dispatches one queue to one endpoint."""

    def __init__(
        self,
        settings: BindingSettings,
        tools: Tools,
        *,
        open_queue: Callable[[], Any],
        allowed: Callable[[Binding], tuple[int | None, str]] = lambda _: (None, ""),
        on_closed: Callable[[Binding], None] = lambda _: None,
        on_change: Callable[[BindingStatus], None] = lambda _: None,
        on_named: Callable[[Binding, ReservationTask], None] = lambda *_: None,
        holds: Callable[[], bool] = lambda: False,
    ) -> None:
        """Reads nothing yet: call `run`.

        Args:
            settings: of this binding.
            tools: what all reservations share.
            open_queue: awaited for the open queue.
            allowed: what shared limits leave to this binding (None: no limit), and why.
            on_closed: called when a reservation has ended.
            on_change: called with the status when anything may have changed.
            on_named: called when a job of a reservation is known.
            holds: whether the dispatcher holds a reservation, of any binding; if so, a queue that cannot be read does
                not end it.
        """
        self.settings = settings
        self.name = settings.name
        self.queue = without_password(settings.queue)
        self.reservations: list[ReservationTask] = []
        self.reading: Reading | None = None
        self.info: QueueInfo | None = None
        self.last: ReservationPlan | None = None
        self.queue_trouble = ""  # why the queue cannot be read
        self.trouble = ""  # why nothing can be opened
        self._tools = tools
        self._terms = Terms(settings.endpoint, settings.cost, settings.lifetime_s, settings.price_per_hour)
        self._demand = Demand(settings.limits)
        self._open_queue = open_queue
        self._allowed = allowed
        self._on_closed = on_closed
        self._on_change = on_change
        self._holds = holds
        self._job_names = JobNames(self._now_s, lambda reservation: on_named(self, reservation))
        self._woken: asyncio.Future[None] | None = None  # what a wait for the next round ends with
        self._info_at_s = float("-inf")
        self._failures = 0
        self._not_before_s = float("-inf")  # the next attempt after opening failed
        self._opened_at_s = float("-inf")
        self._closed_at_s = float("-inf")
        self._draining = False
        self._ending: set[asyncio.Task[None]] = set()

    # ----------------------------------------------------------------------------------------------------------- counts

    def count(self, *phases: Phase) -> int:
        """How many reservations are in one of these phases."""
        found = [r.state.phase for r in self.reservations]
        return sum([found.count(phase) for phase in phases])

    @property
    def live(self) -> int:
        """Reservations that are requested, being created or held."""
        return self.count(*LIVE)

    @property
    def holding(self) -> int:
        """Reservations that a worker holds, or may hold."""
        return self.count(*HOLDING)

    @property
    def wanted(self) -> int:
        """Reservations that the queue calls for, before any shared limit; `live` when there is no fresh reading."""
        now_s = self._now_s()
        if self.reading is None or not is_fresh(self.reading, self._limits, now_s):
            return self.live
        return want(self.reading, [r.state for r in self.reservations], self._limits, now_s)

    @property
    def status(self) -> BindingStatus:
        """How the binding stands now."""
        depth, waiting = self.reading.depth if self.reading else None, [r for r in self.reservations if r.waits_because]
        return BindingStatus(
            queue=self.name,
            waiting=depth.waiting if depth else None,
            in_flight=depth.in_flight if depth else None,
            want=self.last.want if self.last else None,
            asked=self.count(Phase.ASKED, Phase.CREATING),
            held=self.count(Phase.HELD),
            trouble="; ".join(text for text in (self.queue_trouble, self.trouble, self._idle_holds()) if text),
            reason=self.last.reason if self.last else "no reading yet",
            waits_because=next((r.waits_because for r in waiting if r.phase is Phase.ASKED), ""),
            abandoned=depth.abandoned if depth else None,
            doing=self._doing(),
            warnings=self.info.warnings if self.info else (),
        )

    @property
    def reading_age_s(self) -> float | None:
        """How old the last reading is; None: there is none."""
        return None if self.reading is None else max(0.0, self._now_s() - self.reading.at_s)

    def _idle_holds(self) -> str:
        """What is held though its job is over, in a sentence; it changes rarely, as each change is printed."""
        if not self.reservations:
            return ""
        states = [r.state for r in self.reservations]
        finished = self._demand.evidence.finished(states, self._limits, self._now_s())
        longest_s = max((step for _, for_s in finished for step in IDLE_SAID_S if for_s >= step), default=None)
        if longest_s is None:
            return ""
        count = sum(for_s >= IDLE_SAID_S[0] for _, for_s in finished)
        return (
            f"{count} held though nothing is in flight, the longest for over {_in_words(longest_s)}: the job is over"
            " and the consumer does not end; have it end or release its worker, or set --max-idle-hold"
        )

    def _doing(self) -> dict[str, int]:
        if not self.reservations:
            return {}
        limits, now_s = self._limits, self._now_s()
        held = [r.state for r in self.reservations if r.state.phase is Phase.HELD]
        beliefs = [Belief.AT_JOB if state.jobs else state.belief(limits, now_s) for state in held]
        return {belief.value: count for belief in Belief if (count := beliefs.count(belief))}

    @property
    def is_done(self) -> bool:
        """Whether nothing is open, and a reading since the last reservation's end shows an empty queue."""
        reading = self.reading
        if reading is None or self.live or not is_fresh(reading, self._limits, self._now_s()):
            return False
        depth = reading.depth
        return reading.at_s >= self._closed_at_s and not (depth.waiting or depth.in_flight or depth.abandoned)

    @property
    def left_to_others(self) -> str:
        """What the queue still has though nothing is open or wanted for it, in words; "" if there is no such thing."""
        if self.reading is None or self.live or self.last is None or self.last.want:
            return ""
        depth = self.reading.depth
        counts = ((depth.waiting, "waiting"), (depth.in_flight, "in flight"), (depth.abandoned, "abandoned"))
        return ", ".join(f"{count} {what}" for count, what in counts if count)

    @property
    def _limits(self) -> Limits:
        return self._demand.limits

    def _now_s(self) -> float:
        return self._tools.clock.monotonic_s()

    # ------------------------------------------------------------------------------------------------------------- loop

    def wake(self) -> None:
        """Starts the next round at once."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def adopt(self) -> int:
        """Continues the reservations that an earlier dispatcher left open; returns how many.

        Raises:
            DispatchStoreError: the store cannot be read.
        """
        rows = self._tools.store.open_rows(self.name)
        for row in rows:
            reservation = ReservationTask(
                self.name, self._tools, self._terms, self._changed, row=row, check_s=len(rows) / CHECKS_PER_S
            )
            self.reservations.append(reservation)
            reservation.adopt()
        return len(rows)

    async def run(self) -> None:
        """Dispatches until it is cancelled.

        Raises:
            QueueUrlError: the queue can never be read; raised only before the first reading, while nothing is held.
        """
        failures = 0
        while True:
            read_before = self.reading
            try:
                async with await self._open_queue() as queue:
                    await self._follow(queue)
            except QueueError as error:
                if isinstance(error, QueueUrlError) and self.reading is None and not self._holds():
                    raise
                self._cannot_read(str(error))
            except Exception as error:  # from an adapter of another package, perhaps
                log.exception("the queue of %s cannot be read", self.name)
                self._cannot_read(f"The queue cannot be read ({type(error).__name__}); the log has more.")
            # A reading since the last failure shows that the broker had come back.
            failures = failures + 1 if self.reading is read_before else 1
            await self._tools.clock.sleep(backoff_s(failures))

    async def _follow(self, queue: Queue) -> None:
        """Rounds over one open queue. Raises QueueError when it can no longer be read."""
        watching: asyncio.Task[bool] | None = None
        try:
            while True:
                began_s = self._now_s()
                if self.info is None or began_s - self._info_at_s >= INFO_EVERY_S:
                    self.info, self._info_at_s = await queue.info(), began_s
                    self._demand.limits = replace(self._limits, lag_s=self.info.lag_s, lease_s=self.info.lease_s)
                woken = self._woken = asyncio.get_running_loop().create_future()
                self.consider(await self._read(queue))
                if self.reading is not None and self.reading.depth.in_flight != 0:
                    await self._job_names.look(queue, [r for r in self.reservations if r.phase is Phase.HELD])
                if watching is None or watching.done():
                    watching = tasks.start(queue.changed(self.settings.poll_s))
                pause_s = self._pause_s
                await asyncio.wait({watching, woken}, timeout=pause_s, return_when=asyncio.FIRST_COMPLETED)
                if watching.done():
                    watching.result()
                await self._tools.clock.sleep(max(0.0, began_s + ROUND_MIN_S - self._now_s()))
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _read(self, queue: Queue) -> Reading:
        depth = await queue.depth()
        # In monotonic time, so that setting the wall clock does not change the age of a reading.
        return Reading(depth, self._now_s() - max(0.0, self._tools.clock.wall_s() - depth.sampled_at_s))

    @property
    def _pause_s(self) -> float:
        """The longest wait for the next round: the poll interval, or until opening may be tried again."""
        left_s = self._next_open_s - self._now_s()
        return min(self.settings.poll_s, left_s) if left_s > 0 else self.settings.poll_s

    def consider(self, reading: Reading) -> None:
        """One round: compares, and opens or withdraws the difference."""
        self.reading = reading
        self.queue_trouble = ""
        lag_s, now_s = self._limits.lag_s, self._now_s()
        self.reservations = [r for r in self.reservations if r.state.phase in LIVE or covers(r.state, reading, lag_s)]
        reservations = [r.state for r in self.reservations]
        allowed, why = self._allowed(self)
        decision = self._demand.consider(reading, reservations, now_s, allowed)
        decided = decision.plan
        if allowed is not None and allowed < self.wanted and why:
            decided = replace(decided, reason=f"{decided.reason}: {why}")
        self.last = decided
        self._open(decided.open, now_s)
        # The latest requests are withdrawn first: those that have waited longest keep their places.
        waiting = [r for r in self.reservations if r.state.phase is Phase.ASKED] if decided.withdraw else []
        for reservation in waiting[len(waiting) - decided.withdraw :]:
            reservation.withdraw()
        if decision.end:
            ending = {id(state) for state in decision.end}
            for reservation in [r for r in self.reservations if id(r.state) in ending]:
                self._end(reservation)
        self._on_change(self.status)

    @property
    def _next_open_s(self) -> float:
        """Nothing is opened before this moment: opening failed, or earlier reservations made no progress."""
        return max(self._not_before_s, self._opened_at_s + self._demand.evidence.pause_s)

    def _open(self, count: int, now_s: float) -> None:
        is_futile = self._demand.evidence.pause_s > 0
        if self.trouble == FUTILE and not is_futile:
            self.report_trouble("")
        if self._draining or not count or now_s < self._next_open_s:
            return
        if is_futile:
            self.report_trouble(FUTILE)
        self._opened_at_s = now_s
        if self._failures or is_futile:
            count = 1  # a probe
        for _ in range(count):
            check_s = self.live / CHECKS_PER_S
            reservation = ReservationTask(self.name, self._tools, self._terms, self._changed, check_s=check_s)
            try:
                reservation.open()
            except DispatchStoreError as error:
                self._failed(str(error))
                return
            self.reservations.append(reservation)

    def _end(self, reservation: ReservationTask) -> None:
        task = tasks.watch(reservation.end(), "Releasing a worker", self.report_trouble)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _changed(self, reservation: ReservationTask) -> None:
        """A reservation has changed its phase."""
        if reservation.phase is Phase.CLOSED:
            if reservation.failure is not None:
                self._failed(str(reservation.failure))
            elif reservation.state.held_at_s is not None:
                self._closed_at_s = self._now_s()
                self._demand.evidence.closed(reservation.state)
                self._on_closed(self)
        elif self._failures:  # the engine answers again
            self._failures = 0
            self._not_before_s = float("-inf")
            self.report_trouble("")
        self.wake()

    def _failed(self, sentence: str) -> None:
        """Nothing can be opened; failures at the same time count once."""
        self.report_trouble(sentence)
        now_s = self._now_s()
        if now_s >= self._not_before_s:
            self._failures += 1
            self._not_before_s = now_s + backoff_s(self._failures)

    def report_trouble(self, sentence: str) -> None:
        """Notes and logs why nothing can be opened; "" when it can be again."""
        if sentence and sentence != self.trouble:
            log.warning("%s: %s", self.settings.endpoint, sentence)
        if sentence != self.trouble:
            self.trouble = sentence
            self._on_change(self.status)

    def _cannot_read(self, sentence: str) -> None:
        self._demand.evidence.interrupt()
        if sentence != self.queue_trouble:
            log.warning("%s: %s", self.settings.endpoint, sentence)
            self.queue_trouble = sentence
            self._on_change(self.status)

    # --------------------------------------------------------------------------------------------------------- draining

    async def drain(self) -> int:
        """Withdraws waiting requests; returns how many reservations stay held, for the next dispatcher to adopt."""
        self._draining = True
        for reservation in self.reservations:
            reservation.withdraw()
        give_up_at_s = self._now_s() + DRAIN_S
        while any(r.phase in (Phase.ASKED, Phase.CREATING) and not r.is_adopted for r in self.reservations):
            left_s = give_up_at_s - self._now_s()
            if left_s <= 0:
                break
            self._woken = asyncio.get_running_loop().create_future()
            await asyncio.wait({self._woken}, timeout=left_s)
        return self.holding


def without_password(url: str) -> str:
    """The URL without its password, for names and logs.

    Raises:
        ValueError: it is not a URL.
    """
    shown = shown_url(url)
    for hidden, short in (("://:***@", "://"), ("://***@", "://"), (":***@", "@")):
        if hidden in shown:
            return shown.replace(hidden, short, 1)
    return shown


def _in_words(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.0f} h"


def backoff_s(failures: int) -> float:
    """The pause after this number of failures in a row."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 20))
