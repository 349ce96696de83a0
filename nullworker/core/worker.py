"""A worker's life, as a table: everything that may happen to it in each state, and nothing else.

asked ─► creating ─► loading ─► ready ◄─► held         ready ─► stopping ─► inactive ─► starting ─► ready
held ─► draining, error ─► destroying ─► gone          any ─► error ─► destroying ─► gone
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core import limits

if TYPE_CHECKING:
    from nullworker.core.endpoint import Workergroup
    from nullworker.core.reservation import Reservation


class WorkerState(enum.Enum):
    """Where a worker is in its life."""

    ASKED = "asked"  # we told the fleet to create it; no answer yet
    CREATING = "creating"  # the fleet made it; nothing heard of it yet
    LOADING = "loading"  # it reports, and is not ready yet
    STARTING = "starting"  # an inactive one on its way back
    READY = "ready"  # free
    HELD = "held"  # holds at least one grant or session
    DRAINING = "draining"  # gets nothing new and goes when it is free
    STOPPING = "stopping"
    INACTIVE = "inactive"  # stopped, can be started again
    DESTROYING = "destroying"
    ERROR = "error"  # failed while something was held; goes when that is released
    GONE = "gone"

    __hash__ = object.__hash__  # of its identity; an enum's own is that of its name, and computed anew each time


class WorkerTransition(enum.Enum):
    """What can happen in a worker's life."""

    CREATED = "created"
    LOADS = "loads"
    GETS_READY = "gets_ready"
    TAKEN = "taken"
    FREED = "freed"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    STOP = "stop"
    STOPPED = "stopped"
    START = "start"
    FAIL = "fail"
    DESTROY = "destroy"
    GO = "go"

    __hash__ = object.__hash__


_END = {
    WorkerTransition.FAIL: WorkerState.ERROR,
    WorkerTransition.DESTROY: WorkerState.DESTROYING,
    WorkerTransition.GO: WorkerState.GONE,
}

#: TRANSITIONS[state][turn] is the next state; what is not here cannot happen.
TRANSITIONS: dict[WorkerState, dict[WorkerTransition, WorkerState]] = {
    WorkerState.ASKED: {
        WorkerTransition.CREATED: WorkerState.CREATING,
        WorkerTransition.LOADS: WorkerState.LOADING,
        WorkerTransition.GETS_READY: WorkerState.READY,
        **_END,
    },
    WorkerState.CREATING: {
        WorkerTransition.LOADS: WorkerState.LOADING,
        WorkerTransition.GETS_READY: WorkerState.READY,
        **_END,
    },
    WorkerState.LOADING: {WorkerTransition.GETS_READY: WorkerState.READY, **_END},
    WorkerState.STARTING: {
        WorkerTransition.GETS_READY: WorkerState.READY,
        WorkerTransition.STOP: WorkerState.STOPPING,
        **_END,
    },
    WorkerState.READY: {
        WorkerTransition.TAKEN: WorkerState.HELD,
        WorkerTransition.LOADS: WorkerState.LOADING,
        WorkerTransition.STOP: WorkerState.STOPPING,
        WorkerTransition.DRAIN: WorkerState.DRAINING,
        **_END,
    },
    WorkerState.HELD: {WorkerTransition.FREED: WorkerState.READY, WorkerTransition.DRAIN: WorkerState.DRAINING, **_END},
    WorkerState.DRAINING: {
        WorkerTransition.UNDRAIN: WorkerState.HELD,
        WorkerTransition.STOP: WorkerState.STOPPING,
        **_END,
    },
    WorkerState.STOPPING: {WorkerTransition.STOPPED: WorkerState.INACTIVE, **_END},
    WorkerState.INACTIVE: {WorkerTransition.START: WorkerState.STARTING, **_END},
    WorkerState.ERROR: {WorkerTransition.GETS_READY: WorkerState.READY, **_END},
    WorkerState.DESTROYING: {WorkerTransition.GO: WorkerState.GONE},
    WorkerState.GONE: {},
}

#: On their way to ready; they cover demand.
BOOTING = frozenset({WorkerState.ASKED, WorkerState.CREATING, WorkerState.LOADING, WorkerState.STARTING})
#: Serving, or able to.
ACTIVE = frozenset({WorkerState.READY, WorkerState.HELD})
#: On their way out; they cover nothing.
LEAVING = frozenset(
    {WorkerState.DRAINING, WorkerState.STOPPING, WorkerState.ERROR, WorkerState.DESTROYING, WorkerState.GONE}
)


class ImpossibleWorkerTransition(Exception):  # noqa: N818 - it is a fact about the table, and a bug in the core
    """The table has no such turn in this state."""

    def __init__(self, worker_id: int, state: WorkerState, transition: WorkerTransition) -> None:
        super().__init__(f"worker {worker_id} cannot {transition.value} while it is {state.value}")


