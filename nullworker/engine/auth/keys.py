"""Keys: the account's, those with a name and a role, one for each endpoint, a token for each worker, join tokens.

Three files exist: ``api_key``, where a client on the same machine finds the account key; ``keys.json`` with the digests
of the named ones (`nullworker.engine.auth.key_ring`); and ``secret``, from which everything else is derived
(HMAC-SHA256), so that nothing else is stored and all of it survives a restart. Every comparison takes the same time for
every guess.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import time
from typing import TYPE_CHECKING, NamedTuple

from nullworker.engine.auth.key_ring import KEY_RING_FILE, KeyRing, NamedKey, Role
from nullworker.engine.state_dir import StateError, read_or_create, replace_key_file
from nullworker.wire.errors import UnwritableError
from nullworker.wire.redaction import hide
from nullworker.wire.secret import Secret

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ACCOUNT", "Holder", "Keys", "Role", "Secret"]

ACCOUNT_KEY_FILE = "api_key"
SECRET_FILE = "secret"  # noqa: S105 - the name of a file
#: 128 bits take so many letters and digits. What has few different ones was typed and not drawn.
ACCOUNT_KEY_CHARACTERS_MIN = 22
ACCOUNT_KEY_DIFFERENT_MIN = 8


class Holder(NamedTuple):
    """Whose a key with a role is."""

    name: str
    role: Role
    key_id: int
    endpoints: tuple[int, ...] = ()  # that it routes to; empty: all

    def may(self, needed: Role) -> bool:
        """Whether the role is enough where ``needed`` is asked for."""
        return self.role.covers(needed)

    def routes_to(self, endpoint_id: int) -> bool:
        """Whether it may ask for workers of an endpoint."""
        return self.may(Role.ROUTE) and (not self.endpoints or endpoint_id in self.endpoints)


ACCOUNT = Holder("account key", Role.ADMIN, 0)


class Keys:
    """An engine's keys. Endpoint and worker ids are never used twice, so neither is a derived key."""

    def __init__(
        self, account_key: str, secret: bytes, ring: KeyRing | None = None, state_dir: Path | None = None
    ) -> None:
        """Takes what `open` read.

        Args:
            account_key: the account key.
            secret: what the derived keys are derived from.
            ring: the named keys; None: there are none, and new ones are not kept.
            state_dir: where the account key is kept; None: nowhere.
        """
        self.ring = ring or KeyRing(None, wall_s)
        self._state_dir = state_dir
        self.account_key = Secret(account_key)
        #: Whether the account key was drawn just now, and should be shown to the user once. Their own they know.
        self.is_new = False
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
        keys = cls(account_key, secret, KeyRing(state_dir / KEY_RING_FILE, wall_s), state_dir)
        keys.is_new = is_new and not vast_api_key
        return keys

    def is_account(self, key: str) -> bool:
        """Whether ``key`` is the account key."""
        return hmac.compare_digest(_digest(key), self._account_digest)

    def holder(self, key: str) -> Holder | None:
        """Whose key this is, of those that have a role; None: it is none of them, or has ended."""
        if self.is_account(key):
            return ACCOUNT
        found = self.ring.find(key)
        return None if found is None else _holder(found)

    def holder_of(self, key_id: int) -> Holder | None:
        """As `holder`, by the key's id; 0 is the account key's."""
        if key_id == ACCOUNT.key_id:
            return ACCOUNT
        found = self.ring.get(key_id)
        return None if found is None else _holder(found)

    def rotate_account(self, overlap_s: float) -> None:
        """Has the account key be another. The one before is good for a while, and is listed as a named key.

        Args:
            overlap_s: for how long.

        Raises:
            UnwritableError: the disk refuses; the account key is the old one.
        """
        key = _new_random_key()
        if overlap_s:
            self.ring.keep_for("the account key before", Role.ADMIN, self.account_key.reveal(), overlap_s)
        if self._state_dir is not None:
            try:
                replace_key_file(self._state_dir / ACCOUNT_KEY_FILE, key)
            except OSError as error:
                why = os.strerror(error.errno or 0).lower()
                raise UnwritableError(f"The account key cannot be written ({why}): it is the same as before.") from None
        self.account_key = Secret(key.decode().strip())
        self._account_digest = _digest(self.account_key.reveal())

    def cookie_signature(self, text: str) -> str:
        """What makes a cookie with this text valid, as long as the account key is the same."""
        return self._derive(f"cookie:{self._account_digest.hex()}:{text}")

    def is_cookie_signature(self, text: str, signature: str) -> bool:
        """Whether it is the signature of this text."""
        return _same(signature, self.cookie_signature(text))

    def is_operators(self, key: str) -> bool:
        """Whether ``key`` is one of those that the routes for operators take."""
        holder = self.holder(key)
        return holder is not None and holder.role is not Role.ROUTE

    def endpoint_key(self, endpoint_id: int) -> Secret:
        """The key that routes to one endpoint, and does nothing else."""
        return self.endpoint_keys(endpoint_id)[0]

    def endpoint_keys(self, endpoint_id: int) -> list[Secret]:
        """As `endpoint_key`, and after it the one before, as long as both are good."""
        return [
            Secret(self._derive(f"endpoint:{endpoint_id}:{count}" if count else f"endpoint:{endpoint_id}"))
            for count in self.ring.endpoint_rotations(endpoint_id)
        ]

    def is_endpoint(self, endpoint_id: int, key: str) -> bool:
        """Whether ``key`` is the endpoint's own, or was until not long ago."""
        good = [_same(key, each.reveal()) for each in self.endpoint_keys(endpoint_id)]
        return any(good)

    def worker_token(self, worker_id: int) -> Secret:
        """The token by which one worker reports about itself."""
        return Secret(self._derive(f"worker:{worker_id}"))

    def is_worker(self, worker_id: int, token: str) -> bool:
        """Whether ``token`` is the worker's own."""
        return _same(token, self._derive(f"worker:{worker_id}"))

    def join_token(self, endpoint_id: int, worker_id: int) -> Secret:
        """The token by which one worker that a fleet did not start joins one endpoint, and reports from then on."""
        return Secret(self._join_token(endpoint_id, worker_id))

    def joins(self, worker_id: int, token: str) -> int | None:
        """The id of the endpoint that the worker joins by ``token``; None: it is none of that worker's."""
        number = token.partition("-")[0].removeprefix("j")
        if not (number.isascii() and number.isdigit() and len(number) <= 16):
            return None
        return int(number) if _same(token, self._join_token(int(number), worker_id)) else None

    def _join_token(self, endpoint_id: int, worker_id: int) -> str:
        return f"j{endpoint_id}-{self._derive(f'join:{endpoint_id}:{worker_id}')}"

    def request_mark(self, place: int) -> int:
        """64 bits, for a part of a request's number that others cannot compute."""
        return int.from_bytes(hmac.digest(self._secret, b"request:%d" % place, "sha256")[:8], "big")

    def _derive(self, purpose: str) -> str:
        return hmac.digest(self._secret, purpose.encode(), "sha256").hex()


def wall_s() -> float:
    """Unix time, by which keys end."""
    return time.time()  # noqa: TID251 - people say when a key ends


def _holder(key: NamedKey) -> Holder:
    return Holder(f'key "{key.name}"', key.role, key.id, key.endpoints)


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
        or len(set(key)) < ACCOUNT_KEY_DIFFERENT_MIN
        or len(key) > 1_000
        or not key.isascii()
        or not key.isprintable()
        or " " in key
    ):
        raise StateError(
            f"{source} holds no usable key; a key has at least {ACCOUNT_KEY_CHARACTERS_MIN} printable characters, "
            "drawn at random, and no spaces (such as: openssl rand -hex 32)."
        )
    return key
