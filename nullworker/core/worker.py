"""A worker's life, as a table: everything that may happen to it in each state, and nothing else.

asked ─► creating ─► loading ─► ready ◄─► held         ready ─► stopping ─► inactive ─► starting ─► ready
held ─► draining, error ─► destroying ─► gone          any ─► error ─► destroying ─► gone
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from nullworker.core.reconcile.adoptions import Adoptions
from nullworker.core.reconcile.deliveries import FinishLog
from nullworker.core.reconcile.report_order import ReportOrder

if TYPE_CHECKING:
    from nullworker.core.causes import Cause
    from nullworker.core.reconcile.trust import Trust
    from nullworker.core.reservation import Reservation
    from nullworker.core.workergroup import Workergroup


class WorkerState(enum.Enum):
    """Where a worker is in its life."""

    ASKED = "asked"  # we told the fleet to create it; no answer yet
    CREATING = "creating"  # ordered from the fleet; no report yet
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

    __hash__ = object.__hash__  # of its identity; an enum's own is that of its name, and computed each time


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


class Failure(NamedTuple):
    """Why a worker has failed."""

    cause: Cause
    reason: str


@dataclass(slots=True, eq=False)
class FleetOrder:
    """The order under way with the worker's fleet (create, start, stop or destroy), and what came of it."""

    given_at: float = 0.0
    attempts: int = 0  # that failed
    retry_at: float | None = None
    #: When the fleet said something of a create or start that left the worker's state as it is.
    answered_at: float | None = None

    def given(self, now: float) -> None:
        """A new order is given."""
        self.given_at, self.attempts, self.retry_at, self.answered_at = now, 0, None, None

    def done(self) -> None:
        """The fleet carried it out."""
        self.attempts, self.retry_at = 0, None


@dataclass(slots=True, eq=False)
class Worker:
    """What the engine knows of one worker. Only `EngineState` changes it where sums depend on it.

    Whether it may be granted or ended is for `grantable` and `endable` to say; what these go by is in `reconcile`.
    """

    worker_id: int
    workergroup: Workergroup
    state: WorkerState
    state_since: float
    trust: Trust
    owned: bool = True  # False: joined by itself, never ours to start, stop or destroy
    url: str = ""
    perf: float = 0.0  # measured; 0 until then

    #: Grants and sessions that it holds, by request_idx.
    held: dict[int, Reservation] = field(default_factory=dict)
    held_cost: float = 0.0
    grant_count: int = 0  # grants among those held
    #: Reservations that it is known to take; None: not known yet.
    occupancy: int | None = None
    refusals: int = 0  # in a row, while it held nothing

    #: Why it goes when it is free; None: it stays.
    retire: Cause | None = None
    failure: Failure | None = None
    #: Made to be kept inactive: it is stopped as soon as it is ready and not needed.
    cold_spare: bool = False
    ready_at: float | None = None  # in this boot
    free_since: float = 0.0
    proven: bool = False  # it has finished a request

    order: FleetOrder = field(default_factory=FleetOrder)
    report_order: ReportOrder = field(default_factory=ReportOrder)
    finishes: FinishLog = field(default_factory=FinishLog)
    adoptions: Adoptions = field(default_factory=Adoptions)
    timer_at: float | None = None
    #: What it adds to its endpoint's sums at present; the endpoint's own.
    share: Share | None = None

    def new_process(self) -> None:
        """Another process speaks for the worker from now on, or will: it counts its requests from 0."""
        self.report_order.new_process()
        self.forget_counts()

    def forget_counts(self) -> None:
        """What the process before had received says nothing of this one."""
        for reservation in self.held.values():
            reservation.delivery.new_process()

    @property
    def grantable(self) -> bool:
        """Whether it may get something new, if it has room."""
        return self.retire is None and not self.trust.unresponsive

    @property
    def endable(self) -> bool:
        """Whether it holds nothing, as far as can be known: it may be stopped or destroyed."""
        return not self.held and self.trust.may_hold_unknown_until is None

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
        workergroup were seen to hold many, for as many at once: a refusal teaches, and few are refused at a time.
        """
        most = self.occupancy_known
        if most is None:
            return self.grant_count >= max(1, self.workergroup.most_sessions_seen)
        return len(self.held) >= most

    @property
    def is_overfull(self) -> bool:
        """Whether it cannot hold all that it seems to: some of it is of before a restart, or its report is old."""
        most = self.occupancy_known
        return most is not None and len(self.held) > most

    @property
    def is_taken(self) -> bool:
        """Whether it has turned out to hold as many sessions of others as it takes, since it was granted."""
        most = self.occupancy_known
        return most is not None and len(self.held) - self.grant_count >= most


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
