"""One queue and one endpoint: the loop that keeps as many reservations as there is work.

It is level-triggered: each round reads the queue, compares with all that is asked for or held, and opens or withdraws
the difference. Nothing depends on having seen an event; an event only makes the next round come sooner.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from nullworker.dispatch.evidence import Evidence
from nullworker.dispatch.ledger import LedgerError
from nullworker.dispatch.plan import HOLDING, LIVE, Limits, Phase, Plan, Reading, covers, is_fresh, plan, want
from nullworker.dispatch.slots import LOOKS_PER_S, OpenSlot, Terms, Tools
from nullworker.queues.base import QueueError, QueueUrlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.queues.base import Queue, QueueInfo

log = logging.getLogger(__name__)

#: Two readings of a queue are this far apart at least, however much happens.
ROUND_MIN_S = 0.03
FUTILE = "Reservations end, and the queue gets no shorter: see that the consumer reads this queue."
BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 15.0
#: How long an end waits for workers that are about to confirm.
DRAIN_S = 15.0


@dataclass(frozen=True, slots=True)
class PairSettings:
    """What is to be dispatched."""

    endpoint: str
    queue: str  # its URL
    most: int = 16
    jobs_per_worker: int = 1
    poll_s: float = 1.0
    cost: float = 100.0
    lifetime_s: float = 600.0
    claim_s: float = 30.0
    end_idle_s: float | None = None
    price_per_hour: float = 0.0
    priority: int = 0

    @property
    def name(self) -> str:
        """Endpoint and queue, by which the ledger knows the pair. Has no password in it."""
        return f"{self.endpoint} {without_password(self.queue)}"

    @property
    def limits(self) -> Limits:
        """What the plan is made by."""
        stale_after_s = max(10.0, 3 * self.poll_s)
        return Limits(
            self.most,
            self.jobs_per_worker,
            stale_after_s=stale_after_s,
            claim_s=self.claim_s,
            end_idle_s=self.end_idle_s,
        )


class Pair:
    """The dispatcher of one queue to one endpoint."""

    def __init__(
        self,
        settings: PairSettings,
        tools: Tools,
        *,
        open_queue: Callable[[], Any],
        allowed: Callable[[Pair], tuple[int | None, str]] = lambda _: (None, ""),
        on_closed: Callable[[Pair], None] = lambda _: None,
        on_change: Callable[[Pair], None] = lambda _: None,
        holds: Callable[[], bool] = lambda: False,
    ) -> None:
        """``open_queue`` is awaited for the queue; ``allowed`` says what shared limits leave to this pair, and why.

        ``on_closed`` is called when a reservation is over, ``on_change`` when anything is different. ``holds`` says
        whether anybody needs the dispatcher, be the queue what it may.
        """
        self.settings = settings
        self.name = settings.name
        self.slots: list[OpenSlot] = []
        self.reading: Reading | None = None
        self.info: QueueInfo | None = None
        self.last: Plan | None = None
        self.queue_trouble = ""  # why the queue cannot be read
        self.trouble = ""  # why nothing can be opened
        self._tools = tools
        self._terms = Terms(settings.endpoint, settings.cost, settings.lifetime_s, settings.price_per_hour)
        self._limits = settings.limits
        self._evidence = Evidence()
        self._open_queue = open_queue
        self._allowed = allowed
        self._on_closed = on_closed
        self._on_change = on_change
        self._holds = holds
        self._wake = asyncio.Event()
        self._failures = 0
        self._not_before_s = float("-inf")  # opening failed, and is tried again then
        self._opened_at_s = float("-inf")
        self._closed_at_s = float("-inf")
        self._draining = False
        self._ending: set[asyncio.Task[None]] = set()

    # ---------------------------------------------------------------------------------------------------------- numbers

    def count(self, *phases: Phase) -> int:
        """How many reservations are in one of these phases."""
        return sum(s.phase in phases for s in self.slots)

    @property
    def live(self) -> int:
        """Reservations that are asked for, being created or held."""
        return self.count(*LIVE)

    @property
    def holding(self) -> int:
        """Reservations for which a worker is held, or may be."""
        return self.count(*HOLDING)

    @property
    def wanted(self) -> int:
        """What the queue calls for, before any shared limit; what is live, when there is no fresh reading."""
        now_s = self._now_s()
        if self.reading is None or not is_fresh(self.reading, self._limits, now_s):
            return self.live
        return want(self.reading, [s.slot for s in self.slots], self._limits, now_s)

    @property
    def is_done(self) -> bool:
        """Whether a reading younger than the last reservation's end shows an empty queue, and nothing is open."""
        reading = self.reading
        if reading is None or self.live or not is_fresh(reading, self._limits, self._now_s()):
            return False
        return reading.at_s >= self._closed_at_s and not reading.depth.waiting and not reading.depth.in_flight

    def _now_s(self) -> float:
        return self._tools.clock.monotonic_s()

    # ------------------------------------------------------------------------------------------------------------- loop

    def wake(self) -> None:
        """Has the next round come at once."""
        self._wake.set()

    def adopt(self) -> int:
        """Takes up what a dispatcher before this one left open; returns how many.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        rows = self._tools.ledger.open_rows(self.name)
        for row in rows:
            slot = OpenSlot(
                self.name, self._tools, self._terms, self._changed, row=row, check_s=len(rows) / LOOKS_PER_S
            )
            self.slots.append(slot)
            slot.adopt()
        return len(rows)

    async def run(self) -> None:
        """Dispatches until it is cancelled.

        Raises:
            QueueUrlError: the queue can never be read; at the start alone, and as long as nothing is held.
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
            except Exception as error:  # of an adapter that is not ours, perhaps
                log.exception("the queue of %s cannot be read", self.name)
                self._cannot_read(f"The queue cannot be read ({type(error).__name__}); the log has more.")
            # What was read in between shows that the broker had come back.
            failures = failures + 1 if self.reading is read_before else 1
            await self._tools.clock.sleep(backoff_s(failures))

    async def _follow(self, queue: Queue) -> None:
        """Rounds over one open queue; raises QueueError when it cannot be read any more."""
        watching: asyncio.Task[bool] | None = None
        try:
            while True:
                began_s = self._now_s()
                if self.info is None:
                    self.info = await queue.info()
                    self._limits = replace(self._limits, lag_s=self.info.lag_s)
                self._wake.clear()
                self.consider(await self._read(queue))
                if watching is None or watching.done():
                    watching = asyncio.create_task(queue.changed(self.settings.poll_s))
                waking = asyncio.create_task(self._wait_awake())
                await asyncio.wait({watching, waking}, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
                if watching.done():
                    watching.result()
                await self._tools.clock.sleep(max(0.0, began_s + ROUND_MIN_S - self._now_s()))
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)

    async def _read(self, queue: Queue) -> Reading:
        depth = await queue.depth()
        # By the monotonic clock, so that setting the other one makes no reading old or new.
        return Reading(depth, self._now_s() - max(0.0, self._tools.clock.wall_s() - depth.sampled_at_s))

    async def _wait_awake(self) -> bool:
        """Until something has changed here, a poll has passed, or opening may be tried again."""
        left_s = self._next_open_s - self._now_s()
        pause_s = min(self.settings.poll_s, left_s) if left_s > 0 else self.settings.poll_s
        waiting = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({waiting}, timeout=pause_s)
        finally:
            waiting.cancel()
        return self._wake.is_set()

    def consider(self, reading: Reading) -> None:
        """One round: compares, and opens or withdraws the difference."""
        self.reading = reading
        self.queue_trouble = ""
        lag_s, now_s = self._limits.lag_s, self._now_s()
        self.slots = [s for s in self.slots if s.phase in LIVE or covers(s.slot, reading, lag_s)]
        slots = [s.slot for s in self.slots]
        self._evidence.add(reading, slots)
        allowed, why = self._allowed(self)
        decided = plan(reading, slots, self._limits, now_s, allowed)
        if allowed is not None and allowed < self.wanted and why:
            decided = replace(decided, reason=f"{decided.reason}: {why}")
        self.last = decided
        self._open(decided.open, now_s)
        # The last to ask are the first to go: whoever has waited longest keeps its place.
        waiting = [s for s in self.slots if s.phase is Phase.ASKED]
        for slot in waiting[len(waiting) - decided.withdraw :]:
            slot.withdraw()
        idle = self._evidence.idle(slots, self._limits, now_s)
        for open_slot in self.slots:
            if any(open_slot.slot is slot for slot in idle):
                self._end(open_slot)
        self._on_change(self)

    @property
    def _next_open_s(self) -> float:
        """Before this nothing is opened: it failed, or has come to nothing again and again."""
        return max(self._not_before_s, self._opened_at_s + self._evidence.pause_s)

    def _open(self, count: int, now_s: float) -> None:
        is_futile = self._evidence.pause_s > 0
        if self.trouble == FUTILE and not is_futile:
            self.say("")
        if self._draining or not count or now_s < self._next_open_s:
            return
        if is_futile:
            self.say(FUTILE)
        self._opened_at_s = now_s
        if self._failures or is_futile:
            count = 1  # to see whether it goes well again
        for _ in range(count):
            check_s = self.live / LOOKS_PER_S
            slot = OpenSlot(self.name, self._tools, self._terms, self._changed, check_s=check_s)
            try:
                slot.open()
            except LedgerError as error:
                self._failed(str(error))
                return
            self.slots.append(slot)

    def _end(self, slot: OpenSlot) -> None:
        task = asyncio.ensure_future(slot.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _changed(self, slot: OpenSlot) -> None:
        """A reservation is in another phase."""
        if slot.phase is Phase.CLOSED:
            if slot.failure is not None:
                self._failed(str(slot.failure))
            elif slot.slot.held_at_s is not None:
                self._closed_at_s = self._now_s()
                self._evidence.closed(slot.slot)
                self._on_closed(self)
        elif self._failures:  # the engine answers again
            self._failures = 0
            self._not_before_s = float("-inf")
            self.say("")
        self.wake()

    def _failed(self, sentence: str) -> None:
        """Nothing can be opened; all that fail at once count once."""
        self.say(sentence)
        now_s = self._now_s()
        if now_s >= self._not_before_s:
            self._failures += 1
            self._not_before_s = now_s + backoff_s(self._failures)

    def say(self, sentence: str) -> None:
        """Why nothing can be opened; "" when that is over."""
        if sentence and sentence != self.trouble:
            log.warning("%s: %s", self.name, sentence)
        if sentence != self.trouble:
            self.trouble = sentence
            self._on_change(self)

    def _cannot_read(self, sentence: str) -> None:
        self._evidence.blind()
        if sentence != self.queue_trouble:
            log.warning("%s: %s", self.name, sentence)
            self.queue_trouble = sentence
            self._on_change(self)

    # -------------------------------------------------------------------------------------------------------------- end

    async def drain(self) -> int:
        """Withdraws what only waits, and leaves what is held to the next dispatcher; returns how many are held."""
        self._draining = True
        for slot in self.slots:
            slot.withdraw()
        give_up_at_s = self._now_s() + DRAIN_S
        while any(s.phase in (Phase.ASKED, Phase.CREATING) and not s.is_adopted for s in self.slots):
            left_s = give_up_at_s - self._now_s()
            if left_s <= 0:
                break
            self._wake.clear()
            waking = asyncio.ensure_future(self._wake.wait())
            await asyncio.wait({waking}, timeout=left_s)
            waking.cancel()
        return self.holding


def without_password(url: str) -> str:
    """The URL as a name or a log may show it.

    Raises:
        ValueError: it is no URL.
    """
    scheme, separator, rest = url.partition("://")
    parts = urlsplit(url)
    place, _ = parts.netloc, parts.port  # what is no port is the beginning of a password, perhaps
    user, at, host = place.rpartition("@")
    if not at and "@" in rest.partition("?")[0]:
        return f"{scheme}{separator}…"  # the rest of a password that was not percent-encoded, most likely
    name, colon, _ = user.partition(":")  # without a password, a name may be a token
    shown = f"{name}@{host}" if name and colon else host
    return f"{scheme}{separator}{shown}{rest[len(place) :]}"


def backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(BACKOFF_MAX_S, BACKOFF_FIRST_S * 2.0 ** min(failures - 1, 20))
