"""An engine and its queues in a few numbers each, as metrics show them: typed, and cheap at ten thousand workers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nullworker.core import views as core_views
from nullworker.core.causes import Blocker
from nullworker.core.worker import ACTIVE, WorkerState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nullworker.core.endpoint import Endpoint
    from nullworker.core.engine import Engine
    from nullworker.core.views import EndpointView
    from nullworker.views.types import QueueRow

#: Why one may wait at an endpoint: the codes that `nullworker.core.explain.endpoint_blocker` gives.
REASONS = tuple(
    blocker.value for blocker in Blocker if blocker not in (Blocker.NONE, Blocker.ENDPOINT_GONE, Blocker.UNCONFIRMED)
)
STATES = tuple(state.value for state in WorkerState if state is not WorkerState.GONE)
#: Queues that are shown: beyond these, dispatchers are told wrong names of.
QUEUES_MAX = 1_000
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class EndpointGauges:
    """An endpoint: its workers by state, its waiters by why the first of them has no worker, and what is wanted."""

    endpoint_id: int
    name: str
    workers: dict[str, int]
    unresponsive: int  # of those that are free or held
    wanted: int  # active workers, by parameters and demand; may be beyond `max_workers`
    requested: int  # active workers, and those on their way
    max_workers: int
    waiting: dict[str, int]
    oldest_s: float  # how long the first that waits has waited
    failing_workergroups: int  # those that create nothing for now, because their workers failed


def endpoint_gauges(engine: Engine, now: float) -> list[EndpointGauges]:
    """All endpoints as they are at ``now``, the engine's time in seconds."""
    endpoints = engine.state.endpoints
    return [_gauges(endpoints[view.id], view, now) for view in core_views.endpoints(engine)]


def _gauges(endpoint: Endpoint, view: EndpointView, now: float) -> EndpointGauges:
    waiting = dict.fromkeys(REASONS, 0)
    if view.waiting:
        active = endpoint.line.active_count
        waiting[Blocker.CLIENT_SILENT.value] += view.waiting - active
        waiting[view.why_code] = waiting.get(view.why_code, 0) + active
    return EndpointGauges(
        endpoint_id=view.id,
        name=view.name,
        workers={known: view.workers.get(known, 0) for known in STATES},
        unresponsive=sum(each.trust.unresponsive and each.state in ACTIVE for each in endpoint.workers.values()),
        wanted=_wanted_workers(endpoint, view),
        requested=view.requested.workers,
        max_workers=view.wanted.max_workers,
        waiting=waiting,
        oldest_s=max((now - each.asked_at for each in endpoint.line.waiting.values()), default=0.0),
        failing_workergroups=sum(group.failures > 0 and group.next_try_in_s > 0 for group in view.workergroups),
    )


def _wanted_workers(endpoint: Endpoint, view: EndpointView) -> int:
    """The perf that is wanted, in workers like those that are there, or like those that would be created."""
    if view.requested.workers:
        perf = view.requested.perf / view.requested.workers
    else:
        perf = next((group.spec.perf for group in endpoint.workergroups.values()), 0.0)
    return math.ceil(view.wanted.active_perf / perf - _SLACK) if perf > 0 else 0


@dataclass(slots=True)
class QueueGauges:
    """A queue as the latest of its readings shows it; None: not read yet, or not told by the broker."""

    queue: str
    endpoint: str
    waiting: int | None
    in_flight: int | None
    delayed: int | None
    abandoned: int | None
    paused: bool
    warnings: int
    has_trouble: bool
    read_s_ago: float | None
    heard_s_ago: float
    wanted: int  # of all its dispatchers together, as are these
    held: int
    requested: int


def queue_gauges(rows: Iterable[QueueRow]) -> list[QueueGauges]:
    """One for each queue and endpoint, whatever number of dispatchers reads it."""
    found: dict[tuple[str, str], QueueGauges] = {}
    for row in sorted(rows, key=lambda row: math.inf if row.read_s_ago is None else row.read_s_ago):
        known = found.get((row.queue, row.endpoint))
        if known is None:
            if len(found) < QUEUES_MAX:
                found[row.queue, row.endpoint] = _of(row)
            continue
        known.wanted += row.want or 0
        known.held += row.held
        known.requested += row.asked
        known.heard_s_ago = min(known.heard_s_ago, row.heard_s_ago)
        known.has_trouble = known.has_trouble or bool(row.trouble)
    return list(found.values())


def _of(row: QueueRow) -> QueueGauges:
    return QueueGauges(
        row.queue, row.endpoint, row.waiting, row.in_flight, row.delayed, row.abandoned, row.paused, len(row.warnings),
        bool(row.trouble), row.read_s_ago, row.heard_s_ago, row.want or 0, row.held, row.asked,
    )  # fmt: skip
