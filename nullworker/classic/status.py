"""The messages to the engine, in Vast's field names."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nullworker.wire import headers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nullworker.classic.in_flight import Figures, InFlightRequest, RequestStats
    from nullworker.classic.readiness import Readiness
    from nullworker.classic.settings import EngineLink
    from nullworker.classic.signature import SignatureChecker

VERSION = "1.1.0"  # of Vast's worker protocol, as its framework says it
#: Finished requests in one message, which stays well under the megabyte that an engine takes.
ENDED_PER_MESSAGE = 1000
#: These alone are no reason to report: they are always a little different.
_RESTLESS = frozenset({"disk_usage", "additional_disk_usage", "seq"})


@dataclass(frozen=True)
class Report:
    """A status to send."""

    body: dict[str, Any]
    figures: Figures
    disk_gb: float


@dataclass(frozen=True)
class Ended:
    """A list of finished requests to send."""

    body: dict[str, Any]
    requests: tuple[InFlightRequest, ...]


class Status:
    """Knows what was said last. Used by the reporter's thread alone.

    ``figures`` gives what the backend's own metrics say. ``first_seq`` numbers the messages to an engine of ours: with
    the Unix time in it, a new process under the same id goes on where the one before it was.
    """

    def __init__(
        self,
        link: EngineLink,
        stats: RequestStats,
        readiness: Readiness,
        checker: SignatureChecker,
        *,
        figures: Callable[[], Mapping[str, float]],
        first_seq: int,
    ) -> None:
        self._link = link
        self._stats = stats
        self._readiness = readiness
        self._checker = checker
        self._figures = figures
        self._seq = first_seq - 1
        self._last: dict[str, Any] = {}
        self._last_at_s = float("-inf")
        self._last_disk_gb = _disk_gb()

    def report(self, now_s: float, *, heartbeat_s: float) -> Report | None:
        """The status, where it differs from the last one sent or that was ``heartbeat_s`` ago; else None."""
        figures, disk_gb = self._stats.figures(), _disk_gb()
        body = {
            "id": self._link.container_id,
            "mtoken": self._link.master_token,
            "version": VERSION,
            "loadtime": self._readiness.loadtime_s,
            "cur_load": figures.load,
            "rej_load": figures.rejected_load,
            "new_load": figures.new_load,
            "error_msg": self._readiness.error,
            "max_perf": self._readiness.perf,
            "cur_perf": figures.served_load,
            "cur_capacity": 0.0,
            "max_capacity": 0.0,
            "num_requests_working": len(figures.request_idxs),
            "num_requests_recieved": figures.received,
            "additional_disk_usage": disk_gb - self._last_disk_gb,
            "disk_usage": disk_gb,
            "working_request_idxs": list(figures.request_idxs),
            "url": self._link.url,
            **self._figures(),
        }
        is_news = any(value != self._last.get(name) for name, value in body.items() if name not in _RESTLESS)
        if not is_news and now_s - self._last_at_s < heartbeat_s:
            return None
        return Report(self._numbered(body), figures, disk_gb)

    def sent(self, report: Report, now_s: float) -> None:
        """The engine has it."""
        self._last, self._last_at_s = report.body, now_s
        self._last_disk_gb = report.disk_gb
        self._stats.reported(report.figures)

    def ended(self) -> Ended | None:
        """What is done and not yet taken by the engine; None where there is nothing."""
        requests = self._stats.ended()[:ENDED_PER_MESSAGE]
        if not requests:
            return None
        listed = [
            {
                "request_idx": request.request_idx,
                "success": request.status
                in ("Success", "Cancelled"),  # as the framework: a client that left is no fault
                "status": request.status,
                "entered_queue_at": request.entered_at,
                "work_started_at": request.started_at,
                "work_completed_at": request.completed_at,
            }
            for request in requests
        ]
        body = {"worker_id": self._link.container_id, "mtoken": self._link.master_token, "requests": listed}
        return Ended(self._numbered(body), requests)

    def took(self, ended: Ended) -> None:
        """The engine has taken it."""
        self._stats.taken(ended.requests)

    def _numbered(self, body: dict[str, Any]) -> dict[str, Any]:
        """With our engine's stricter order, where the engine is ours; Vast's gets Vast's fields and no others."""
        if headers.PROMPT_REPORTS not in self._checker.features:
            return body
        self._seq += 1
        return {**body, "seq": self._seq}


def _disk_gb() -> float:
    return shutil.disk_usage("/").used / 2**30
