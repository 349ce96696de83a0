"""An engine's RSA key. It signs with another library than the worker's, and states the signed bytes on its own."""

from __future__ import annotations

import base64
import functools

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class EngineKey:
    """A key of an engine; each is another one."""

    def __init__(self, bits: int = 2048) -> None:
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
        self.pem = self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, url: str) -> str:
        """The signature of ``url``, as ``auth_data`` has it."""
        message = f'{{\n    "url": "{url}"\n}}'.encode()
        return base64.b64encode(self._key.sign(message, padding.PKCS1v15(), SHA256())).decode()


@functools.cache
def engine_key(number: int = 0) -> EngineKey:
    """The same key each time it is asked for with the same number, for making one takes long."""
    return EngineKey()
