"""What the engine says of its endpoints and workers, as values that do not change."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EndpointInfo:
    """One endpoint that the key may use."""

    id: int
    name: str


@dataclass(frozen=True)
class WorkerInfo:
    """One worker of an endpoint. Load and perf in perf units, ``loaded_at`` and ``started_at`` Unix times (0: no)."""

    id: int
    status: str
    cur_load: float
    perf: float
    reqs_working: int
    loaded_at: float
    started_at: float
