"""The messages to the engine, in Vast's field names."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nullworker.wire.worker_side import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nullworker.classic.in_flight import Figures, InFlightRequest, RequestStats
    from nullworker.classic.readiness import Readiness
    from nullworker.wire.worker_side.engine_trust import EngineTrust
    from nullworker.wire.worker_side.messages import Identity

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
    """Makes the messages, and remembers the last one. Used by the reporter's thread alone.

    Args:
        identity: the worker.
        stats: the request statistics.
        readiness: whether the worker is ready.
        trust: knows whether the engine accepts numbered messages.
        figures: gives the figures of the backend's own metrics, which win.
        first_seq: the first message's number. If it is made from the Unix time, a new process of the same worker
            continues after the numbers of the previous one.
    """

    def __init__(
        self,
        identity: Identity,
        stats: RequestStats,
        readiness: Readiness,
        trust: EngineTrust,
        *,
        figures: Callable[[], Mapping[str, float]],
        first_seq: int,
    ) -> None:
        self._identity = identity
        self._stats = stats
        self._readiness = readiness
        self._trust = trust
        self._figures = figures
        self._seq = first_seq - 1
        self._last: dict[str, Any] = {}
        self._last_at_s = float("-inf")
        self._last_disk_gb = _disk_gb()

    def report(self, now_s: float, *, heartbeat_s: float) -> Report | None:
        """The status, where it differs from the last one sent or that was ``heartbeat_s`` ago; else None."""
        figures, disk_gb = self._stats.figures(), _disk_gb()
        stated = messages.StatusFigures(
            loadtime_s=self._readiness.loadtime_s,
            perf=self._readiness.perf,
            error=self._readiness.error,
            request_idxs=list(figures.request_idxs),
            working=len(figures.request_idxs),
            received=figures.received,
            load=figures.load,
            new_load=figures.new_load,
            rejected_load=figures.rejected_load,
            served_load=figures.served_load,
            disk_gb=disk_gb,
            disk_growth_gb=disk_gb - self._last_disk_gb,
        )
        body = {**messages.status(self._identity, stated), **self._figures()}
        is_news = any(value != self._last.get(name) for name, value in body.items() if name not in _RESTLESS)
        if not is_news and now_s - self._last_at_s < heartbeat_s:
            return None
        numbered = self._numbered()
        if numbered:
            numbered |= messages.clock_fields(self._trust.clock.now())
        return Report(body | numbered, figures, disk_gb)

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
            messages.finished_request(
                request.request_idx,
                request.status or "Error",
                success=request.status in ("Success", "Cancelled"),  # as the framework: a client that left is no fault
                entered_at=request.entered_at,
                started_at=request.started_at,
                completed_at=request.completed_at,
            )
            for request in requests
        ]
        return Ended(messages.finished(self._identity, listed) | self._numbered(), requests)

    def took(self, ended: Ended) -> None:
        """The engine has taken it."""
        self._stats.taken(ended.requests)

    def _numbered(self) -> dict[str, Any]:
        """The next number for an engine of ours; for Vast's, nothing: it gets Vast's fields alone."""
        if not self._trust.takes_prompt_reports:
            return {}
        self._seq += 1
        return {"seq": self._seq}


def _disk_gb() -> float:
    return shutil.disk_usage("/").used / 2**30
