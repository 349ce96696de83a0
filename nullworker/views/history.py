"""The states that workers and reservations went through in the last hour, and how long starts and holds took.

It is told of each change once, and reads nothing of the core itself. All times are Unix time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: How far back lanes reach.
KEPT_S = 3600.0
#: Workers, and reservations that have ended, that are kept at most: those that changed last.
WORKERS_MAX = 20_000
ENDED_MAX = 20_000
#: Changes of one worker, or holds of it, that are kept at most: more cannot be told apart on a screen.
STATES_MAX = 100
#: Changes that may wait to be written: beyond some thousand a second, a history has gaps.
UNWRITTEN_MAX = 5_000
#: The latest durations that an estimate is made of.
DURATIONS_KEPT = 50

BOOTING = frozenset({"asked", "creating", "loading", "starting"})
HOLDING = frozenset({"granted", "session"})
_ENDED = "ended"
GONE = "gone"


class Change(NamedTuple):
    """One change: a worker came into a state, or a reservation to a stage."""

    at_s: float
    kind: str  # "worker" or "request"
    id: int
    endpoint_id: int
    workergroup_id: int  # of a worker
    state: str
    worker_id: int  # of a reservation; 0: none


class Hold(NamedTuple):
    """A reservation on a worker."""

    request_idx: int
    from_s: float
    until_s: float | None
    job: str = ""  # what it is for, where its holder has told


@dataclass(slots=True)
class WorkerHistory:
    """One worker: its states, oldest first, and what it held."""

    worker_id: int
    endpoint_id: int
    workergroup_id: int
    states: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=STATES_MAX))
    holds: OrderedDict[int, Hold] = field(default_factory=OrderedDict)
    boot_from_s: float | None = None
    serial: int = 0
    #: Its lane as it was last sent, and the `serial` of that time.
    encoded: tuple[int, bytes] = (0, b"")

    @property
    def state(self) -> str:
        """The state that it came into last."""
        return self.states[-1][1] if self.states else GONE

    @property
    def changed_at_s(self) -> float:
        """When it came into that."""
        return self.states[-1][0] if self.states else 0.0


@dataclass(slots=True)
class ReservationHistory:
    """One reservation: its stages, oldest first, as (time, stage, worker)."""

    request_idx: int
    endpoint_id: int
    stages: list[tuple[float, str, int]] = field(default_factory=list)
    job: str = ""

    @property
    def asked_at_s(self) -> float:
        """When it was first seen."""
        return self.stages[0][0]

    @property
    def stage(self) -> str:
        """Where it is."""
        return self.stages[-1][1]

    @property
    def worker_id(self) -> int:
        """On which worker it is; 0: none."""
        return self.stages[-1][2]


class Watcher(Protocol):
    """Is told of each change before the history takes it in (`nullworker.engine.metrics.measurements.Measurements`)."""

    def worker_changes(self, worker: WorkerHistory, change: Change) -> None:
        """A worker is about to come into another state."""

    def reservation_changes(self, reservation: ReservationHistory, change: Change) -> None:
        """A reservation is about to come to another stage, or to another worker."""


class History:
    """All workers and reservations that changed in the last hour, or are still there."""

    def __init__(self) -> None:
        #: By worker id; the one that changed last is the last.
        self.workers: OrderedDict[int, WorkerHistory] = OrderedDict()
        self.reservations: dict[int, ReservationHistory] = {}
        self._ended: deque[int] = deque()
        #: Counts changes of workers: what has a higher one is newer.
        self.serial = 0
        #: Counts all changes.
        self.count = 0
        #: By endpoint: when each worker that comes up began to, and since when each reservation is held.
        self.booting: defaultdict[int, dict[int, float]] = defaultdict(dict)
        self.held: defaultdict[int, dict[int, float]] = defaultdict(dict)
        self._boots: defaultdict[int, deque[float]] = defaultdict(_durations)  # by workergroup
        self._holds: defaultdict[int, deque[float]] = defaultdict(_durations)  # by endpoint
        #: Changes that are not written to a file yet; None: none is written.
        self.unwritten: list[Change] | None = None
        #: Endpoints that something changed of since they were last looked at.
        self.touched: set[int] = set()
        #: Counts what changes; None: nothing does.
        self.watcher: Watcher | None = None
        #: Called with each change; None: nothing is. Not with what an engine before this one wrote.
        self.on_change: Callable[[Change], None] | None = None

    # ------------------------------------------------------------------------------------------------------- taking in

    def worker(self, at_s: float, worker_id: int, state: str, endpoint_id: int, workergroup_id: int) -> None:
        """A worker is in a state now; nothing happens where that is known.

        Args:
            at_s: now.
            worker_id: its number.
            state: its state; "gone" where it is no more.
            endpoint_id: its endpoint; 0: as before.
            workergroup_id: likewise.
        """
        known = self.workers.get(worker_id)
        if known is None:
            if state == GONE:
                return
            known = self.workers[worker_id] = WorkerHistory(worker_id, endpoint_id, workergroup_id)
        elif known.state == state:
            return
        change = Change(at_s, "worker", worker_id, known.endpoint_id, known.workergroup_id, state, 0)
        if self.watcher is not None:
            self.watcher.worker_changes(known, change)
        self._note(change)
        self._boot(known, state, at_s)
        known.states.append((at_s, state))
        self._changed(known)

    def reservation(self, at_s: float, request_idx: int, endpoint_id: int, stage: str, worker_id: int) -> None:
        """A reservation is at a stage now; nothing happens where that is known.

        Args:
            at_s: now.
            request_idx: its number.
            endpoint_id: its endpoint; 0: as before.
            stage: where it is in its life; "ended" where it is no more.
            worker_id: on which worker; 0: on none.
        """
        known = self.reservations.get(request_idx)
        if known is None:
            if stage == _ENDED:
                return
            known = self.reservations[request_idx] = ReservationHistory(request_idx, endpoint_id)
        elif (known.stage, known.worker_id) == (stage, worker_id) or known.stage == _ENDED == stage:
            return
        change = Change(at_s, "request", request_idx, known.endpoint_id, 0, stage, worker_id)
        if self.watcher is not None:
            self.watcher.reservation_changes(known, change)
        self._note(change)
        before = known.worker_id if known.stages else 0
        if before and before != worker_id:
            self._released(known, before, at_s)
        if worker_id and before != worker_id:
            self.held[known.endpoint_id][request_idx] = at_s
            self._on_worker(worker_id, Hold(request_idx, at_s, None, known.job))
        known.stages.append((at_s, stage, worker_id))
        if len(known.stages) > STATES_MAX:
            del known.stages[1]
        if stage == _ENDED:
            self._ended.append(request_idx)

    def job(self, request_idx: int, job: str) -> None:
        """What a reservation is for is known now, and shown on its lane."""
        known = self.reservations.get(request_idx)
        if known is None or known.job == job:
            return
        known.job = job
        worker = self.workers.get(known.worker_id or next((w for _, _, w in reversed(known.stages) if w), 0))
        if worker is not None and request_idx in worker.holds:
            self._on_worker(worker.worker_id, worker.holds[request_idx]._replace(job=job))

    def load(self, changes: Iterable[Change]) -> None:
        """Takes over what an engine before this one wrote, oldest first; it is not written again."""
        unwritten, self.unwritten = self.unwritten, None
        for change in changes:
            if change.kind == "worker":
                self.worker(change.at_s, change.id, change.state, change.endpoint_id, change.workergroup_id)
            else:
                self.reservation(change.at_s, change.id, change.endpoint_id, change.state, change.worker_id)
        self.unwritten = unwritten

    def keep_only(self, at_s: float, workers: Iterable[int], requests: Iterable[int]) -> None:
        """After a restart: what is not among these is no more.

        Args:
            at_s: now.
            workers: the ids of all workers that there are.
            requests: the numbers of all reservations that there are.
        """
        there, open_ones = set(workers), set(requests)
        for worker_id in [known.worker_id for known in self.workers.values() if known.state != GONE]:
            if worker_id not in there:
                self.worker(at_s, worker_id, GONE, 0, 0)
        for request_idx in [known.request_idx for known in self.reservations.values() if known.stage != _ENDED]:
            if request_idx not in open_ones:
                self.reservation(at_s, request_idx, 0, _ENDED, 0)

    def _boot(self, worker: WorkerHistory, state: str, at_s: float) -> None:
        coming = self.booting[worker.endpoint_id]
        if state in BOOTING:
            if worker.boot_from_s is None or worker.state not in BOOTING:
                worker.boot_from_s = at_s
            coming[worker.worker_id] = worker.boot_from_s
            return
        coming.pop(worker.worker_id, None)
        if state in ("ready", "held") and worker.boot_from_s is not None and worker.state in BOOTING:
            self._boots[worker.workergroup_id].append(at_s - worker.boot_from_s)

    def _released(self, reservation: ReservationHistory, worker_id: int, at_s: float) -> None:
        since_s = self.held[reservation.endpoint_id].pop(reservation.request_idx, None)
        if since_s is not None and reservation.stage == "session":
            self._holds[reservation.endpoint_id].append(at_s - since_s)
        worker = self.workers.get(worker_id)
        if worker is not None and reservation.request_idx in worker.holds:
            self._on_worker(worker_id, worker.holds[reservation.request_idx]._replace(until_s=at_s))

    def _on_worker(self, worker_id: int, hold: Hold) -> None:
        worker = self.workers.get(worker_id)
        if worker is None:
            return
        worker.holds[hold.request_idx] = hold
        if len(worker.holds) > STATES_MAX:
            worker.holds.popitem(last=False)
        self._changed(worker)

    def _changed(self, worker: WorkerHistory) -> None:
        self.serial += 1
        worker.serial = self.serial
        self.workers.move_to_end(worker.worker_id)

    def _note(self, change: Change) -> None:
        self.count += 1
        self.touched.add(change.endpoint_id)
        if self.unwritten is not None and len(self.unwritten) < UNWRITTEN_MAX:
            self.unwritten.append(change)
        if self.on_change is not None:
            self.on_change(change)

    def forget_old(self, at_s: float) -> list[int]:
        """Forgets what ended more than an hour ago, or is beyond what is kept; returns the workers."""
        since_s = at_s - KEPT_S
        gone: list[int] = []
        for worker in list(self.workers.values()):
            if worker.changed_at_s >= since_s and len(self.workers) - len(gone) <= WORKERS_MAX:
                break
            if worker.state == GONE:
                gone.append(worker.worker_id)
        for worker_id in gone:
            del self.workers[worker_id]
        while self._ended and (
            len(self._ended) > ENDED_MAX or self.reservations[self._ended[0]].stages[-1][0] < since_s
        ):
            request_idx = self._ended.popleft()
            if self.reservations[request_idx].stage == _ENDED:
                del self.reservations[request_idx]
        return gone

    # --------------------------------------------------------------------------------------------------------- reading

    def changed_after(self, serial: int) -> Iterator[WorkerHistory]:
        """Workers that changed after ``serial`` was the latest change, the latest first."""
        for worker in reversed(self.workers.values()):
            if worker.serial <= serial:
                return
            yield worker

    def boots_s(self, workergroup_ids: Iterable[int]) -> list[float]:
        """How long the latest starts of these workergroups took, sorted."""
        return sorted(seconds for group in workergroup_ids for seconds in self._boots.get(group, ()))

    def holds_s(self, endpoint_id: int) -> list[float]:
        """How long the latest reservations of an endpoint were held, sorted."""
        return sorted(self._holds.get(endpoint_id, ()))


def _durations() -> deque[float]:
    return deque(maxlen=DURATIONS_KEPT)


def median(durations: list[float]) -> float:
    """The median of sorted durations; there is at least one."""
    middle = len(durations) // 2
    return durations[middle] if len(durations) % 2 else (durations[middle - 1] + durations[middle]) / 2


def remaining_s(durations: list[float], elapsed_s: float) -> float | None:
    """How long something that lasts for ``elapsed_s`` will last yet, by the median of those that lasted longer.

    None: none of the sorted durations was longer.
    """
    longer = durations[bisect_left(durations, elapsed_s) :]
    return median(longer) - elapsed_s if longer else None
