"""What metrics count as it happens: the durations of waits, hand-overs, holds and starts, and calls of fleets.

It watches the history, which is told of each change once. A report of a worker changes nothing as a rule and costs one
addition, to the time that decisions take.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from nullworker.engine.metrics import histogram
from nullworker.engine.metrics.histogram import Histogram
from nullworker.views.history import BOOTING, HOLDING

if TYPE_CHECKING:
    from collections.abc import Container

    from nullworker.views.history import Change, History, ReservationHistory, WorkerHistory

#: Since a worker was ordered: the fleet has created it, it sends its first report, it is ready, it is granted first.
#: ``resumed``: since a stopped one was started, it is ready.
PHASES = ("created", "started", "ready", "granted", "resumed")
_REACHED = {"creating": ("created",), "loading": ("created", "started"), "ready": ("created", "started", "ready")}


class FleetCall(NamedTuple):
    """A kind of call of a fleet: create, start, stop, destroy or list."""

    fleet: str
    op: str


class Measurements:
    """Counts since the start of the engine. Durations are kept by endpoint id."""

    def __init__(self, history: History) -> None:
        """Watches ``history`` from now on: what is loaded into it before was counted by an engine before this one."""
        self._history = history
        self.waits: dict[int, Histogram] = {}
        self.handovers: dict[int, Histogram] = {}
        self.holds: dict[int, Histogram] = {}
        self.starts: dict[tuple[int, str], Histogram] = {}  # by endpoint and phase
        self.calls: dict[FleetCall, Histogram] = {}
        self.call_results: Counter[tuple[FleetCall, str]] = Counter()
        #: What the core took for each event.
        self.decisions = Histogram(histogram.DECISIONS_S)
        history.watcher = self

    def forget_endpoints(self, known: Container[int]) -> None:
        """Drops what is kept of endpoints that are no more."""
        for kept in (self.waits, self.handovers, self.holds):
            for gone in [endpoint_id for endpoint_id in kept if endpoint_id not in known]:
                del kept[gone]
        for phase in [key for key in self.starts if key[0] not in known]:
            del self.starts[phase]

    def fleet_called(self, fleet: str, op: str, result: str, seconds: float) -> None:
        """A fleet has answered, or not.

        Args:
            fleet: its name.
            op: create, start, stop, destroy or list.
            result: ``ok``; ``refused``: it was certainly not done; ``unknown``: it may have been.
            seconds: how long it took.
        """
        call = FleetCall(fleet, op)
        if call not in self.calls:
            self.calls[call] = Histogram(histogram.CALLS_S)
        self.calls[call].observe(seconds)
        self.call_results[call, result] += 1

    # ------------------------------------------------------------------------------------------- what the history tells

    def worker_changes(self, worker: WorkerHistory, change: Change) -> None:
        """A worker is about to come into another state.

        Args:
            worker: what it went through before.
            change: the change.
        """
        since_s = worker.boot_from_s
        if since_s is None:
            return
        began_as = next((state for at_s, state in worker.states if at_s >= since_s), "")
        if worker.state in BOOTING and began_as == "asked":
            reached = _REACHED.get("ready" if change.state == "held" else change.state, ())
            for phase in reached[len(_REACHED.get(worker.state, ())) :]:
                self._started(worker.endpoint_id, phase, change.at_s - since_s)
        elif worker.state == "starting" and change.state in ("ready", "held"):
            self._started(worker.endpoint_id, "resumed", change.at_s - since_s)
        if change.state == "held" and began_as == "asked" and not worker.holds:
            self._started(worker.endpoint_id, "granted", change.at_s - since_s)

    def reservation_changes(self, reservation: ReservationHistory, change: Change) -> None:
        """A reservation is about to come to another stage, or to another worker.

        Args:
            reservation: what it went through before.
            change: the change.
        """
        stages, endpoint_id = reservation.stages, reservation.endpoint_id
        asked_at_s = stages[0][0] if stages else change.at_s
        before = stages[-1][1] if stages else ""
        is_adopted = not before and change.state == "session"  # another engine gave it its worker
        if change.state in HOLDING and not is_adopted and not any(worker_id for _, _, worker_id in stages):
            _in(self.waits, endpoint_id, histogram.WAITS_S).observe(change.at_s - asked_at_s)
        if change.state == "session" and before == "granted":
            freed_at_s = self._freed_at_s(change.worker_id, change.id)
            if freed_at_s is not None and freed_at_s >= asked_at_s:
                _in(self.handovers, endpoint_id, histogram.WAITS_S).observe(change.at_s - freed_at_s)
        if before == "session" and change.state != "session":
            since_s = self._history.held[endpoint_id].get(change.id)
            if since_s is not None:
                _in(self.holds, endpoint_id, histogram.HOLDS_S).observe(change.at_s - since_s)

    def _freed_at_s(self, worker_id: int, request_idx: int) -> float | None:
        """When what a worker held before this request ended; None: it held nothing, or holds that yet."""
        worker = self._history.workers.get(worker_id)
        holds = [] if worker is None else [hold for hold in worker.holds.values() if hold.request_idx != request_idx]
        return holds[-1].until_s if holds else None

    def _started(self, endpoint_id: int, phase: str, seconds: float) -> None:
        key = endpoint_id, phase
        if key not in self.starts:
            self.starts[key] = Histogram(histogram.STARTS_S)
        self.starts[key].observe(seconds)


def _in(kept: dict[int, Histogram], endpoint_id: int, bounds_s: tuple[float, ...]) -> Histogram:
    found = kept.get(endpoint_id)
    if found is None:
        found = kept[endpoint_id] = Histogram(bounds_s)
    return found
