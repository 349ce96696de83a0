"""Makes each view from the core, the history of the last hour and the decisions."""

from __future__ import annotations

import asyncio
import heapq
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.core import explain
from nullworker.core import views as core_views
from nullworker.core.parameters import Parameters
from nullworker.core.worker import ACTIVE
from nullworker.views import types
from nullworker.views.forecast import Forecast
from nullworker.views.headline import headline
from nullworker.views.history import GONE, KEPT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nullworker.core.engine import Engine
    from nullworker.core.reservation import Reservation
    from nullworker.core.views import EndpointView
    from nullworker.views.history import History, WorkerHistory

#: Rows of one endpoint's waiting line that are sent.
WAITERS_MAX = 200
#: Lanes that are encoded before others have their turn: some milliseconds.
LANES_AT_ONCE = 100
#: Points of an endpoint's chart.
CHART_POINTS = 120

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Sources:
    """What views are made of. ``names`` gives an endpoint's name by its id ("": there is none)."""

    engine: Engine
    history: History
    parameters: Callable[[int], Parameters | None]
    name: Callable[[int], str]
    now_s: float  # Unix time
    core_now: float  # the core's time


def endpoint_overview(
    sources: Sources, view: EndpointView, chart: Sequence[types.ChartPoint] = ()
) -> types.EndpointOverview:
    """One endpoint.

    Args:
        sources: what it is made of.
        view: the endpoint in numbers.
        chart: its counts over the last hour.
    """
    forecast = Forecast(view, sources.history, sources.now_s)
    following = forecast.of(1) if view.waiting else types.Eta(None, "none waits")
    unresponsive = _unresponsive(sources.engine, view.id)
    parameters = sources.parameters(view.id)
    return types.EndpointOverview(
        id=view.id,
        name=view.name,
        state=view.state,
        headline=headline(view, unresponsive, following),
        why=view.why,
        why_code=view.why_code,
        ready=view.observed.ready,
        held=view.observed.held,
        booting=len(sources.history.booting.get(view.id, ())),
        unresponsive=unresponsive,
        workers=view.workers,
        max_workers=view.wanted.max_workers,
        wanted_perf=view.wanted.active_perf,
        waiting=view.waiting,
        oldest_s=_oldest_s(sources, view.id),
        next=following,
        parameters={} if parameters is None else parameters_json(parameters),
        workergroups=tuple(
            types.GroupView(g.id, g.fleet, g.workers, g.booting, g.failures, g.last_error, g.next_try_in_s)
            for g in view.workergroups
        ),
        chart=tuple(thinned(chart)),
    )


def _unresponsive(engine: Engine, endpoint_id: int) -> int:
    """How many of the workers that are up send no reports."""
    workers = engine.state.endpoints[endpoint_id].workers.values()
    return sum(each.trust.unresponsive and each.state in ACTIVE for each in workers)


def _oldest_s(sources: Sources, endpoint_id: int) -> float:
    waiting = sources.engine.state.endpoints[endpoint_id].line.waiting
    return max((sources.core_now - each.asked_at for each in waiting.values()), default=0.0)


def parameters_json(parameters: Parameters) -> dict[str, Any]:
    """Parameters by their names on the wire."""
    values = {field.name: getattr(parameters, field.name) for field in fields(Parameters) if field.name != "state"}
    return {**values, "endpoint_state": parameters.state.value}


