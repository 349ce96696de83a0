"""Ends a reservation from inside, the way its holder would: through the framework's own /session/end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import aiohttp

from nullworker.wire.paths import SESSION_END

if TYPE_CHECKING:
    from nullworker.worker.leases import Lease, Leases

log = logging.getLogger(__name__)

_ATTEMPTS = 5
_PAUSE_S = 0.2


class ReleaseError(Exception):
    """The framework did not end the session; the message is one sentence."""


class Releaser:
    """Posts to this very process's plain-HTTP port (``url``), with the ``auth_data`` that the session is held with."""

    def __init__(self, http: aiohttp.ClientSession, leases: Leases, url: str) -> None:
        self._http = http
        self._leases = leases
        self._url = url + SESSION_END

    async def release_all(self) -> list[str]:
        """Ends what is held; returns the ids of the sessions that this call ended.

        Raises:
            ReleaseError: the framework did not do so.
        """
        return [lease.session_id for lease in list(self._leases.leases()) if await self.release(lease)]

    async def release(self, lease: Lease) -> bool:
        """Ends a session; False when it had ended already.

        Raises:
            ReleaseError: the framework did not do so.
        """
        problem = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE_S)
            if self._leases.get(lease.session_id) is not lease:
                return False
            body = {"session_id": lease.session_id, "session_auth": lease.auth_data}
            try:
                async with self._http.post(self._url, json=body) as answer:
                    if answer.status == 200:
                        return True
                    if answer.status in (400, 410) and lease.session_id not in self._leases:
                        return False
                    problem = f"it answered with status {answer.status}"
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                problem = str(error) or type(error).__name__
        log.error("session of request %s was not released: %s", lease.request_idx, problem)
        raise ReleaseError(f"The worker's own /session/end did not end the session: {problem}.")
