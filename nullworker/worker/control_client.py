"""What a program beside the worker asks of its control port."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any

import aiohttp

_ANSWER_S = 10.0


class ControlGone(Exception):  # noqa: N818 - an outcome: the worker has ended, or has not begun
    """Nothing listens at the control port."""


class ControlSilent(Exception):  # noqa: N818 - an outcome: nothing is known
    """No usable answer this time."""


@dataclass(frozen=True, slots=True)
class Held:
    """A session that holds the worker. ``left_s``: how long it lasts unless it is extended; ``heard_at``: when the
    consumer itself last sent a heartbeat, by the worker's clock; None: never.
    """

    session_id: str
    request_idx: int
    payload: Any
    left_s: float
    heard_at: float | None


class ControlPort:
    """Calls to ``http://127.0.0.1:PORT``. All may raise ControlGone and ControlSilent."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self.url = url

    async def held(self, *, other_than: str | None = None, wait_s: float = 0.0) -> Held | None:
        """The session that holds the worker; waits up to ``wait_s`` for it to be another than ``other_than``."""
        query = {"wait": f"{wait_s:g}", **({"while": other_than} if other_than else {})}
        seen = await self._call("GET", "/reservation", query, _ANSWER_S + wait_s)
        if not seen.get("held"):
            return None
        try:
            left_s = float(seen["until"]) - time.time()  # noqa: TID251 - both are of this machine, and of this moment
            return Held(seen["session_id"], int(seen["request_idx"]), seen["payload"], left_s, seen.get("heartbeat_at"))
        except (KeyError, TypeError, ValueError) as error:
            raise ControlSilent(f"its answer is not understood ({error})") from error

    async def heartbeat(self) -> None:
        """Extends the session by its lifetime. This is no sign of work, as the consumer's own heartbeat is."""
        await self._call("POST", "/heartbeat", {"by": "runner"})

    async def release(self, session_id: str) -> None:
        """Ends this session; one that is over, or another one that has begun since, is left as it is."""
        await self._call("POST", "/release", {"session_id": session_id})

    async def fail(self, reason: str) -> None:
        """Reports that the worker is broken."""
        await self._call("POST", "/fail", {}, body={"reason": reason})

    async def _call(
        self, method: str, path: str, query: dict[str, str], timeout_s: float = _ANSWER_S, body: Any = None
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._http.request(method, self.url + path, params=query, json=body, timeout=timeout) as answer:
                found = await answer.json() if answer.content_type == "application/json" else None
                status = answer.status
        except aiohttp.ClientConnectorError as error:
            code = error.os_error.errno  # asyncio's own words for it repeat the address
            raise ControlGone(os.strerror(code).lower() if code else str(error)) from error
        except (aiohttp.ServerDisconnectedError, ConnectionResetError) as error:
            raise ControlGone("it hung up") from error
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError, OSError) as error:
            raise ControlSilent(str(error) or "time-out") from error
        if status != 200 or not isinstance(found, dict):
            detail = found.get("error") if isinstance(found, dict) else None
            raise ControlSilent(f"HTTP {status}" + (f": {detail}" if detail else ""))
        return found
