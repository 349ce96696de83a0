"""What an engine wants done.

Each command carries its ``cause`` (a code), its ``reason`` (a sentence with numbers, for people) and the
``event_number`` of the event that led to it, so that the sum of all commands explains the fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nullworker.core.causes import Cause


@dataclass(frozen=True, slots=True)
class Grant:
    """Answer the waiter's /route/ call: this worker is promised to it. Given again when it asks again."""

    request_idx: int
    endpoint_id: int
    worker_id: int
    url: str
    cost: float
    expires_in_s: float
    cause: Cause
    reason: str
    event_number: int


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the waiter's /route/ call: it will not get a worker (its endpoint is gone). It is forgotten."""

    request_idx: int
    endpoint_id: int
    cause: Cause
    reason: str
    event_number: int


@dataclass(frozen=True, slots=True)
class Create:
    """Create an instance for this worker on the workergroup's fleet."""

    worker_id: int
    workergroup_id: int
    cause: Cause
    reason: str
    event_number: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start the worker's stopped instance."""

    worker_id: int
    cause: Cause
    reason: str
    event_number: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the worker's instance, so that it can be started again."""

    worker_id: int
    cause: Cause
    reason: str
    event_number: int


@dataclass(frozen=True, slots=True)
class Destroy:
    """Destroy the worker's instance. Also for instances that bear our mark and that the core does not know."""

    worker_id: int
    fleet: str
    cause: Cause
    reason: str
    event_number: int


@dataclass(frozen=True, slots=True)
class Note:
    """Nothing to do, something to record: a change of state and why. ``kind`` is a machine word."""

    kind: str
    endpoint_id: int
    worker_id: int
    request_idx: int
    cause: Cause
    reason: str
    event_number: int


Command = Grant | Refuse | Create | Start | Stop | Destroy | Note
