"""What became of a session whose holder died while a worker was asked for it: the same question again tells.

A null worker gives a request that asks twice the session that it has, and opens it if the first time was lost; so after
an answer it is known whether the worker is held. Without one, it may be held until the lifetime has run out.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nullworker.client.errors import RecordInvalidError, ReservationLostError, WorkerUnreachableError
from nullworker.client.models import RECORD_VERSION, Session
from nullworker.client.retry import jittered_backoff_s
from nullworker.client.worker_client import WorkerGone, WorkerSilent, create_session

if TYPE_CHECKING:
    import random

    import aiohttp

#: For so long the first question may still wait in the worker.
STILL_WAITING_S = 20.0
#: "Occupied" and "ending": so it is now, but while the first question may still wait, not for good.
NOT_NOW = frozenset({429, 503})
#: The worker cannot tell: the grant that came with the question has expired.
CANNOT_TELL = frozenset({401, 403})
#: In place of a session's id, which is not known.
UNCONFIRMED = "(unconfirmed)"


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
    """What ``NullClient.recover`` needs, as JSON can hold it. Has the proof of ownership in it.

    Args:
        endpoint: the endpoint's name.
        auth_data: the engine's answer that named the worker.
        question: what the worker is asked.
    """
    return {
        "version": RECORD_VERSION,
        "endpoint": endpoint,
        "auth_data": auth_data,
        "question": question,
        "asked_at": datetime.now(timezone.utc).isoformat(),
    }


async def ask_again(http: aiohttp.ClientSession, pending: Pending, timeout_s: float, rng: random.Random) -> Session:
    """The session that the worker holds for this request.

    Args:
        http: the connections to use.
        pending: what the worker was asked.
        timeout_s: how long to go on if it cannot tell yet.
        rng: for pauses.

    Raises:
        ReservationLostError: there is none, and none will come.
        WorkerUnreachableError: that cannot be told (yet).
    """
    give_up_at = time.monotonic() + timeout_s
    failures = 0
    while True:
        status, session_id = await _ask_once(http, pending)
        if status == 201 and session_id is not None:
            lifetime_s = float(pending.question["lifetime"])
            now = datetime.now(timezone.utc)
            return Session(pending.endpoint, session_id, pending.url, pending.auth_data, lifetime_s, now)
        if status in CANNOT_TELL:
            raise WorkerUnreachableError(pending.url, f"HTTP {status} to a question that was asked before")
        if status is not None and status < 500 and status not in NOT_NOW:
            raise ReservationLostError(UNCONFIRMED, pending.url, f"its worker answers HTTP {status}")
        if status in NOT_NOW and pending.age_s > STILL_WAITING_S:
            raise ReservationLostError(UNCONFIRMED, pending.url, "its worker does not hold it")
        failures += 1
        pause_s = jittered_backoff_s(failures, rng)
        if time.monotonic() + pause_s >= give_up_at:
            raise WorkerUnreachableError(pending.url, "no answer" if status is None else f"HTTP {status}")
        await asyncio.sleep(pause_s)


async def _ask_once(http: aiohttp.ClientSession, pending: Pending) -> tuple[int | None, str | None]:
    """Status and the session's id; no status where there is no answer.

    Raises:
        ReservationLostError: nothing listens there.
    """
    try:
        created = await create_session(http, pending.auth_data, pending.question)
    except WorkerGone as gone:
        raise ReservationLostError(UNCONFIRMED, pending.url, str(gone)) from gone
    except WorkerSilent:
        return None, None
    return created.status, created.session_id
