"""What the holder of a session says to its worker: am I still held, hold on, let go.

Not through the SDK, whose calls in a session wait up to ten minutes, try again without a pause, and tell an end from a
failure by the wording of an error. Here every answer has a meaning and every call a limit.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp

from nullworker.wire import paths

CALL_TIMEOUT_S = 10.0
#: Statuses by which a worker, or whatever now listens in its place, says that it knows no such session of ours.
GONE = frozenset({400, 401, 403, 404, 405, 410, 422})


class SessionGone(Exception):  # noqa: N818 - an outcome, not an error: the worker may have ended it on purpose
    """The worker does not hold this session (any more)."""


class WorkerGone(SessionGone):
    """Nothing listens where the worker was."""


class WorkerSilent(Exception):  # noqa: N818 - an outcome, handled by whoever asked
    """No usable answer this time."""


@dataclass(frozen=True)
class Look:
    """What the worker says of a session: seconds until it ends by itself, and for how long a ping extends it.

    None where it cannot be told. A worker may allow a shorter lifetime than it was asked for.
    """

    remaining_s: float | None
    lifetime_s: float | None = None


class WorkerClient:
    """Calls about one session to the worker that holds it."""

    def __init__(self, http: aiohttp.ClientSession, url: str, session_id: str, auth_data: dict[str, Any]) -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._session_id = session_id
        self._auth_data = auth_data

    async def look(self) -> Look:
        """Asks the worker about the session.

        Raises:
            SessionGone: it holds none such (`WorkerGone`: nothing listens there).
            WorkerSilent: no usable answer.
        """
        body = {"session_id": self._session_id, "session_auth": self._auth_data}
        answer, date = await self._post(paths.SESSION_GET, body)
        lifetime_s = answer.get("lifetime")
        return Look(remaining_s(answer.get("expiration"), date), lifetime_s if _is_positive(lifetime_s) else None)

    async def ping(self) -> None:
        """Makes the session last one lifetime longer. Raises as `look`."""
        await self._post(
            paths.PING,
            {"auth_data": self._auth_data, "session_id": self._session_id, "payload": {}},
            gone=frozenset({410}),
        )

    async def end(self) -> None:
        """Ends the session. Raises as `look`; `SessionGone` here means that it had ended before."""
        await self._post(paths.SESSION_END, {"session_id": self._session_id, "session_auth": self._auth_data})

    async def _post(
        self, path: str, body: dict[str, Any], gone: frozenset[int] = GONE
    ) -> tuple[dict[str, Any], str | None]:
        try:
            async with self._http.post(
                self._url + path, json=body, timeout=aiohttp.ClientTimeout(total=CALL_TIMEOUT_S), allow_redirects=False
            ) as response:
                text = await response.text(errors="replace")
                status, date = response.status, response.headers.get("Date")
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, ConnectionRefusedError):
                raise WorkerGone("its worker is gone") from error
            raise WorkerSilent(str(error)) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, TimeoutError, OSError) as error:
            raise WorkerSilent(str(error) or "time-out") from error
        if status in gone:
            raise SessionGone(_why_gone(status))
        if not 200 <= status < 300:
            raise WorkerSilent(f"HTTP {status}")
        return _mapping(text), date


def remaining_s(expiration: object, date: str | None) -> float | None:
    """Seconds until ``expiration`` (Unix time by the worker's clock) from the ``Date`` of the same answer.

    Both are the worker's, so neither our clock nor a jump of its own matters. Good to a second.
    """
    if date is None or isinstance(expiration, bool) or not isinstance(expiration, (int, float)):
        return None
    try:
        return float(expiration) - parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _why_gone(status: int) -> str:
    if status in {400, 404, 410}:  # the framework's 400 means that it knows no such session
        return "its worker has ended it: its consumer gave it back, or its lifetime ran out"
    return f"its worker answers HTTP {status}"


def _is_positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _mapping(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}
