"""Keys: the account's, one for each endpoint, a token for each worker, and a join token for each endpoint.

Only two files exist: ``api_key``, where a client on the same machine finds the account key, and ``secret``, from which
everything else is derived (HMAC-SHA256), so that nothing else is stored and all of it survives a restart. Every
comparison takes the same time for every guess.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from nullworker.engine.redaction import hide
from nullworker.engine.secret import Secret
from nullworker.engine.state_dir import StateError, read_or_create

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Keys", "Secret"]

ACCOUNT_KEY_FILE = "api_key"
SECRET_FILE = "secret"  # noqa: S105 - the name of a file
ACCOUNT_KEY_CHARACTERS_MIN = 8


class Keys:
    """An engine's keys. Endpoint and worker ids are never used twice, so neither is a derived key."""

    def __init__(self, account_key: str, secret: bytes, *, is_new: bool = False) -> None:
        """Takes what `open` read."""
        self.account_key = Secret(account_key)
        #: Whether the account key was made or taken over just now, and should be shown to the user once.
        self.is_new = is_new
        self._secret = secret
        self._account_digest = _digest(account_key)
        #: This engine's own, for as long as its state directory lives: what its instances are marked with.
        self.mark = self._derive("mark")[:12]

    @classmethod
    def open(cls, state_dir: Path, vast_api_key: str = "") -> Keys:
        """Reads the keys of ``state_dir``, and makes them where they are missing.

        Args:
            state_dir: as `nullworker.engine.state_dir.open_state_dir` returns it.
            vast_api_key: becomes the account key where there is none yet; "" makes a random one.

        Raises:
            StateError: a key file cannot be used, or ``vast_api_key`` is no key.
        """
        content, is_new = read_or_create(state_dir / ACCOUNT_KEY_FILE, lambda: _new_account_key(vast_api_key))
        account_key = _account_key(content, str(state_dir / ACCOUNT_KEY_FILE))
        text, _ = read_or_create(state_dir / SECRET_FILE, _new_random_key)
        try:
            secret = bytes.fromhex(text.decode())
        except ValueError:
            secret = b""
        if len(secret) < 32:
            raise StateError(f"The key file {state_dir / SECRET_FILE} is damaged; bring it back from a copy.")
        hide(Secret(account_key))  # a user's own may look like anything
        return cls(account_key, secret, is_new=is_new)

    def is_account(self, key: str) -> bool:
        """Whether ``key`` is the account key."""
        return hmac.compare_digest(_digest(key), self._account_digest)

    @property
    def read_only_key(self) -> Secret:
        """The key that sees everything but keys and tokens, and changes nothing."""
        return Secret(self._derive("read-only"))

    def is_read_only(self, key: str) -> bool:
        """Whether ``key`` is the read-only key."""
        return _same(key, self._derive("read-only"))

    def cookie_signature(self, text: str) -> str:
        """What makes a cookie with this text valid, as long as the account key is the same."""
        return self._derive(f"cookie:{self._account_digest.hex()}:{text}")

    def is_cookie_signature(self, text: str, signature: str) -> bool:
        """Whether it is the signature of this text."""
        return _same(signature, self.cookie_signature(text))

    def endpoint_key(self, endpoint_id: int) -> Secret:
        """The key that routes to one endpoint, and does nothing else."""
        return Secret(self._endpoint_key(endpoint_id))

    def is_endpoint(self, endpoint_id: int, key: str) -> bool:
        """Whether ``key`` is the endpoint's own."""
        return _same(key, self._endpoint_key(endpoint_id))

    def worker_token(self, worker_id: int) -> Secret:
        """The token by which one worker reports about itself."""
        return Secret(self._derive(f"worker:{worker_id}"))

    def is_worker(self, worker_id: int, token: str) -> bool:
        """Whether ``token`` is the worker's own."""
        return _same(token, self._derive(f"worker:{worker_id}"))

    def join_token(self, endpoint_id: int) -> Secret:
        """The token by which a worker that a fleet did not start joins the endpoint."""
        return Secret(self._derive(f"join:{endpoint_id}"))

    def is_join(self, endpoint_id: int, token: str) -> bool:
        """Whether ``token`` is the endpoint's join token."""
        return _same(token, self._derive(f"join:{endpoint_id}"))

    def request_mark(self, place: int) -> int:
        """64 bits, for a part of a request's number that others cannot compute."""
        return int.from_bytes(hmac.digest(self._secret, b"request:%d" % place, "sha256")[:8], "big")

    def _endpoint_key(self, endpoint_id: int) -> str:
        return self._derive(f"endpoint:{endpoint_id}")

    def _derive(self, purpose: str) -> str:
        return hmac.digest(self._secret, purpose.encode(), "sha256").hex()


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="surrogatepass"), expected.encode())


def _new_random_key() -> bytes:
    return (secrets.token_hex(32) + "\n").encode()


def _new_account_key(vast_api_key: str) -> bytes:
    if not vast_api_key:
        return _new_random_key()
    return (_account_key(vast_api_key.encode(), "The environment variable VAST_API_KEY") + "\n").encode()


def _account_key(content: bytes, source: str) -> str:
    key = content.decode(errors="replace").strip()
    if (
        len(key) < ACCOUNT_KEY_CHARACTERS_MIN
        or len(key) > 1_000
        or not key.isascii()
        or not key.isprintable()
        or " " in key
    ):
        raise StateError(
            f"{source} holds no usable key; a key has at least {ACCOUNT_KEY_CHARACTERS_MIN} printable characters and "
            f"no spaces."
        )
    return key
