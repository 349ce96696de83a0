"""Workers that get nothing new, keep what they hold to its end, and then go: an operator has drained them, or their
place will end them.

The core knows no such order for one worker. It knows of workers that report an error, and treats them in just this way
(decision 3: an error does not end a hold). So each report of a drained worker is given to the core with an error that
says why; it takes effect with the worker's next report, within ten seconds.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path

    from nullworker.core.events import WorkerReported

DRAINS_FILE = "drains.json"
log = logging.getLogger(__name__)


class Drains:
    """Which workers are drained, and why; kept over a restart."""

    def __init__(self, path: Path | None = None) -> None:
        """``path`` is the file that they are kept in; None: they are not kept."""
        self._path = path
        self._reasons: dict[int, str] = {}

    def load(self) -> None:
        """Takes over what an engine before this one kept; a file that cannot be read is as good as none."""
        if self._path is None or not self._path.exists():
            return
        try:
            self._reasons = msgspec.json.decode(self._path.read_bytes(), type=dict[int, str])
        except (OSError, msgspec.DecodeError) as error:
            log.warning("The drained workers in %s cannot be read (%s).", self._path, error)

    def begin(self, worker_id: int, reason: str) -> None:
        """The worker is drained from its next report on."""
        self._reasons[worker_id] = reason or "an operator wants it"
        self._keep()

    def cancel(self, worker_id: int) -> bool:
        """The worker is drained no more, from its next report on; returns whether it was."""
        was = self._reasons.pop(worker_id, None) is not None
        if was:
            self._keep()
        return was

    def reason(self, worker_id: int) -> str:
        """Why a worker is drained; "": it is not."""
        return self._reasons.get(worker_id, "")

    def forget_gone(self, there: Container[int]) -> None:
        """Forgets workers that are not among these."""
        gone = [worker_id for worker_id in self._reasons if worker_id not in there]
        for worker_id in gone:
            del self._reasons[worker_id]
        if gone:
            self._keep()

    def applied(self, report: WorkerReported) -> WorkerReported:
        """A report as the core is to get it."""
        reason = self._reasons.get(report.worker_id) if self._reasons else None
        if reason is None:
            return report
        return dataclasses.replace(report, error=report.error or f"drained: {reason}")

    def _keep(self) -> None:
        if self._path is None:
            return
        unfinished = self._path.with_suffix(".part")
        try:
            fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(msgspec.json.encode(self._reasons))
            unfinished.replace(self._path)
        except OSError as error:
            log.warning("The drained workers cannot be kept in %s (%s): a restart forgets them.", self._path, error)
