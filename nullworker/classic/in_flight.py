"""The requests of the engine's clients in progress, and the statistics from which the reports are made.

Each signed request is entered when it arrives, started when its handler runs, and ended once. Sums "since the last
report" are Vast's (``new_load``, ``rej_load``, ``cur_perf``); what arrives while a report is being sent counts in the
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
class InFlightRequest:
    """One request of a client, from its arrival to its end."""

    request_idx: int
    cost: float
    entered_at: float
    started_at: float = 0.0
    completed_at: float = 0.0
    status: Status | None = None  # None until it is ended


@dataclass(frozen=True, slots=True)
class Figures:
    """The statistics at one moment."""

    request_idxs: tuple[int, ...]  # of the requests in progress
    load: float  # their cost
    received: int  # requests ever received; never falls
    new_load: float  # cost that came in since the last report
    rejected_load: float  # cost that was refused since then
    served_load: float  # cost that was served since then


class RequestStats:
    """The statistics. ``now`` gives the Unix time; ``on_end`` is called after each end."""

    def __init__(self, now: Callable[[], float], on_end: Callable[[], None]) -> None:
        self._now = now
        self._on_end = on_end
        self._lock = threading.Lock()
        self._in_flight: dict[int, InFlightRequest] = {}  # by id(request): a client may send one request_idx twice
        self._ended: deque[InFlightRequest] = deque(maxlen=ENDED_MAX)
        self._received = 0
        self._new_load = self._rejected_load = self._served_load = 0.0

    def enter(self, request_idx: int, cost: float) -> InFlightRequest:
        """A request has come in and is authentic."""
        request = InFlightRequest(request_idx, cost, self._now())
        with self._lock:
            self._in_flight[id(request)] = request
            self._received += 1
            self._new_load += cost
        return request

    def start(self, request: InFlightRequest) -> None:
        """Its handler begins."""
        request.started_at = self._now()

    def end(self, request: InFlightRequest, status: Status) -> None:
        """It is done, or given up; only the first call counts."""
        with self._lock:
            if self._in_flight.pop(id(request), None) is None:
                return
            request.status = status
            request.completed_at = self._now()
            if status == "Success":
                self._served_load += request.cost
            elif status == "Rejected":
                self._rejected_load += request.cost
            elif status == "Cancelled":
                self._new_load = max(0.0, self._new_load - request.cost)
            self._ended.append(request)
        self._on_end()

    def figures(self) -> Figures:
        """The statistics as they are now."""
        with self._lock:
            in_flight = tuple(self._in_flight.values())
            return Figures(
                request_idxs=tuple(request.request_idx for request in in_flight),
                load=sum(request.cost for request in in_flight),
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

    def ended(self) -> tuple[InFlightRequest, ...]:
        """What is ended and not yet taken by an engine, oldest first."""
        with self._lock:
            return tuple(self._ended)

    def taken(self, requests: tuple[InFlightRequest, ...]) -> None:
        """The engine has taken these."""
        gone = {id(request) for request in requests}
        with self._lock:
            self._ended = deque((request for request in self._ended if id(request) not in gone), maxlen=ENDED_MAX)

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress."""
        with self._lock:
            return not self._in_flight
