"""Who is billed for each moment of each worker: for its job, its start, or for being free.

It is told of each change once, with the time in microseconds since 1970, and gives entries (`Entry`) with how long they
lasted. Every microsecond of a worker, from when it is first known to its end, is in exactly one entry, or divided among
those that shared it. What it is for:

- *held*: it holds reservations, from the grant on; each has its share;
- *boot*: it comes up; for the reservation that it holds first after that, once there is one;
- *idle*: it is free; for the reservation that it held before (its idle tail), or for none;
- *other*: it stops, is stopped, ends, or has failed.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nullworker.views.billing import Rates
from nullworker.views.costs import BOOT, HELD, HOUR_US, IDLE, OTHER, by_hour, shares
from nullworker.views.history import BOOTING, GONE

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from nullworker.views.history import Change

#: Entries that may wait to be written: beyond, time is the worker's alone, and no longer its reservations'.
UNWRITTEN_MAX = 2_000
#: Open time of so many workers is brought into entries at a time.
SETTLED_AT_ONCE = 500
_NO_RATES = Rates()
#: A worker that an engine before this one knew, and that ends in one of these before it was heard, was gone by then.
_ENDS = frozenset({GONE, "error", "destroying"})


class Entry(NamedTuple):
    """What some time was for, at which rates."""

    hour: int  # since 1970
    endpoint_id: int
    workergroup_id: int
    worker_id: int
    request_idx: int  # 0: for none
    kind: str
    running: int
    storage: int


@dataclass(slots=True)
class OpenTime:
    """A worker as it is now, and since when that is in no entry yet."""

    worker_id: int
    endpoint_id: int
    workergroup_id: int
    state: str
    since_us: int
    rates: Rates
    holders: list[int] = field(default_factory=list)
    last_request: int = 0  # that it held; 0: none since it was up
    has_booted: bool = False  # and held nothing since
    #: Of one that an engine before this one knew: when that engine was last there, until the worker is heard again.
    unheard_since_us: int | None = None


class Taken(NamedTuple):
    """What is to be written down, as of one moment: it belongs together."""

    entries: dict[Entry, int]  # microseconds
    boots: list[tuple[int, int]]  # starts that turned out to be for a reservation: worker and request
    open: list[OpenTime]  # workers that changed
    gone: list[int]


class CostLedger:
    """The present of all workers, and the entries that are not written yet."""

    def __init__(self, rates: Callable[[int, int, str], Rates]) -> None:
        """``rates`` gives what is paid for a worker (its number, its workergroup, its state)."""
        self._rates = rates
        self._on: dict[int, int] = {}  # the worker that each reservation is on
        self._gone_before: set[int] = set()  # workers that were gone before this engine came, and are known yet
        self.open: dict[int, OpenTime] = {}
        #: Microseconds by entry.
        self.entries: dict[Entry, int] = {}
        #: Starts that are for a reservation since then: worker and request.
        self.boots: list[tuple[int, int]] = []
        #: Workers whose open time changed.
        self.touched: set[int] = set()

    # ------------------------------------------------------------------------------------------------------- taking in

    def change(self, at_us: int, change: Change) -> None:
        """A worker came into a state, or a reservation to a stage.

        Args:
            at_us: when, in microseconds since 1970; not before the change before it.
            change: what.
        """
        if change.kind == "worker":
            self.worker(at_us, change.id, change.state, change.endpoint_id, change.workergroup_id)
        else:
            self.request(at_us, change.id, change.worker_id)

    def worker(self, at_us: int, worker_id: int, state: str, endpoint_id: int, workergroup_id: int) -> None:
        """A worker is in a state now.

        Args:
            at_us: now.
            worker_id: its number.
            state: its state; "gone" where it is no more.
            endpoint_id: its endpoint.
            workergroup_id: its workergroup.
        """
        known = self.open.get(worker_id)
        self.touched.add(worker_id)
        if self._was_gone(worker_id, known, state):
            return
        if known is not None:
            known.unheard_since_us = None
            self._settle(known, at_us)
        if state == GONE:
            self.open.pop(worker_id, None)
            return
        if known is None:
            known = OpenTime(worker_id, endpoint_id, workergroup_id, state, at_us, _NO_RATES)
            self.open[worker_id] = known
        known.state = state
        known.rates = self._rates_of(known)
        if state in BOOTING:
            known.has_booted, known.last_request = True, 0

    def request(self, at_us: int, request_idx: int, worker_id: int) -> None:
        """A reservation is on a worker now.

        Args:
            at_us: now.
            request_idx: its number.
            worker_id: the worker; 0: none.
        """
        before = self._on.pop(request_idx, 0)
        if before and before != worker_id:
            left = self.open.get(before)
            if left is not None and request_idx in left.holders:
                self._settle(left, at_us)
                left.holders.remove(request_idx)
                left.last_request = request_idx
                self.touched.add(before)
        if not worker_id:
            return
        self._on[request_idx] = worker_id
        holder = self.open.get(worker_id)
        if holder is None or request_idx in holder.holders:
            return
        holder.unheard_since_us = None
        self._settle(holder, at_us)
        holder.holders.append(request_idx)
        self.touched.add(worker_id)
        if holder.has_booted:
            holder.has_booted = False
            self.boots.append((worker_id, request_idx))

    def heard(self, worker_id: int) -> None:
        """The worker has reported: it was there while no engine was."""
        known = self.open.get(worker_id)
        if known is not None:
            known.unheard_since_us = None

    def adopt(self, known: Iterable[OpenTime], there: Container[int], alive_us: int, now_us: int) -> None:
        """Takes over what an engine before this one left.

        Until that engine was last there, its workers were at what it wrote. The time without an engine counts as what
        they are at when they are taken over, if they are heard again; else they are billed no further.

        Args:
            known: the workers that it knew.
            there: the workers that there are now.
            alive_us: when it was last there.
            now_us: now.
        """
        for each in known:
            each.since_us = min(each.since_us, now_us)
            self.touched.add(each.worker_id)
            self._settle(each, min(alive_us, now_us))
            if each.worker_id in there:
                each.unheard_since_us = each.since_us
                self.open[each.worker_id] = each
                self._on.update(dict.fromkeys(each.holders, each.worker_id))

    def correct(self, worker_id: int, state: str, request_idxs: Iterable[int]) -> None:
        """What the engine before this one knew last of a worker that it left: it may have been killed before it wrote.

        Args:
            worker_id: the worker, which was taken over.
            state: its state.
            request_idxs: what it holds.
        """
        known = self.open[worker_id]
        for request_idx in known.holders:
            self._on.pop(request_idx, None)
        known.state, known.holders = state, list(request_idxs)
        known.rates = self._rates_of(known)
        self._on.update(dict.fromkeys(known.holders, worker_id))

    # --------------------------------------------------------------------------------------------------------- passing

    def settle(self, at_us: int, before_us: int | None = None) -> None:
        """Brings open time into entries, but for workers that have not been heard yet; prices are looked up again.

        Args:
            at_us: now.
            before_us: of some workers whose open time began before this; None: of all.
        """
        count = 0
        for each in self.open.values():
            if each.unheard_since_us is not None or (before_us is not None and each.since_us >= before_us):
                continue
            self._pass(each, at_us)
            count += 1
            if before_us is not None and count >= SETTLED_AT_ONCE:
                return

    def settle_one(self, at_us: int, worker_id: int = 0, request_idx: int = 0) -> None:
        """As `settle`, of one worker, or of the one that a reservation is on; of none, where there is none.

        Args:
            at_us: now.
            worker_id: the worker; 0: that of the reservation.
            request_idx: the reservation.
        """
        known = self.open.get(worker_id or self._on.get(request_idx, 0))
        if known is not None and known.unheard_since_us is None:
            self._pass(known, at_us)

    def _pass(self, known: OpenTime, at_us: int) -> None:
        self._settle(known, at_us)
        known.rates = self._rates_of(known)
        self.touched.add(known.worker_id)

    def _rates_of(self, known: OpenTime) -> Rates:
        # One that has failed or is drained runs on for as long as it is held, and is billed as such.
        state = "draining" if known.state == "error" and known.holders else known.state
        return self._rates(known.worker_id, known.workergroup_id, state)

    def take(self) -> Taken:
        """All that is new since the last time."""
        changed = [copy(self.open[worker_id]) for worker_id in self.touched if worker_id in self.open]
        for each in changed:
            each.holders = list(each.holders)
        gone = [worker_id for worker_id in self.touched if worker_id not in self.open]
        taken = Taken(self.entries, self.boots, changed, gone)
        self.entries, self.boots, self.touched = {}, [], set()
        return taken

    def give_back(self, taken: Taken) -> None:
        """What could not be written down is to be taken again."""
        for entry, us in taken.entries.items():
            self.entries[entry] = self.entries.get(entry, 0) + us
        self.boots = [*taken.boots, *self.boots]
        self.touched.update(each.worker_id for each in taken.open)
        self.touched.update(taken.gone)

    def shift(self, by_us: int) -> None:
        """The wall clock was set: what is open began so much later."""
        for each in self.open.values():
            each.since_us += by_us
            if each.unheard_since_us is not None:
                each.unheard_since_us += by_us
        self.touched.update(self.open)

    def _was_gone(self, worker_id: int, known: OpenTime | None, state: str) -> bool:
        """Whether a worker that ends now was gone before this engine came: it is billed until the last was there."""
        if known is not None and known.unheard_since_us is not None and state in _ENDS:
            self._settle(known, known.unheard_since_us)
            del self.open[worker_id]
            self._gone_before.add(worker_id)
        if state not in _ENDS:
            self._gone_before.discard(worker_id)
        is_gone = worker_id in self._gone_before
        if state == GONE:
            self._gone_before.discard(worker_id)
        return is_gone

    def _settle(self, known: OpenTime, at_us: int) -> None:
        since_us = known.since_us
        if at_us <= since_us:
            return
        known.since_us = at_us
        holders, state, entries = known.holders, known.state, self.entries
        requests = holders or (known.last_request,)
        if len(entries) >= UNWRITTEN_MAX or (not holders and state in BOOTING):
            requests = (0,)
        kind = HELD if holders else _KINDS.get(state, OTHER)
        hour = since_us // HOUR_US
        if len(requests) == 1 and at_us <= (hour + 1) * HOUR_US:  # nearly always: a busy engine settles all the time
            entry = Entry(
                hour, known.endpoint_id, known.workergroup_id, known.worker_id, requests[0], kind, *known.rates
            )
            entries[entry] = entries.get(entry, 0) + at_us - since_us
            return
        for hour, us in by_hour(since_us, at_us):
            for request_idx, share in zip(requests, shares(us, len(requests)), strict=True):
                entry = Entry(
                    hour, known.endpoint_id, known.workergroup_id, known.worker_id, request_idx, kind, *known.rates
                )
                entries[entry] = entries.get(entry, 0) + share


#: What a worker that holds nothing is for, by its state.
_KINDS = {**dict.fromkeys(BOOTING, BOOT), "ready": IDLE, "held": IDLE}
