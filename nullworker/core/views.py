"""An engine's state to read: frozen values for pages, command line and metrics.

Three words mean one thing everywhere: *wanted* (by parameters and demand), *requested* (of the fleet), *observed*
(reported). The fields are the keys of ``--json`` and of the status API (`as_json`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from nullworker.core import recovery, scaling
from nullworker.core.explain import endpoint_blocker
from nullworker.core.failures import why_retired
from nullworker.core.worker import WorkerState

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Iterator

    from nullworker.core.endpoint import Endpoint
    from nullworker.core.engine import Engine
    from nullworker.core.events import RestoredReservation, RestoredWorker
    from nullworker.core.state import EngineState
    from nullworker.core.worker import Worker
    from nullworker.core.workergroup import Workergroup


@dataclass(frozen=True, slots=True)
class Wanted:
    """What parameters and demand want of an endpoint: perf in perf units, places and workers as counts."""

    active_perf: float
    places: int
    cold_perf: float
    cold_workers: int
    max_workers: int


@dataclass(frozen=True, slots=True)
class Requested:
    """What is asked of the fleet: active workers and those on their way, and their perf."""

    workers: int
    perf: float


@dataclass(frozen=True, slots=True)
class Observed:
    """What workers report: how many are free (ready) and held, and their perf."""

    ready: int
    held: int
    perf: float


@dataclass(frozen=True, slots=True)
class WorkergroupView:
    """A workergroup: its workers, and its failures in a row."""

    id: int
    fleet: str
    workers: int
    booting: int
    failures: int
    last_error: str
    next_try_in_s: float


@dataclass(frozen=True, slots=True)
class EndpointView:
    """An endpoint in numbers. ``why`` and ``why_code`` say why the first that waits has no worker ("": none waits)."""

    id: int
    name: str
    state: str
    wanted: Wanted
    requested: Requested
    observed: Observed
    held_cost: float
    waiting: int
    waiting_cost: float
    workers: dict[str, int]
    why: str
    why_code: str
    workergroups: tuple[WorkergroupView, ...]


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker; ages in seconds. ``retire`` and ``error`` are sentences, ``retire_code`` and ``error_code`` causes."""

    id: int
    endpoint_id: int
    workergroup_id: int
    fleet: str
    state: str
    for_s: float
    reported_s_ago: float
    url: str
    perf: float
    measured_perf: float
    load: float
    request_idxs: tuple[int, ...]
    suspect: bool
    retire: str
    retire_code: str
    error: str
    error_code: str
    owned: bool


@dataclass(frozen=True, slots=True)
class WaiterView:
    """One that waits; ``waiting_s`` in seconds."""

    request_idx: int
    cost: float
    waiting_s: float
    present: bool
    absent: bool


