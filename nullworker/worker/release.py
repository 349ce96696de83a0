"""Ends a reservation from inside, the way its holder would: through the framework's own /session/end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp

from nullworker.wire.paths import SESSION_END

if TYPE_CHECKING:
    from nullworker.worker.sessions import HeldSession, SessionTable

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_PAUSE_S = 0.2


class ReleaseError(Exception):
    """The framework did not end the session; the message is one sentence."""


class Releaser:
    """Posts to this process's own plain-HTTP port.

    Args:
        http: makes the calls.
        sessions: what holds the worker; each session's ``auth_data`` authenticates the call.
        url: this process's plain-HTTP port.
    """

    def __init__(self, http: aiohttp.ClientSession, sessions: SessionTable, url: str) -> None:
        self._http = http
        self._sessions = sessions
        self._url = url + SESSION_END

    async def release_all(self) -> list[str]:
        """Ends what is held; returns the ids of the sessions that this call ended.

        Raises:
            ReleaseError: the framework did not do so.
        """
        return [session.session_id for session in list(self._sessions.all_open()) if await self.release(session)]

    async def release(self, session: HeldSession) -> bool:
        """Ends a session; False when it had ended already.

        Raises:
            ReleaseError: the framework did not do so.
        """
        problem = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE_S)
            if self._sessions.get(session.session_id) is not session:
                return False
            body = {"session_id": session.session_id, "session_auth": session.auth_data}
            try:
                async with self._http.post(self._url, json=body) as answer:
                    if answer.status == 200:
                        return True
                    if answer.status in (400, 410) and session.session_id not in self._sessions:
                        return False
                    problem = f"it answered with status {answer.status}"
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                problem = str(error) or type(error).__name__
        log.error("session of request %s was not released: %s", session.request_idx, problem)
        raise ReleaseError(f"The worker's own /session/end did not end the session: {problem}.")
