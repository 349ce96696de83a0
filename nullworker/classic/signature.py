"""Whose word counts: the engine's signature of this worker's URL, and its grant where it gives one."""

from __future__ import annotations

import base64
import binascii
import threading
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from nullworker.wire import grant, headers
from nullworker.wire.signature import signed_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.classic.envelope import Envelope
    from nullworker.classic.settings import EngineLink


class NotAuthenticError(Exception):
    """The message is not what this worker's engine sent the client with; the text says what is wrong."""


class SignatureChecker:
    """Checks messages against the engine's key, once `learn` was given that. ``now`` gives the Unix time."""

    def __init__(self, link: EngineLink, now: Callable[[], float]) -> None:
        self._link = link
        self._now = now
        self._key: rsa.RSAPublicKey | None = None
        self._good_signature = ""
        self._lock = threading.Lock()
        self.features: frozenset[str] = frozenset()

    @property
    def has_key(self) -> bool:
        """Whether signatures can be checked."""
        return self._key is not None

    def learn(self, pem: bytes, features_header: str | None) -> None:
        """Takes the engine's answer to ``/pubkey/``. Raises ValueError when there is no RSA public key in it."""
        key = load_pem_public_key(pem)
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("it is no RSA key")  # noqa: TRY004 - to the caller both mean that the answer is no good
        with self._lock:
            self._key, self._good_signature = key, ""
            self.features = headers.features(features_header)

    def check(self, envelope: Envelope) -> None:
        """Raises `NotAuthenticError` unless the engine sent this client to this worker."""
        if self._key is None:
            raise NotAuthenticError("this worker has no key of its engine yet, and can check no signature")
        if envelope.url.rstrip("/") != self._link.url:
            raise NotAuthenticError("auth_data is signed for another worker's url")
        self._check_signature(self._key, envelope.url, envelope.signature)
        if headers.GRANTS in self.features:
            self._check_grant(envelope)

    def _check_signature(self, key: rsa.RSAPublicKey, url: str, signature: str) -> None:
        """One verifying per URL is enough, since the scheme is deterministic: a signature once good is remembered."""
        if url == self._link.url and signature == self._good_signature and signature:
            return
        try:
            raw = base64.b64decode(signature, validate=True)
            key.verify(raw, signed_message(url), padding.PKCS1v15(), SHA256())
        except (binascii.Error, ValueError, InvalidSignature):
            raise NotAuthenticError("auth_data's signature is not the engine's") from None
        if url == self._link.url:
            self._good_signature = signature

    def _check_grant(self, envelope: Envelope) -> None:
        given = envelope.auth_data.get("grant")
        if not isinstance(given, str):
            raise NotAuthenticError("auth_data has no grant, and this worker's engine gives one with each answer")
        try:
            grant.verify(
                given,
                self._link.master_token,
                worker_id=self._link.container_id,
                url=envelope.url,
                request_idx=envelope.request_idx,
                now_s=self._now(),
            )
        except grant.GrantError as error:
            raise NotAuthenticError(str(error)) from None
