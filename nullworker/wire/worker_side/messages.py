"""The bodies of a worker's reports to the engine, in Vast's field names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nullworker.wire.worker_clock import WorkerTime

PROTOCOL_VERSION = "1.1.0"  # of Vast's worker protocol, as its framework states it
ERROR_CHARACTERS_MAX = 2_000  # a sentence for the engine's records, not a log


@dataclass(frozen=True, slots=True)
class Identity:
    """The worker that reports."""

    worker_id: int
    token: str = field(repr=False)
    url: str  # under which clients reach it; "" if it is not known
    version: str = PROTOCOL_VERSION


@dataclass(frozen=True, slots=True)
class StatusFigures:
    """What a status report states. Loads and perf are in perf units, disk sizes in GB."""

    loadtime_s: float  # 0 until the worker is ready
    perf: float
    error: str  # "" while the worker is not broken
    request_idxs: list[int]  # in progress
    working: int  # how many are in progress
    received: int  # requests ever received
    load: float  # cost of those in progress
    new_load: float  # cost that arrived since the last report
    rejected_load: float  # cost that was refused since then
    served_load: float  # cost that was served since then
    disk_gb: float
    disk_growth_gb: float  # since the last report


def status(identity: Identity, figures: StatusFigures, seq: int | None = None) -> dict[str, Any]:
    """The body of ``/worker_status/``.

    Args:
        identity: the worker.
        figures: what is reported.
        seq: the report's place among the worker's reports, for an engine of ours; None leaves it out.
    """
    return {
        "id": identity.worker_id,
        "mtoken": identity.token,
        "version": identity.version,
        **_numbered(seq),
        "loadtime": figures.loadtime_s,
        "cur_load": figures.load,
        "rej_load": figures.rejected_load,
        "new_load": figures.new_load,
        "error_msg": figures.error,
        "max_perf": figures.perf,
        "cur_perf": figures.served_load,
        "cur_capacity": 0,
        "max_capacity": 0,
        "num_requests_working": figures.working,
        "num_requests_recieved": figures.received,  # Vast's spelling
        "additional_disk_usage": figures.disk_growth_gb,
        "disk_usage": figures.disk_gb,
        "working_request_idxs": figures.request_idxs,
        "url": identity.url,
    }


def clock_fields(now: WorkerTime) -> dict[str, Any]:
    """What a status says beside Vast's fields to an engine that issues grants: what the worker's clock shows."""
    return {"clock": now.clock, "clock_s": now.at_s}


def failure(identity: Identity, error: str) -> dict[str, Any]:
    """The short form of ``/worker_status/``, for a worker that cannot start."""
    return {
        "id": identity.worker_id,
        "mtoken": identity.token,
        "version": identity.version,
        "error_msg": error[:ERROR_CHARACTERS_MAX],
        "url": identity.url,
    }


def finished_request(
    request_idx: int, status: str, *, success: bool | None, entered_at: float, started_at: float, completed_at: float
) -> dict[str, Any]:
    """One entry of `finished`.

    Args:
        request_idx: the request.
        status: "Success", "Error", "Cancelled" or "Rejected".
        success: whether it counts as one.
        entered_at: Unix time of its arrival.
        started_at: Unix time at which work on it began.
        completed_at: Unix time of its end.
    """
    return {
        "request_idx": request_idx,
        "success": success,
        "status": status,
        "entered_queue_at": entered_at,
        "work_started_at": started_at,
        "work_completed_at": completed_at,
    }


def finished(identity: Identity, requests: list[dict[str, Any]], seq: int | None = None) -> dict[str, Any]:
    """The body of ``/delete_requests/``.

    Args:
        identity: the worker.
        requests: what is finished, made by `finished_request`.
        seq: as for `status`.
    """
    return {"worker_id": identity.worker_id, "mtoken": identity.token, **_numbered(seq), "requests": requests}


def _numbered(seq: int | None) -> dict[str, int]:
    return {} if seq is None else {"seq": seq}
