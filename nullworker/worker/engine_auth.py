"""Fetches the engine's key, again when a signature does not fit; remembers which grant has opened which session.

The checks themselves are in `nullworker.wire.worker_side.engine_trust`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import aiohttp

from nullworker.wire.backoff import backoff_s
from nullworker.wire.headers import FEATURES
from nullworker.wire.paths import PUBKEY
from nullworker.wire.worker_side.engine_trust import NotAuthenticError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.wire.grant import Grant
    from nullworker.wire.worker_side.engine_trust import EngineTrust
    from nullworker.worker.messages import Auth

log = logging.getLogger(__name__)

_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0
_REFRESH_EVERY_S = 10.0  # the engine is not asked for a new key more often, however many bad signatures come
_KEY_BYTES_MAX = 64 * 1024


class EngineAuth:
    """Gives ``trust`` the engine's key. ``load`` must have returned before anything can be checked.

    Args:
        http: makes the calls.
        report_addrs: the engine's URLs.
        trust: is given the key.
    """

    def __init__(self, http: aiohttp.ClientSession, report_addrs: Sequence[str], trust: EngineTrust) -> None:
        self._http = http
        self._report_addrs = report_addrs
        self._asked_at_s = -_REFRESH_EVERY_S
        self.trust = trust
        self.addr = report_addrs[0]  # that which answered

    async def load(self) -> None:
        """Asks the addresses in turn, with growing pauses, until one answers with a key."""
        failures = 0
        while not await self._ask_all():
            failures += 1
            pause_s = backoff_s(failures, first_s=_RETRY_FIRST_S, max_s=_RETRY_MAX_S)
            log.warning("no public key from %s yet; asking again in %.1f s", ", ".join(self._report_addrs), pause_s)
            await asyncio.sleep(pause_s)

    async def check_signed(self, auth: Auth) -> None:
        """Whether the engine has signed this worker's URL. If the signature does not fit, the key may be a new one:
        it is fetched again, but not more often than every `_REFRESH_EVERY_S`.

        Raises:
            NotAuthenticError: it has not.
        """
        self.trust.check_url(auth.url)
        try:
            self.trust.check_signature(auth.url, auth.signature)
        except NotAuthenticError:
            if time.monotonic() - self._asked_at_s < _REFRESH_EVERY_S:
                raise
        else:
            return
        await self._ask_all()
        self.trust.check_signature(auth.url, auth.signature)

    async def _ask_all(self) -> bool:
        self._asked_at_s = time.monotonic()
        for addr in self._report_addrs:
            try:
                await self._ask(addr)
            except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
                log.debug("no public key from %s: %s", addr, error)
            else:
                return True
        return False

    async def _ask(self, addr: str) -> None:
        async with self._http.get(addr + PUBKEY) as answer:
            answer.raise_for_status()
            self.trust.learn(await answer.content.read(_KEY_BYTES_MAX), answer.headers.get(FEATURES))
        self.addr = addr


class GrantedSessions:
    """Which session each grant has opened: a grant opens one, and no other when that has ended."""

    def __init__(self) -> None:
        self._opened: dict[str, tuple[str, float]] = {}  # jti to session id and until when to remember it

    def session_of(self, grant: Grant) -> str | None:
        """The id of the session that this grant has opened, whether it is open or has ended."""
        session_id, _ = self._opened.get(grant.jti, (None, 0.0))
        return session_id

    def opened(self, grant: Grant, session_id: str, now_s: float) -> None:
        """Remembers a session for as long as its grant is accepted.

        Args:
            grant: the grant.
            session_id: the session that it has opened.
            now_s: of a monotonic clock.
        """
        self._opened = {jti: seen for jti, seen in self._opened.items() if seen[1] >= now_s}
        self._opened[grant.jti] = (session_id, now_s + grant.good_for_s)
