"""What dispatchers tell the engine of the queues that they read; kept in memory, and forgotten when they are silent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from nullworker.wire.types import DispatcherReport

#: A dispatcher that has told nothing for so long is shown no more.
FORGOTTEN_AFTER_S = 600.0
DISPATCHERS_MAX = 1_000


class Dispatchers:
    """The last report of each dispatcher."""

    def __init__(self) -> None:
        self._reports: dict[str, tuple[float, DispatcherReport]] = {}
        #: Counts reports.
        self.count = 0

    def heard(self, report: DispatcherReport, now_s: float) -> None:
        """Takes a report in place of the one before it.

        Args:
            report: of a dispatcher.
            now_s: monotonic time.
        """
        self.count += 1
        self._reports.pop(report.dispatcher, None)
        self._reports[report.dispatcher] = (now_s, report)
        while len(self._reports) > DISPATCHERS_MAX:
            del self._reports[next(iter(self._reports))]

    def rows(self, now_s: float) -> list[dict[str, Any]]:
        """All queues, each with its dispatcher, the age of its reading, and since when the dispatcher is silent."""
        self._reports = {name: heard for name, heard in self._reports.items() if now_s - heard[0] <= FORGOTTEN_AFTER_S}
        rows = []
        for at_s, report in self._reports.values():
            for queue in report.queues:
                row = msgspec.to_builtins(queue)
                age_s = None if queue.read_s_ago is None else queue.read_s_ago + now_s - at_s
                rows.append({"dispatcher": report.dispatcher, **row, "read_s_ago": age_s, "heard_s_ago": now_s - at_s})
        return rows
