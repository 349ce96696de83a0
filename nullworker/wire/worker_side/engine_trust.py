"""Whether a client was sent by the worker's engine: the engine's key, its signature of the worker's URL, its grants.

No input or output: the caller fetches the key from ``/pubkey/``, and gives it to `EngineTrust.learn`.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

# The library with which Vast's worker framework checks signatures. It is loaded there anyway; another would cost a
# cold start 20 ms.
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15

from nullworker.wire import grant as grants
from nullworker.wire.headers import GRANTS, PROMPT_REPORTS, features
from nullworker.wire.signature import signed_message
from nullworker.wire.worker_clock import WorkerClock

if TYPE_CHECKING:
    from nullworker.wire.worker_side.messages import Identity

KEY_BITS_MIN = 2048


class NotAuthenticError(Exception):
    """A client was not sent to this worker by its engine; the message is one sentence that says what is wrong."""


class EngineTrust:
    """Checks what clients show, once `learn` has been given the engine's key. Safe to use from several threads.

    Args:
        identity: this worker.
        clock: the worker's clock, which its reports state.
        demands_grants: whether the engine is known to issue grants, before it has said so.
    """

    def __init__(self, identity: Identity, clock: WorkerClock | None = None, *, demands_grants: bool = False) -> None:
        self._identity = identity
        self.clock = clock or WorkerClock()
        self._key: RSA.RsaKey | None = None
        # The last good signature and what it was checked with. Signatures are deterministic, so one check is enough.
        self._good: tuple[RSA.RsaKey, str, str] | None = None
        self._features: frozenset[str] = frozenset({GRANTS} if demands_grants else ())

    @property
    def has_key(self) -> bool:
        """Whether signatures can be checked."""
        return self._key is not None

    @property
    def takes_prompt_reports(self) -> bool:
        """Whether the engine wants reports at once."""
        return PROMPT_REPORTS in self._features

    @property
    def issues_grants(self) -> bool:
        """Whether the engine issues grants. If it said so once, grants are required as long as this process lives."""
        return GRANTS in self._features

    def learn(self, pem: bytes, features_header: str | None) -> None:
        """Takes the engine's answer to ``/pubkey/``.

        Args:
            pem: its body.
            features_header: its header `nullworker.wire.headers.FEATURES`, None if there is none.

        Raises:
            ValueError: the body is not a good public key.
        """
        try:
            key = RSA.import_key(pem)
        except (IndexError, TypeError) as error:
            raise ValueError(f"it is not a public key: {error}") from None
        if key.size_in_bits() < KEY_BITS_MIN:
            raise ValueError(f"it is not an RSA key of at least {KEY_BITS_MIN} bits")
        if self._key is None or key != self._key:
            self._key = key
        # Features are only ever added: an answer that leaves one out must not switch a check off.
        self._features |= features(features_header)

    def check_url(self, url: str) -> None:
        """Whether ``url``, which a client shows as signed, is this worker's.

        Raises:
            NotAuthenticError: it is not.
        """
        if not same_url(url, self._identity.url):
            raise NotAuthenticError("auth_data.url is not this worker's.")

    def check_signature(self, url: str, signature: str) -> None:
        """Whether the engine has signed ``url``.

        Raises:
            NotAuthenticError: it has not.
        """
        key = self._key
        if key is None:
            raise NotAuthenticError("This worker has no key of its engine yet, so it can check no signature.")
        good = self._good
        if good is not None and good[0] is key and good[1:] == (url, signature):
            return
        try:
            raw = base64.b64decode(signature, validate=True)
            pkcs1_15.new(key).verify(SHA256.new(signed_message(url)), raw)
        except (binascii.Error, ValueError):
            raise NotAuthenticError("auth_data.signature is not the engine's signature of auth_data.url.") from None
        self._good = (key, url, signature)

    def check_grant(self, grant: object, request_idx: int) -> grants.Grant:
        """Reads the grant that came with a request.

        Args:
            grant: ``auth_data.grant``, None if there is none.
            request_idx: the request that it came with.

        Raises:
            NotAuthenticError: there is none, or it is not good for this request on this worker.
        """
        if not isinstance(grant, str):
            raise NotAuthenticError("auth_data.grant is missing, and this worker's engine issues one.")
        me = self._identity
        try:
            return grants.verify(
                grant, me.token, worker_id=me.worker_id, url=me.url, request_idx=request_idx, clock=self.clock
            )
        except grants.GrantError as error:
            raise NotAuthenticError(str(error)) from None


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
