"""What it means that a connection was turned away: it may have been a worker's, so its silence is the engine's doing.

A held worker that has no connection open could not report while others are turned away. It counts as one whose report
was refused: it gets nothing new, and its silence does not end its job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import views
from nullworker.core.events import ReportRefused
from nullworker.core.worker import WorkerState
from nullworker.engine.api.refusals import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.engine.api.refusals import Refusals
    from nullworker.engine.driver import AsyncDriver

#: Workers are looked at no more often than this: far more often than their silence is judged.
EVERY_S = 5.0
_WITH_A_JOB = frozenset({WorkerState.HELD, WorkerState.DRAINING})


class TurningAway:
    """Is told of each connection that is turned away."""

    def __init__(self, driver: AsyncDriver, refusals: Refusals, is_connected: Callable[[str], bool]) -> None:
        """Takes what it uses.

        Args:
            driver: feeds the core.
            refusals: counts.
            is_connected: whether the owner of that name (`nullworker.engine.api.listening.prove`) has a connection.
        """
        self._driver = driver
        self._refusals = refusals
        self._is_connected = is_connected
        self._looked_at = -EVERY_S

    def __call__(self, address: str) -> None:
        """A connection from ``address`` was turned away."""
        self._refusals.count(Kind.CONNECTION, address)
        now = self._driver.now()
        if now - self._looked_at < EVERY_S:
            return
        self._looked_at = now
        for worker in views.worker_refs(self._driver.engine):
            if worker.state in _WITH_A_JOB and not self._is_connected(f"worker {worker.worker_id}"):
                reason = "the engine turned connections away, and its own may have been one of them"
                self._driver.report(ReportRefused(worker.worker_id, reason))
