"""Tells the history of what an event changed in the core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import views as core_views
from nullworker.views.history import GONE

if TYPE_CHECKING:
    from nullworker.core.engine import Engine
    from nullworker.core.views import Changes
    from nullworker.views.history import History


def feed(history: History, engine: Engine, changes: Changes, at_s: float) -> None:
    """Takes in what an event changed.

    Args:
        history: is told.
        engine: the core, as the event left it.
        changes: whose workers and reservations.
        at_s: Unix time.
    """
    for worker_id in changes.workers:
        worker = core_views.worker_ref(engine, worker_id)
        if worker is None:
            history.worker(at_s, worker_id, GONE, 0, 0)
        else:
            history.worker(at_s, worker_id, worker.state.value, worker.endpoint_id, worker.workergroup_id)
    for request_idx in changes.reservations:
        reservation = core_views.reservation(engine, request_idx)
        if reservation is None:
            history.reservation(at_s, request_idx, 0, "ended", 0)
        else:
            history.reservation(at_s, request_idx, reservation.endpoint_id, reservation.stage, reservation.worker_id)


def feed_all(history: History, engine: Engine, at_s: float) -> None:
    """Takes in all that there is, as after a restart; what the history has beyond that is over.

    Args:
        history: is told.
        engine: the core.
        at_s: Unix time.
    """
    state = engine.state
    history.keep_only(at_s, state.workers, state.reservations)
    feed(history, engine, core_views.Changes(list(state.workers), list(state.reservations)), at_s)
