"""What must be known of a worker and of a reservation after a restart: whoever writes an engine down goes by this.

`Restored` gives it back to the next engine (`operators.restored`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.events import RestoredReservation, RestoredWorker
from nullworker.core.reservation import Stage

if TYPE_CHECKING:
    from nullworker.core.state import EngineState


def worker(state: EngineState, worker_id: int) -> RestoredWorker | None:
    """The worker as it is to be written down; None: there is none, and its record goes."""
    known = state.workers.get(worker_id)
    if known is None:
        return None
    workergroup_id = known.workergroup.spec.workergroup_id
    return RestoredWorker(
        worker_id, workergroup_id, known.state.value, known.url, known.perf, known.owned, known.retire
    )


def reservation(state: EngineState, request_idx: int) -> RestoredReservation | None:
    """The reservation as it is to be written down; None: there is none that lasts, and its record goes.

    One whose client was never told its number does not last: that client cannot come back under it.
    """
    known = state.reservations.get(request_idx)
    if known is None or not (known.number_known or known.stage is not Stage.WAITING):
        return None
    return RestoredReservation(
        request_idx,
        known.endpoint_id,
        known.cost,
        known.worker_id,
        known.stage is Stage.SESSION,
        known.replay_timeout_s,
        known.sent,
    )
