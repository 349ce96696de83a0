"""The engine's public key and what it says of itself; and whether what a client shows was given by that engine."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

# The library that the framework checks with: it is loaded already, and another would cost a cold start 20 ms.
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from nullworker.wire import grant as grants
from nullworker.wire.headers import FEATURES, GRANTS, PROMPT_REPORTS, features
from nullworker.wire.paths import PUBKEY
from nullworker.wire.signature import signed_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nullworker.worker.messages import Auth

log = logging.getLogger(__name__)

_RETRY_FIRST_S = 0.1
_RETRY_MAX_S = 5.0
_REFRESH_EVERY_S = 10.0  # the engine is not asked for a new key more often, however many bad signatures come
_KEY_BITS_MIN = 2048
_KEY_BYTES_MAX = 64 * 1024


class UnauthorizedError(Exception):
    """What a client showed is not good for this worker; the message is one sentence."""


class EngineAuth:
    """The engine's key. ``load`` must have returned before anything can be checked."""

    def __init__(self, http: aiohttp.ClientSession, report_addrs: Sequence[str]) -> None:
        self._http = http
        self._report_addrs = report_addrs
        self._key: RSA.RsaKey | None = None
        self._good_signatures: dict[str, str] = {}  # of a URL: deterministic, so that one check each is enough
        self._features: frozenset[str] = frozenset()
        self._asked_at = -_REFRESH_EVERY_S
        self.addr = report_addrs[0]  # that which answered

    @property
    def loaded(self) -> bool:
        """Whether the key is there."""
        return self._key is not None

    @property
    def takes_prompt_reports(self) -> bool:
        """Whether the engine wants reports at once."""
        return PROMPT_REPORTS in self._features

    @property
    def gives_grants(self) -> bool:
        """Whether the engine gives grants; once it said so, a session needs one for as long as this process lives."""
        return GRANTS in self._features

    async def load(self) -> None:
        """Asks the addresses in turn, with growing pauses, until one answers with a key."""
        pause_s = _RETRY_FIRST_S
        while not await self._ask_all():
            log.warning("no public key from %s yet; asking again in %.1f s", ", ".join(self._report_addrs), pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _RETRY_MAX_S)

    async def check_signature(self, auth: Auth) -> None:
        """Whether the engine signed ``auth.url``. A signature that does not fit has the key fetched anew, now and then.

        Raises:
            UnauthorizedError: it did not.
        """
        if self._signed(auth):
            return
        if time.monotonic() - self._asked_at >= _REFRESH_EVERY_S:
            await self._ask_all()
            if self._signed(auth):
                return
        raise UnauthorizedError("auth_data.signature is not the engine's signature of auth_data.url.")

    def _signed(self, auth: Auth) -> bool:
        if self._key is None:
            return False
        if self._good_signatures.get(auth.url) == auth.signature:
            return True
        try:
            signature = base64.b64decode(auth.signature, validate=True)
            pkcs1_15.new(self._key).verify(SHA256.new(signed_message(auth.url)), signature)
        except (binascii.Error, ValueError):
            return False
        self._good_signatures = {auth.url: auth.signature}
        return True

    async def _ask_all(self) -> bool:
        self._asked_at = time.monotonic()
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
            pem = await answer.content.read(_KEY_BYTES_MAX)
            found = features(answer.headers.get(FEATURES))
        key = RSA.import_key(pem)
        if key.size_in_bits() < _KEY_BITS_MIN:
            raise ValueError(f"it is not an RSA key of at least {_KEY_BITS_MIN} bits")
        if self._key is None or key != self._key:
            self._key, self._good_signatures = key, {}
        # Only ever more: an answer that leaves the word out must not switch a check off.
        self._features |= found
        self.addr = addr


class GrantChecks:
    """The grants that have been shown: each opens one session, and none again once that session has ended."""

    def __init__(self, token: str, worker_id: int, url: str) -> None:
        self._token = token
        self._worker_id = worker_id
        self._url = url
        self._opened: dict[str, tuple[str, float]] = {}  # jti to session id and until when to remember it

    def check(self, auth: Auth, now_s: float) -> grants.Grant:
        """Reads the grant that came with a request.

        Raises:
            UnauthorizedError: there is none, or it is not good for this request on this worker.
        """
        if auth.grant is None:
            raise UnauthorizedError("auth_data.grant is missing, and this worker's engine gives one.")
        try:
            return grants.verify(
                auth.grant,
                self._token,
                worker_id=self._worker_id,
                url=self._url,
                request_idx=auth.request_idx,
                now_s=now_s,
            )
        except grants.GrantError as error:
            raise UnauthorizedError(str(error)) from None

    def session_of(self, grant: grants.Grant) -> str | None:
        """The session that this very grant has opened, be it open or ended."""
        session_id, _ = self._opened.get(grant.jti, (None, 0.0))
        return session_id

    def opened(self, grant: grants.Grant, session_id: str, now_s: float) -> None:
        """Remembers which session the grant opened, for as long as it could be shown again."""
        self._opened = {jti: seen for jti, seen in self._opened.items() if seen[1] >= now_s}
        self._opened[grant.jti] = (session_id, grant.expires_at_s + grants.LEEWAY_S)


def same_url(one: str, other: str) -> bool:
    """Whether two URLs of workers name the same place (a slash at the end and the case of the host do not matter)."""
    if one == other:
        return True
    try:
        a, b = urlsplit(one), urlsplit(other)
        return (a.scheme, a.hostname, a.port, a.path.rstrip("/"), a.query) == (
            b.scheme,
            b.hostname,
            b.port,
            b.path.rstrip("/"),
            b.query,
        )
    except ValueError:
        return False
