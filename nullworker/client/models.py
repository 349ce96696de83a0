"""What an engine or a worker has answered, as values that do not change."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nullworker.client.errors import RecordInvalidError

RECORD_VERSION = 1


@dataclass(frozen=True)
class PlaceEnds:
    """The place of a worker ends it, whatever it holds: a time limit, a machine that is taken back."""

    at: datetime  # in UTC
    reason: str  # the place's own, as the end of a sentence


@dataclass(frozen=True)
class EndpointInfo:
    """One endpoint that the key may use."""

    id: int
    name: str


@dataclass(frozen=True)
class Endpoint(EndpointInfo):
    """An endpoint with its own key, which requests for its workers are made with: a secret."""

    api_key: str = field(repr=False)


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


@dataclass(frozen=True)
class RouteAnswer:
    """The engine's answer to a request for a worker.

    ``auth_data`` is the whole answer where it names a worker, which is to be shown to that worker; None while there is
    none, and ``reason`` says why, where the engine does. ``request_idx`` is the number to ask again with (0: none).
    """

    request_idx: int
    auth_data: dict[str, Any] | None = field(default=None, repr=False)
    reason: str = ""


@dataclass(frozen=True)
class Session:
    """A session as the worker confirmed it. ``auth_data`` is what proves that it is ours: keep it secret."""

    endpoint: str
    session_id: str
    url: str
    auth_data: dict[str, Any] = field(repr=False)
    lifetime_s: float
    opened_at: datetime

    def to_record(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "version": RECORD_VERSION,
            "endpoint": self.endpoint,
            "session_id": self.session_id,
            "url": self.url,
            "auth_data": self.auth_data,
            "lifetime_s": self.lifetime_s,
            "opened_at": self.opened_at.isoformat(),
        }

    @classmethod
    def from_record(cls, record: object) -> Session:
        """The session that `to_record` wrote down.

        Raises:
            RecordInvalidError: it did not write this.
        """
        if not isinstance(record, dict) or record.get("version") != RECORD_VERSION:
            raise RecordInvalidError(f"it is not of version {RECORD_VERSION}")
        try:
            texts = {name: record[name] for name in ("endpoint", "session_id", "url", "opened_at")}
            auth_data, lifetime_s = record["auth_data"], record["lifetime_s"]
        except KeyError as error:
            raise RecordInvalidError(f"{error.args[0]} is missing") from None
        for name, value in texts.items():
            if not isinstance(value, str) or not value:
                raise RecordInvalidError(f"{name} is no text")
        if not isinstance(auth_data, dict):
            raise RecordInvalidError("auth_data is no object")
        if isinstance(lifetime_s, bool) or not isinstance(lifetime_s, (int, float)) or not lifetime_s > 0:
            raise RecordInvalidError("lifetime_s is no positive number")
        try:
            opened_at = datetime.fromisoformat(texts["opened_at"])
        except ValueError:
            raise RecordInvalidError("opened_at is no time") from None
        return cls(texts["endpoint"], texts["session_id"], texts["url"], auth_data, float(lifetime_s), opened_at)
