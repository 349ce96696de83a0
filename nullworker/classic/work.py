"""What this worker does for the engine's clients: the books from which its reports are made.

Each signed request is entered when it comes in, started when its handler runs, and ended once. Sums "since the last
report" are Vast's (``new_load``, ``rej_load``, ``cur_perf``); what comes in while a report is on its way counts in the
next one. Times are Unix times, as Vast reports them. All methods may be called from any thread.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Status = Literal["Success", "Error", "Cancelled", "Rejected"]

#: Ended requests that are kept until an engine takes them: the most that one message may carry. With more, the oldest
#: are forgotten; the engine then learns from the status reports, which no longer list them.
ENDED_MAX = 10_000


@dataclass
class Work:
    """One request of a client, from its arrival to its end."""

    request_idx: int
    cost: float
    entered_at: float
    started_at: float = 0.0
    completed_at: float = 0.0
    status: Status | None = None  # None until it is ended


@dataclass(frozen=True, slots=True)
class Figures:
    """The books at one moment."""

    request_idxs: tuple[int, ...]  # of the work in hand
    load: float  # its cost
    received: int  # requests ever received; never falls
    new_load: float  # cost that came in since the last report
    rejected_load: float  # cost that was refused since then
    served_load: float  # cost that was served since then


class Ledger:
    """The books. ``now`` gives the Unix time; ``on_end`` is called after each end."""

    def __init__(self, now: Callable[[], float], on_end: Callable[[], None]) -> None:
        self._now = now
        self._on_end = on_end
        self._lock = threading.Lock()
        self._in_hand: dict[int, Work] = {}  # by id(work): a client may send one request_idx twice
        self._ended: deque[Work] = deque(maxlen=ENDED_MAX)
        self._received = 0
        self._new_load = self._rejected_load = self._served_load = 0.0

    def enter(self, request_idx: int, cost: float) -> Work:
        """A request has come in and is authentic."""
        work = Work(request_idx, cost, self._now())
        with self._lock:
            self._in_hand[id(work)] = work
            self._received += 1
            self._new_load += cost
        return work

    def start(self, work: Work) -> None:
        """Its handler begins."""
        work.started_at = self._now()

    def end(self, work: Work, status: Status) -> None:
        """It is done, or given up; only the first call counts."""
        with self._lock:
            if self._in_hand.pop(id(work), None) is None:
                return
            work.status = status
            work.completed_at = self._now()
            if status == "Success":
                self._served_load += work.cost
            elif status == "Rejected":
                self._rejected_load += work.cost
            elif status == "Cancelled":
                self._new_load = max(0.0, self._new_load - work.cost)
            self._ended.append(work)
        self._on_end()

    def figures(self) -> Figures:
        """The books as they are now."""
        with self._lock:
            in_hand = tuple(self._in_hand.values())
            return Figures(
                request_idxs=tuple(work.request_idx for work in in_hand),
                load=sum(work.cost for work in in_hand),
                received=self._received,
                new_load=self._new_load,
                rejected_load=self._rejected_load,
                served_load=self._served_load,
            )

    def reported(self, figures: Figures) -> None:
        """The engine has these figures: what they say of "since the last report" is not said again."""
        with self._lock:
            self._new_load = max(0.0, self._new_load - figures.new_load)
            self._rejected_load = max(0.0, self._rejected_load - figures.rejected_load)
            self._served_load = max(0.0, self._served_load - figures.served_load)

    def ended(self) -> tuple[Work, ...]:
        """What is ended and not yet taken by an engine, oldest first."""
        with self._lock:
            return tuple(self._ended)

    def taken(self, works: tuple[Work, ...]) -> None:
        """The engine has taken these."""
        gone = {id(work) for work in works}
        with self._lock:
            self._ended = deque((work for work in self._ended if id(work) not in gone), maxlen=ENDED_MAX)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in hand."""
        with self._lock:
            return not self._in_hand
