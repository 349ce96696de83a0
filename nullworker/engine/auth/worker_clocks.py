"""What each worker's own clock shows, as far as its reports tell: a grant is good until a time by that clock."""

from __future__ import annotations

from nullworker.wire.worker_clock import WorkerTime

#: A report comes so much later than it was made, at most (`nullworker.core.limits.RESEND_S`, and some).
LATE_S = 60.0
#: Clocks kept; more than there are workers.
_CLOCKS_MAX = 200_000


class WorkerClocks:
    """Reads workers' clocks. ``now_s`` is always the time by the engine's monotonic clock."""

    def __init__(self) -> None:
        self._ahead: dict[int, WorkerTime] = {}  # by how much each is ahead of the engine's

    def heard(self, worker_id: int, shown: WorkerTime, now_s: float) -> None:
        """Takes what a report of the worker says.

        Reports are under way for some time, so that a clock seems to be behind; that which was the fastest is believed.
        One that is further behind than reports can be late has stood still, with its machine.
        """
        ahead = WorkerTime(shown.clock, shown.at_s - now_s)
        before = self._ahead.get(worker_id)
        if before is not None and before.clock == ahead.clock and 0 <= before.at_s - ahead.at_s < LATE_S:
            return
        if before is None and len(self._ahead) >= _CLOCKS_MAX:
            self._ahead.clear()  # until its next report, a worker's grants are good by the wall clock
        self._ahead[worker_id] = ahead

    def read(self, worker_id: int, now_s: float) -> WorkerTime | None:
        """What the worker's clock shows now; None if it has told of none."""
        ahead = self._ahead.get(worker_id)
        return None if ahead is None else WorkerTime(ahead.clock, ahead.at_s + now_s)
