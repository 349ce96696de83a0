"""What became of a session that was being asked for when whoever asked died: the same question again tells.

A null worker gives a request that asks twice the session that it has, and opens it if the first time was lost; so after
an answer it is known whether the worker is held. Without one, it may be held until the lifetime has run out.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import aiohttp

from nullworker.client.errors import RecordInvalidError, ReservationLostError, WorkerUnreachableError
from nullworker.client.reservation import RECORD_VERSION, Session
from nullworker.client.retry import backoff_s
from nullworker.wire import paths

if TYPE_CHECKING:
    import random

CREATE_TIMEOUT_S = 10.0  # a worker keeps a holder that comes early waiting for nearly that long
#: For so long a question asked by the one who died may still wait in the worker.
STILL_WAITING_S = 20.0
#: "Occupied" and "ending": so it is now, but while the first question may still wait, not for good.
NOT_NOW = frozenset({429, 503})
#: The worker cannot tell: the engine's word that came with the question holds no more.
CANNOT_TELL = frozenset({401, 403})


@dataclass(frozen=True)
class Pending:
    """What a worker was asked, or was about to be. ``auth_data`` is a secret."""

    endpoint: str
    url: str
    auth_data: dict[str, Any]
    question: dict[str, Any]
    asked_at: datetime

    @classmethod
    def from_record(cls, record: object) -> Pending:
        """What `pending_record` wrote down.

        Raises:
            RecordInvalidError: it did not write this.
        """
        if not isinstance(record, dict) or record.get("version") != RECORD_VERSION:
            raise RecordInvalidError(f"it is not of version {RECORD_VERSION}")
        try:
            endpoint, url, asked_at = record["endpoint"], record["auth_data"]["url"], record["asked_at"]
            pending = cls(endpoint, url, record["auth_data"], record["question"], datetime.fromisoformat(asked_at))
            makes_sense = url.startswith(("http://", "https://")) and float(pending.question["lifetime"]) > 0
        except (KeyError, TypeError, ValueError, AttributeError):
            makes_sense = False
        if not makes_sense:
            raise RecordInvalidError("it does not say what a worker was asked")
        return pending

    @property
    def age_s(self) -> float:
        """Seconds since it was asked, by this machine's clock."""
        return (datetime.now(timezone.utc) - self.asked_at).total_seconds()


def pending_record(endpoint: str, auth_data: dict[str, Any], question: dict[str, Any]) -> dict[str, Any]:
    """What ``NullClient.recover`` needs, as JSON can hold it. Has the proof of ownership in it."""
    return {
        "version": RECORD_VERSION,
        "endpoint": endpoint,
        "auth_data": auth_data,
        "question": question,
        "asked_at": datetime.now(timezone.utc).isoformat(),
    }


async def ask_again(http: aiohttp.ClientSession, pending: Pending, timeout_s: float, rng: random.Random) -> Session:
    """The session that the worker holds for this request.

    Raises:
        ReservationLostError: there is none, and none will come.
        WorkerUnreachableError: that cannot be told (yet).
    """
    give_up_at = time.monotonic() + timeout_s
    failures = 0
    while True:
        status, answer = await _ask_once(http, pending)
        if status == 201 and isinstance(session_id := answer.get("session_id"), str):
            lifetime_s = float(pending.question["lifetime"])
            return Session(
                pending.endpoint, session_id, pending.url, pending.auth_data, lifetime_s, datetime.now(timezone.utc)
            )
        if status in CANNOT_TELL:
            raise WorkerUnreachableError(pending.url, f"HTTP {status} to a question that was asked before")
        if status is not None and status < 500 and status not in NOT_NOW:
            raise ReservationLostError("(unconfirmed)", pending.url, f"its worker answers HTTP {status}")
        if status in NOT_NOW and pending.age_s > STILL_WAITING_S:
            raise ReservationLostError("(unconfirmed)", pending.url, "its worker does not hold it")
        failures += 1
        pause_s = backoff_s(failures, rng)
        if time.monotonic() + pause_s >= give_up_at:
            raise WorkerUnreachableError(pending.url, "no answer" if status is None else f"HTTP {status}")
        await asyncio.sleep(pause_s)


async def _ask_once(http: aiohttp.ClientSession, pending: Pending) -> tuple[int | None, dict[str, Any]]:
    """Status and body; no status where there is no answer.

    Raises:
        ReservationLostError: nothing listens there.
    """
    body = {"auth_data": pending.auth_data, "session_id": None, "payload": pending.question}
    timeout = aiohttp.ClientTimeout(total=CREATE_TIMEOUT_S)
    try:
        async with http.post(
            pending.url.rstrip("/") + paths.SESSION_CREATE, json=body, timeout=timeout, allow_redirects=False
        ) as response:
            text = await response.text(errors="replace")
            status = response.status
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, ConnectionRefusedError):
            raise ReservationLostError("(unconfirmed)", pending.url, "its worker is gone") from error
        return None, {}
    except (aiohttp.ClientError, asyncio.TimeoutError, TimeoutError, OSError):
        return None, {}
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {}
    return status, answer if isinstance(answer, dict) else {}
