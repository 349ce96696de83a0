"""The signature that a worker of Vast's framework checks: RSA over the worker's own URL (`nullworker.wire.signature`).

It proves that this engine knew the worker at that URL, and nothing else. The grant binds a reservation and a time.
"""

from __future__ import annotations

import base64
import functools
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from nullworker.engine.state_dir import StateError, read_or_create
from nullworker.wire.signature import signed_message

if TYPE_CHECKING:
    from pathlib import Path

KEY_FILE = "signing_key.pem"
#: 2048 bits and not 3072: the key is made while a first start waits for it (0.06 s against 0.2 to 0.6 s), and by itself
#: it authorises nothing where grants are asked for. Without its file a new one is made; workers fetch it as they start.
KEY_BITS = 2048
#: URLs whose signature is kept, of some 600 bytes each; one that fell out is signed again in 0.3 ms.
SIGNATURES_KEPT = 131_072


class Signer:
    """Signs workers' URLs with the engine's RSA key."""

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        """Takes the ``key`` that `open` read."""
        self._key = key
        #: What ``GET /pubkey/`` answers: the public key as PEM.
        self.public_pem = (
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
        self._signed = functools.lru_cache(maxsize=SIGNATURES_KEPT)(self._sign)

    @classmethod
    def open(cls, state_dir: Path) -> Signer:
        """Reads the signing key of ``state_dir``, and makes it where it is missing.

        Raises:
            StateError: the key file cannot be used.
        """
        path = state_dir / KEY_FILE
        pem, _ = read_or_create(path, _new_key)
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < KEY_BITS:
            raise StateError(f"The key file {path} holds no usable RSA key; delete it, and a new one is made.")
        return cls(key)

    def sign_url(self, url: str) -> str:
        """The signature of ``url`` in base64; the same each time."""
        return self._signed(url)

    def _sign(self, url: str) -> str:
        signature = self._key.sign(signed_message(url), padding.PKCS1v15(), hashes.SHA256())
        return base64.b64encode(signature).decode()


def _new_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
