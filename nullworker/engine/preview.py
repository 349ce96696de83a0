"""What a change of an endpoint's parameters would do at once: tried out on a copy of the core, which is thrown away."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

from nullworker.core import scaling
from nullworker.core.causes import Cause
from nullworker.core.commands import Create, Start
from nullworker.core.events import EndpointPut, TimePassed, WorkerReported
from nullworker.core.parameters import EndpointState
from nullworker.views.text import counted, duration
from nullworker.wire.errors import TooManyError
from nullworker.wire.types import Preview, Replaced

if TYPE_CHECKING:
    from nullworker.core.engine import Engine
    from nullworker.core.parameters import Parameters
    from nullworker.core.views import WorkerView

#: A copy of an engine with more workers would hold all else up for too long (10,000 take about 0.2 s).
WORKERS_MAX = 20_000
#: The number of a report that is newer than all.
LATEST = 2**52
#: What a replacement leads to is looked at for so long: a worker that had done nothing yet has its workergroup pause.
SEEN_S = 10.0


def preview(engine: Engine, endpoint_id: int, parameters: Parameters, now: float) -> Preview:
    """What would come of new parameters, with the demand of this moment.

    Args:
        engine: the core, which stays as it is.
        endpoint_id: the endpoint.
        parameters: the new ones.
        now: the core's time.

    Raises:
        TooManyError: the engine has too many workers to try it out.
    """
    copy = _copy(engine)
    endpoint = copy.state.endpoints[endpoint_id]
    decided = copy.handle(EndpointPut(endpoint_id, endpoint.name, parameters), now)
    creates = sum(isinstance(command, Create) for command in decided)
    starts = sum(isinstance(command, Start) for command in decided)
    stops, within_s = 0, 0.0
    if parameters.state is not EndpointState.SUSPENDED:
        for worker in list(endpoint.idle.values()):
            goes_at = scaling.goes_at(copy.state, endpoint, worker)
            if goes_at is not None:
                stops += 1
                within_s = max(within_s, goes_at - now)
                copy.state.destroy(worker, Cause.IDLE, "tried out")
    return Preview(creates, starts, stops, within_s, _text(creates, starts, stops, within_s))


def replacement(engine: Engine, worker: WorkerView, now: float) -> Replaced:
    """What comes of draining a worker, with the demand of this moment.

    Args:
        engine: the core, which stays as it is.
        worker: which is drained.
        now: the core's time.

    Raises:
        TooManyError: the engine has too many workers to try it out.
    """
    report = WorkerReported(
        worker.id,
        worker.url,
        True,
        "tried out",
        worker.measured_perf,
        worker.load,
        tuple(worker.request_idxs),
        seq=LATEST,
    )
    copy = _copy(engine)
    decided = copy.handle(report, now)
    at = now
    while (due := copy.wake_at()) is not None and due <= now + SEEN_S:
        at = max(at, due) + 0.001  # so that it ends
        decided += copy.handle(TimePassed(), at)
    creates = sum(isinstance(command, Create) for command in decided)
    starts = sum(isinstance(command, Start) for command in decided)
    after = " and ".join(f"request {number}" for number in worker.request_idxs)
    text = f"Worker {worker.id} goes {f'after {after}' if after else 'with its next report'}; "
    if creates or starts:
        new = [counted(creates, "new worker")] if creates else []
        new += [f"{counted(starts, 'stopped worker')} started"] if starts else []
        text += f"in its place {' and '.join(new)}, within {duration(SEEN_S)}."
    else:
        text += "no other is wanted now: one is created as soon as a request or the parameters want it."
    return Replaced(creates, starts, text)


def _copy(engine: Engine) -> Engine:
    """Of the core, to try something out on.

    Raises:
        TooManyError: the engine has too many workers for that.
    """
    if len(engine.state.workers) > WORKERS_MAX:
        raise TooManyError(f"The engine has over {WORKERS_MAX} workers, too many to try a change out on a copy.")
    copy: Engine = pickle.loads(pickle.dumps(engine))  # noqa: S301 - of our own making, a moment ago
    return copy


def _text(creates: int, starts: int, stops: int, within_s: float) -> str:
    if not (creates or starts or stops):
        return "This would create, start and stop nothing now."
    parts = [f"create {counted(creates, 'worker')}"] if creates else []
    parts += [f"start {counted(starts, 'worker')}"] if starts else []
    if stops:
        when = f" within {duration(within_s)}" if within_s >= 1 else ""
        parts.append(f"end {counted(stops, 'free worker')}{when} unless needed before")
    *others, last = parts
    return f"This would {', '.join(others)}{' and ' if others else ''}{last}."