def thinned(points: Sequence[types.ChartPoint]) -> Sequence[types.ChartPoint]:
    """No more points than a chart can show; the last one stays."""
    step = -(-len(points) // CHART_POINTS)
    return points if step <= 1 else [*points[::-1][::step]][::-1]


def lane(history: WorkerHistory) -> types.Lane:
    """A worker's lane."""
    return types.Lane(
        history.worker_id,
        history.endpoint_id,
        history.workergroup_id,
        tuple(types.LaneState(at_s, state) for at_s, state in history.states),
        tuple(types.Hold(*hold) for hold in history.holds.values()),
    )


def lane_since(history: WorkerHistory, since_s: float) -> types.Lane:
    """What is new in a worker's lane since then."""
    return types.Lane(
        history.worker_id,
        history.endpoint_id,
        history.workergroup_id,
        tuple(types.LaneState(at_s, state) for at_s, state in history.states if at_s >= since_s),
        tuple(types.Hold(*hold) for hold in history.holds.values() if hold.until_s is None or hold.until_s >= since_s),
    )


async def lanes_json(
    history: History,
    now_s: float,
    after: int,
    endpoint_id: int = 0,
    gone: Iterable[int] = (),
    since_s: float = 0.0,
) -> bytes:
    """The lanes that changed, in JSON (`types.Lanes`).

    Whole lanes are encoded once for all that look at them, and few at a time: ten thousand would hold an engine up.

    Args:
        history: of all workers.
        now_s: Unix time.
        after: the `serial` of the last answer; 0: all lanes.
        since_s: of lanes that changed, only what is newer.
        endpoint_id: of this endpoint alone; 0: of all.
        gone: workers that were forgotten meanwhile.
    """
    serial = history.serial
    found = [w for w in history.changed_after(after) if not endpoint_id or w.endpoint_id == endpoint_id]
    encoded = []
    for number, worker in enumerate(found, 1):
        if since_s:
            encoded.append(_encode(lane_since(worker, since_s)))
        else:
            if worker.encoded[0] != worker.serial:
                worker.encoded = worker.serial, _encode(lane(worker))
            encoded.append(worker.encoded[1])
        if number % LANES_AT_ONCE == 0:
            await asyncio.sleep(0)  # others have their turn
    head = _encode(types.Lanes(now_s, now_s - KEPT_S, serial, after == 0, (), tuple(gone)))
    return head.replace(b'"lanes":[]', b'"lanes":[' + b",".join(encoded) + b"]", 1)


def waiting_line(sources: Sources, endpoint_id: int = 0) -> types.WaitingLine:
    """All that wait.

    Args:
        sources: what it is made of.
        endpoint_id: at this endpoint alone; 0: at all.
    """
    rows: list[types.WaiterRow] = []
    total = 0
    for view in core_views.endpoints(sources.engine):
        if endpoint_id and view.id != endpoint_id:
            continue
        total += view.waiting
        if view.waiting:
            forecast = Forecast(view, sources.history, sources.now_s)
            waiting = sources.engine.state.endpoints[view.id].line.waiting
            for place, request_idx in enumerate(heapq.nsmallest(WAITERS_MAX, waiting), 1):
                rows.append(_waiter(sources, view, place, waiting[request_idx], forecast))
    return types.WaitingLine(sources.now_s, total, tuple(rows))


def _waiter(
    sources: Sources, view: EndpointView, position: int, waiter: Reservation, forecast: Forecast
) -> types.WaiterRow:
    reason, code = view.why, view.why_code
    if waiter.absent:
        reason, code = "its client has not asked for a while, and keeps its place", "client_silent"
    return types.WaiterRow(
        position,
        waiter.request_idx,
        view.name,
        sources.core_now - waiter.asked_at,
        waiter.cost,
        not waiter.absent,
        reason,
        code,
        forecast.of(position),
    )


def worker_story(
    sources: Sources,
    worker_id: int,
    decisions: Sequence[types.DecisionRow],
    log: Sequence[str] = (),
    draining: str = "",
) -> types.WorkerStory | None:
    """A worker, or what is known of one that is gone; None: nothing is.

    Args:
        sources: what it is made of.
        worker_id: its number.
        decisions: those about it, oldest first.
        log: the end of its log.
        draining: why an operator has it drained.
    """
    view = core_views.worker(sources.engine, worker_id)
    known = sources.history.workers.get(worker_id)
    shown = None if known is None else lane(known)
    if view is None and known is None and not decisions:
        return None
    if view is None:
        endpoint_id = known.endpoint_id if known is not None else decisions[-1].endpoint_id
        return types.WorkerStory(
            sources.now_s, worker_id, _over(f"Worker {worker_id}", decisions), sources.name(endpoint_id),
            known.workergroup_id if known is not None else 0, "", GONE,
            sources.now_s - known.changed_at_s if known is not None else 0.0,
            0.0, "", 0.0, (), True, "", shown, tuple(decisions), tuple(log),
        )  # fmt: skip
    return types.WorkerStory(
        at_s=sources.now_s,
        id=worker_id,
        answer=explain.about_worker(sources.engine, worker_id, sources.core_now),
        endpoint=sources.name(view.endpoint_id),
        workergroup_id=view.workergroup_id,
        fleet=view.fleet,
        state=view.state,
        for_s=view.for_s,
        reported_s_ago=view.reported_s_ago,
        url=view.url,
        perf=view.perf,
        request_idxs=view.request_idxs,
        owned=view.owned,
        note=view.error or view.retire or ("sends no reports" if view.suspect else ""),
        lane=shown,
        decisions=tuple(decisions),
        log=tuple(log),
        draining=draining,
    )


def reservation_story(
    sources: Sources, request_idx: int, decisions: Sequence[types.DecisionRow]
) -> types.ReservationStory | None:
    """A reservation, or what is known of one that is over; None: nothing is.

    Args:
        sources: what it is made of.
        request_idx: its number.
        decisions: those about it, oldest first.
    """
    view = core_views.reservation(sources.engine, request_idx)
    known = sources.history.reservations.get(request_idx)
    if view is None and known is None and not decisions:
        return None
    stages = () if known is None else tuple(types.StageRow(*each) for each in known.stages)
    if view is None:
        endpoint_id = known.endpoint_id if known is not None else decisions[-1].endpoint_id
        answer = _over(f"Request {request_idx}", decisions)
        name = sources.name(endpoint_id)
        return types.ReservationStory(
            sources.now_s, request_idx, answer, name, "ended", 0, None, stages, tuple(decisions)
        )
    return types.ReservationStory(
        at_s=sources.now_s,
        request_idx=request_idx,
        answer=explain.about_request(sources.engine, request_idx, sources.core_now),
        endpoint=sources.name(view.endpoint_id),
        stage=view.stage,
        worker_id=view.worker_id,
        eta=_eta(sources, view.endpoint_id, request_idx) if view.stage == "waiting" else None,
        stages=stages,
        decisions=tuple(decisions),
    )


def _eta(sources: Sources, endpoint_id: int, request_idx: int) -> types.Eta | None:
    view = core_views.endpoint(sources.engine, endpoint_id)
    if view is None:
        return None
    ahead = sum(each < request_idx for each in sources.engine.state.endpoints[endpoint_id].line.waiting)
    return Forecast(view, sources.history, sources.now_s).of(1 + ahead)


def _over(subject: str, decisions: Sequence[types.DecisionRow]) -> str:
    if not decisions:
        return f"{subject} is over."
    last = decisions[-1]
    return f"{subject} is over: {last.kind}, {last.reason.rstrip('.')}."
