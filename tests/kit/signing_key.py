"""The key that an engine of a test signs with: one for all of a process, for making one takes 0.05 s of each test."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nullworker.engine.auth.signing import KEY_FILE
from nullworker.engine.state_dir import read_or_create

if TYPE_CHECKING:
    from pathlib import Path


@functools.cache
def _pem() -> bytes:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def give_signing_key(state: Path) -> None:
    """Puts the key into a state directory that has none."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    read_or_create(state / KEY_FILE, _pem)
