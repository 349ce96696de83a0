"""What can happen to an engine. Each is handled by ``Engine.handle(event, now)``; nothing else changes its state.

Identifiers come in with the events: ``request_idx`` and the ids of endpoints and workergroups are the caller's to
choose (unique for ever), worker ids are chosen by the core when it creates one and by the caller when one joins.
"""

from __future__ import annotations

from dataclasses import dataclass

from nullworker.core.causes import Cause  # noqa: TC001 - as below
from nullworker.core.parameters import Parameters, WorkergroupSpec  # noqa: TC001 - dataclass fields, resolved by the journal

# ---------------------------------------------------------------------------------------------------- what clients do


@dataclass(frozen=True, slots=True)
class Asked:
    """A client asks for a worker, and waits for the answer (its /route/ call is held open).

    A ``request_idx`` seen before means that the same waiter asks again: its poll, or its grant did not take.
    """

    endpoint_id: int
    request_idx: int
    cost: float
    replay_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True)
class HoldEnded:
    """The held /route/ call was answered WAITING; the waiter is expected to ask again soon."""

    request_idx: int


@dataclass(frozen=True, slots=True)
class WaiterGone:
    """The waiter's connection broke while it waited, or it said that it no longer waits."""

    request_idx: int


# ---------------------------------------------------------------------------------------------------- what workers say


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """A worker's status, authenticated as its own.

    ``received`` is the worker's count of requests ever received; it never falls while one process lives, which is how
    a late report is told from a fresh one. ``seq`` is a stricter order that the Null PyWorker adds (0: it said none).
    ``loadtime_s`` is how long the process took to load (0: it has not), the same in all of its reports and, to some
    fraction of a second, in no other's. Where there is no ``seq``, it tells one process of a worker from another.
    """

    worker_id: int
    url: str
    ready: bool
    error: str
    perf: float
    load: float
    request_idxs: tuple[int, ...]
    received: int = 0
    seq: int = 0
    loadtime_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ReportRefused:
    """A message of a worker's, authenticated as its own, could not be taken; ``reason`` says what is wrong with it.

    It says nothing of what the worker holds, and that the worker lives.
    """

    worker_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """One finished request. ``status`` is one of Success, Error, Cancelled, Rejected; ``entered_at`` identifies the
    attempt (the worker's wall clock at its arrival), so that a repeated report counts once.
    """

    request_idx: int
    status: str
    entered_at: float = 0.0


@dataclass(frozen=True, slots=True)
class RequestsFinished:
    """A worker's list of requests that it is done with."""

    worker_id: int
    requests: tuple[Finished, ...]


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker that was started outside the engine reports for the first time, with its endpoint's join token.

    It is routed to, and never started, stopped or destroyed by us.
    """

    worker_id: int
    workergroup_id: int


# ---------------------------------------------------------------------------------------------------- what fleets say


@dataclass(frozen=True, slots=True)
class InstanceCreated:
    """The fleet made the instance and it is on its way."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class InstanceStarted:
    """The fleet set a stopped instance running; its worker has not reported yet."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class InstanceStopped:
    """The fleet stopped the instance as told."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class InstanceGone:
    """The instance is destroyed; nothing of it is left."""

    worker_id: int


@dataclass(frozen=True, slots=True)
class InstanceExited:
    """The instance ended without having been told to: a crash, a pre-emption, a kill from outside."""

    worker_id: int
    detail: str


@dataclass(frozen=True, slots=True)
class InstanceFailed:
    """The fleet could not do ``verb`` (create, start, stop, destroy). ``definite``: certainly not done.

    ``short``: for a creation, that there is no place for it now, and may be one later.
    """

    worker_id: int
    verb: str
    detail: str
    definite: bool = True
    short: bool = False


@dataclass(frozen=True, slots=True)
class FleetListed:
    """All that a fleet has under our mark, as (worker id, state), state being running, stopped or exited.

    ``asked_at`` is the time at which the list was asked for: what was created later may be missing from it.
    """

    fleet: str
    asked_at: float
    instances: tuple[tuple[int, str], ...]


# ---------------------------------------------------------------------------------------------------- what operators do


@dataclass(frozen=True, slots=True)
class EndpointPut:
    """An endpoint is created, or its parameters change, at once."""

    endpoint_id: int
    name: str
    parameters: Parameters


@dataclass(frozen=True, slots=True)
class EndpointDeleted:
    """An endpoint is deleted: drained first, or (``force``) with everything that it holds."""

    endpoint_id: int
    force: bool = False


@dataclass(frozen=True, slots=True)
class WorkergroupPut:
    """A workergroup is created or changed. Workers that exist stay as they are."""

    workergroup: WorkergroupSpec


@dataclass(frozen=True, slots=True)
class WorkergroupDeleted:
    """A workergroup is deleted: its free workers now, its held ones when they are released."""

    workergroup_id: int


@dataclass(frozen=True, slots=True)
class WorkersUpdated:
    """A rolling update: the workergroup's free workers are replaced now, held ones when released. Or its cancelling."""

    workergroup_id: int
    cancel: bool = False


# ---------------------------------------------------------------------------------------------------- what time does


@dataclass(frozen=True, slots=True)
class TimePassed:
    """Nothing but time: sent when ``Engine.wake_at()`` is reached (a little late is no harm)."""


@dataclass(frozen=True, slots=True)
class RestoredWorker:
    """A worker as an engine before this one last knew it."""

    worker_id: int
    workergroup_id: int
    state: str  # a value of core.worker.WorkerState
    url: str
    perf: float
    owned: bool = True
    retire: Cause | None = None  # why it was to go when it is free
    numbered: bool = False  # it numbers its reports: those without a number may be old
    #: The loading times in s of the process that spoke for it (0: none yet) and of those before.
    loadtimes_s: tuple[float, ...] = ()
    #: (request_idx, whether it was refused, `entered_at`) of the last ends that it told, the latest of each request.
    ends_told: tuple[tuple[int, bool, float], ...] = ()
    #: (request_idx, count) of the ends that it may still tell of earlier grants than the one that stands.
    ends_expected: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class RestoredReservation:
    """A waiter (``worker_id`` 0), grant or session as an engine before this one last knew it.

    ``sent``: its client may have been sent to the worker by an answer that nothing has come of yet. ``received``: so
    many requests the worker's process had received by then, as far as it was known.
    """

    request_idx: int
    endpoint_id: int
    cost: float
    worker_id: int
    confirmed: bool
    replay_timeout_s: float = 60.0
    sent: bool = True
    received: int = 0


@dataclass(frozen=True, slots=True)
class Restored:
    """The first event after a restart (after the EndpointPut and WorkergroupPut of the configuration, on which alone
    no worker is created or started).

    Nothing is stopped or destroyed, and no new worker created, until the workers had one reporting period to speak.
    """

    next_worker_id: int
    workers: tuple[RestoredWorker, ...] = ()
    reservations: tuple[RestoredReservation, ...] = ()


Event = (
    Asked
    | HoldEnded
    | WaiterGone
    | WorkerReported
    | ReportRefused
    | RequestsFinished
    | WorkerJoined
    | InstanceCreated
    | InstanceStarted
    | InstanceStopped
    | InstanceGone
    | InstanceExited
    | InstanceFailed
    | FleetListed
    | EndpointPut
    | EndpointDeleted
    | WorkergroupPut
    | WorkergroupDeleted
    | WorkersUpdated
    | TimePassed
    | Restored
)