@dataclass(slots=True, eq=False)
class Worker:
    """What the engine knows of one worker. Only the ledger changes ``state``, ``held``, ``perf`` and ``suspect``."""

    worker_id: int
    workergroup: Workergroup
    state: WorkerState
    state_since: float
    owned: bool = True  # False: joined by itself, never ours to start, stop or destroy
    url: str = ""
    perf: float = 0.0  # measured; 0 until then
    generation: int = 0  # of its workergroup at its creation (rolling updates)

    #: Grants and sessions that it holds, by request_idx.
    held: dict[int, Reservation] = field(default_factory=dict)
    held_cost: float = 0.0
    #: Reservations that it is known to take; None: not known yet.
    occupancy: int | None = None
    refusals: int = 0  # in a row, while it held nothing
    grant_count: int = 0  # grants among those held

    #: Silent for too long, not heard of since a restart, or just in doubt: gets nothing new until its next report.
    unresponsive: bool = False
    #: It may hold, or come to hold until this time, something that we do not know of (a grant that nobody confirmed, a
    #: refusal while it seemed free). Until reports made later tell, it does not go, and its silence is judged as that
    #: of a held one.
    may_hold_unknown_until: float | None = None
    reports_wanted: int = 0  # reports after that time that are wanted still
    #: Why it goes when it is free ("": it stays).
    retire: str = ""
    error: str = ""
    #: Made to be kept inactive: it is stopped as soon as it is ready and nobody needs it.
    cold_spare: bool = False

    reported_at: float = 0.0
    ready_at: float | None = None  # in this boot
    free_since: float = 0.0
    proven: bool = False
    received: int = 0
    seq: int = 0
    late_reports: int = 0
    #: Of a worker that does not number its reports: its process's loading time, and those of the processes before it.
    loadtime_s: float = 0.0
    loadtimes_before: tuple[float, ...] = ()
    awaiting_report: bool = False  # restored, and has not reported since, or what it reported may be of before

    attempts: int = 0  # of the order that is under way
    order_at: float = 0.0  # when that order was last given
    answered_at: float | None = None  # when its fleet said something of a create or start that left the state as it is
    retry_at: float | None = None
    timer_at: float | None = None

    #: Requests that it finished lately: request_idx -> when we learnt it, in the order of learning. (This and the next
    #: two are plain dicts: there are as many as workers, and all that is asked of them is the order of their keys.)
    finished: dict[int, float] = field(default_factory=dict)
    #: Requests of which it may still tell an end that belongs to an earlier grant: request_idx -> how many.
    pending_finishes: dict[int, int] = field(default_factory=dict)
    #: What it told us of requests lately, by (request_idx, entered_at): so that a repetition counts once.
    seen_attempts: dict[tuple[int, float], float] = field(default_factory=dict)
    #: What it adds to its endpoint's sums at present; the ledger's own.
    share: Share | None = None

    def new_process(self) -> None:
        """Another process speaks for the worker from now on, or will: it counts its requests anew.

        If it numbers its reports, it goes on doing so: a straggler of the one before is known for what it is.
        """
        self.received = self.late_reports = 0
        for reservation in self.held.values():
            reservation.received = 0
        if self.loadtime_s:
            self.loadtimes_before = (*self.loadtimes_before, self.loadtime_s)[-limits.PROCESSES_REMEMBERED :]
            self.loadtime_s = 0.0

    @property
    def may_hold_unknown(self) -> bool:
        """Whether it may hold something that we do not know of."""
        return self.may_hold_unknown_until is not None

    @property
    def perf_expected(self) -> float:
        """Measured perf, or its workergroup's before that."""
        return self.perf or self.workergroup.spec.perf

    @property
    def occupancy_known(self) -> int | None:
        """Reservations that it takes, as far as is known of it or of its workergroup."""
        return self.occupancy if self.occupancy is not None else self.workergroup.spec.occupancy

    @property
    def full(self) -> bool:
        """Whether it holds all that it is known to take; or, where that is not known, all that it may be asked.

        Of workers whose occupancy is to be learnt, one is asked for one more than was seen, and when others of its
        workergroup were seen to hold many, for as many at once: a refusal teaches, and nobody is refused in heaps.
        """
        most = self.occupancy_known
        if most is None:
            return self.grant_count >= max(1, self.workergroup.seen)
        return len(self.held) >= most


class Share(NamedTuple):
    """A worker's part in its endpoint's sums."""

    state: WorkerState
    ready_perf: float = 0.0
    booting_perf: float = 0.0
    inactive_perf: float = 0.0
    held_cost: float = 0.0
    free: bool = False
    slots: int = 0  # reservations that it can take now or when it has booted, where known
    unbounded: int = 0  # 1 where that is not known