@dataclass(frozen=True, slots=True)
class ReservationView:
    """A reservation: where it is in its life, and its worker (0: none)."""

    request_idx: int
    endpoint_id: int
    stage: str
    worker_id: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Counts of the whole engine."""

    endpoints: int
    workers: int
    waiting: int


class WorkerRef(NamedTuple):
    """Where a worker belongs, and little more: it is read for each report."""

    worker_id: int
    endpoint_id: int
    workergroup_id: int
    fleet: str
    owned: bool
    url: str
    state: WorkerState
    state_since: float  # in the core's time


def as_json(view: EndpointView | WorkerView | WaiterView) -> dict[str, Any]:
    """A view as plain dicts and lists, in the order of its fields."""
    return dataclasses.asdict(view)


def endpoint(engine: Engine, endpoint_id: int) -> EndpointView | None:
    """One endpoint in numbers, or None: costs and perf in perf units, counts of workers and waiters."""
    known = engine.state.endpoints.get(endpoint_id)
    return None if known is None else _endpoint(engine.state, known)


def endpoints(engine: Engine) -> list[EndpointView]:
    """All endpoints in numbers, in the order of their creation."""
    return [_endpoint(engine.state, endpoint) for endpoint in engine.state.endpoints.values()]


def _endpoint(state: EngineState, endpoint: Endpoint) -> EndpointView:
    wanted = scaling.need(endpoint)
    blocker, why = endpoint_blocker(state, endpoint, state.now)
    waits = bool(endpoint.line.waiting)
    return EndpointView(
        id=endpoint.endpoint_id,
        name=endpoint.name,
        state="deleting" if endpoint.deleted else endpoint.parameters.state.value,
        wanted=Wanted(
            wanted.active_perf,
            wanted.places,
            wanted.cold_perf,
            wanted.cold_workers,
            endpoint.parameters.max_workers,
        ),
        requested=Requested(endpoint.active + endpoint.booting, endpoint.ready_perf + endpoint.booting_perf),
        observed=Observed(endpoint.counts[WorkerState.READY], endpoint.counts[WorkerState.HELD], endpoint.ready_perf),
        held_cost=endpoint.held_cost,
        waiting=len(endpoint.line),
        waiting_cost=endpoint.line.active_cost,
        workers={known.value: count for known, count in endpoint.counts.items() if count},
        why=why if waits else "",
        why_code=blocker.value if waits else "",
        workergroups=tuple(_workergroup(workergroup, state.now) for workergroup in endpoint.workergroups.values()),
    )


def _workergroup(workergroup: Workergroup, now: float) -> WorkergroupView:
    return WorkergroupView(
        id=workergroup.spec.workergroup_id,
        fleet=workergroup.spec.fleet,
        workers=workergroup.workers,
        booting=workergroup.booting,
        failures=workergroup.failures,
        last_error=workergroup.last_error,
        next_try_in_s=max(0.0, workergroup.next_try_at - now),
    )


def workers(engine: Engine, endpoint_id: int | None = None) -> list[WorkerView]:
    """All workers (of one endpoint), in the order of their creation."""
    state = engine.state
    return [
        _worker(state, worker)
        for worker in state.workers.values()
        if endpoint_id is None or worker.workergroup.spec.endpoint_id == endpoint_id
    ]


def worker(engine: Engine, worker_id: int) -> WorkerView | None:
    """One worker, or None."""
    known = engine.state.workers.get(worker_id)
    return None if known is None else _worker(engine.state, known)


def _worker(state: EngineState, worker: Worker) -> WorkerView:
    spec, failure = worker.workergroup.spec, worker.failure
    return WorkerView(
        id=worker.worker_id,
        endpoint_id=spec.endpoint_id,
        workergroup_id=spec.workergroup_id,
        fleet=spec.fleet,
        state=worker.state.value,
        for_s=state.now - worker.state_since,
        reported_s_ago=state.now - worker.trust.reported_at,
        url=worker.url,
        perf=worker.perf_expected,
        measured_perf=worker.perf,
        load=worker.held_cost,
        request_idxs=tuple(sorted(worker.held)),
        suspect=worker.trust.unresponsive,
        retire=why_retired(state, worker),
        retire_code="" if worker.retire is None else worker.retire.value,
        error="" if failure is None else failure.reason,
        error_code="" if failure is None else failure.cause.value,
        owned=worker.owned,
    )


def waiters(engine: Engine, endpoint_id: int) -> list[WaiterView]:
    """The waiters of an endpoint, first come first."""
    known = engine.state.endpoints.get(endpoint_id)
    if known is None:
        return []
    now = engine.state.now
    return [
        WaiterView(request_idx, r.cost, now - r.asked_at, r.present, r.absent)
        for request_idx, r in sorted(known.line.waiting.items())
    ]


def worker_ref(engine: Engine, worker_id: int) -> WorkerRef | None:
    """Where a worker belongs; None: there is none."""
    known = engine.state.workers.get(worker_id)
    return None if known is None else _ref(known)


def endable_workers(engine: Engine) -> list[WorkerRef]:
    """The workers of fleets that hold nothing, as far as can be known."""
    return [_ref(worker) for worker in engine.state.workers.values() if worker.owned and worker.endable]


def worker_refs(engine: Engine) -> Iterator[WorkerRef]:
    """All workers, as `worker_ref` gives them."""
    return map(_ref, engine.state.workers.values())


def _ref(worker: Worker) -> WorkerRef:
    spec = worker.workergroup.spec
    return WorkerRef(
        worker.worker_id,
        spec.endpoint_id,
        spec.workergroup_id,
        spec.fleet,
        worker.owned,
        worker.url,
        worker.state,
        worker.state_since,
    )


def worker_ids(engine: Engine) -> Container[int]:
    """The ids of all workers, as they are at the moment of asking."""
    return engine.state.workers.keys()


def workergroup_ids(engine: Engine) -> Container[int]:
    """The ids of all workergroups, as they are at the moment of asking."""
    return engine.state.workergroups.keys()


def reservation(engine: Engine, request_idx: int) -> ReservationView | None:
    """One reservation; None: there is none."""
    known = engine.state.reservations.get(request_idx)
    if known is None:
        return None
    return ReservationView(request_idx, known.endpoint_id, known.stage.value, known.worker_id)


def held(engine: Engine, worker_id: int) -> Container[int]:
    """The requests that a worker holds, as far as is known; none of a worker that is not known."""
    worker = engine.state.workers.get(worker_id)
    return () if worker is None else worker.held


def waiting(engine: Engine, endpoint_id: int) -> int:
    """How many wait at an endpoint."""
    known = engine.state.endpoints.get(endpoint_id)
    return 0 if known is None else len(known.line)


def totals(engine: Engine) -> Totals:
    """Counts of the whole engine."""
    state = engine.state
    return Totals(
        len(state.endpoints), len(state.workers), sum(len(endpoint.line) for endpoint in state.endpoints.values())
    )


class Changes(NamedTuple):
    """What an event changed in a way that a restart needs to know of: worker ids and request_idxs."""

    workers: Collection[int]
    reservations: Collection[int]


def changes(engine: Engine) -> Changes | None:
    """What the last event changed, which later events leave as it is; None: nothing."""
    state = engine.state
    if state.changed_workers or state.changed_reservations:
        return Changes(state.changed_workers, state.changed_reservations)
    return None


def worker_record(engine: Engine, worker_id: int) -> RestoredWorker | None:
    """What a restart needs of a worker; None: nothing."""
    return recovery.worker_record(engine.state, worker_id)


def reservation_record(engine: Engine, request_idx: int) -> RestoredReservation | None:
    """What a restart needs of a reservation; None: nothing."""
    return recovery.reservation_record(engine.state, request_idx)
