"""Keys with a name, a role and an end: several at a time, each of which can be revoked; stored as digests alone.

They are in one file of the state directory, with what became of endpoints' keys that were rotated. A key is 256 random
bits and shown once, when it is made. Its digest (SHA-256) is what is kept, and what it is found by.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

from nullworker.engine.state_dir import StateError, read_key_file, replace_key_file
from nullworker.wire.errors import NotFoundError, TooManyError, UnwritableError
from nullworker.wire.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY_RING_FILE = "keys.json"
#: What every such key begins with: it is recognised in texts that people paste.
PREFIX = "nwk-"
KEYS_MAX = 1_000
#: A key that ended is listed for so long.
SHOWN_AFTER_END_S = 30 * 86_400.0


class Role(str, Enum):
    """What a key may do."""

    ROUTE = "route"  # ask for workers of its endpoints
    READ = "read"  # see everything but keys and tokens
    OPERATE = "operate"  # both, drain, withdraw, replace workers, change endpoints
    ADMIN = "admin"  # everything, as the account key

    def covers(self, needed: Role) -> bool:
        """Whether a key of this role is enough where ``needed`` is asked for."""
        return needed in _COVERS[self]


_COVERS = {
    Role.ROUTE: frozenset({Role.ROUTE}),
    Role.READ: frozenset({Role.READ}),
    Role.OPERATE: frozenset({Role.ROUTE, Role.READ, Role.OPERATE}),
    Role.ADMIN: frozenset(Role),
}


class NamedKey(msgspec.Struct, frozen=True):
    """One key, without the key itself."""

    id: int
    name: str
    role: Role
    digest: str
    created_at_s: float  # Unix time, as are the following
    expires_at_s: float = 0.0  # 0: never
    endpoints: tuple[int, ...] = ()  # that it routes to; empty: all

    def is_valid(self, now_s: float) -> bool:
        """Whether it has not ended."""
        return not self.expires_at_s or now_s < self.expires_at_s


class RotatedEndpoint(msgspec.Struct, frozen=True):
    """How often an endpoint's key was rotated, and until when the one before is good as well."""

    count: int
    before_until_s: float


class _Content(msgspec.Struct):
    """The file."""

    next_id: int = 1
    keys: dict[int, NamedKey] = {}
    endpoints: dict[int, RotatedEndpoint] = {}


class KeyRing:
    """All named keys of an engine."""

    def __init__(self, path: Path | None, wall_s: Callable[[], float]) -> None:
        """Reads the keys, if there are any.

        Args:
            path: the file that they are kept in; None: they are not kept.
            wall_s: Unix time.

        Raises:
            StateError: the file cannot be used. Without it, what was revoked could not be told.
        """
        self._path = path
        self._wall_s = wall_s
        self._content = _read(path)
        self._index()
        #: When each was used last since the start, by its id.
        self.used_at_s: dict[int, float] = {}
        #: How often endpoints' keys were rotated since the start.
        self.rotations = 0

    def _index(self) -> None:
        self._by_digest = {key.digest: key for key in self._content.keys.values()}

    # --------------------------------------------------------------------------------------------------------- lookups

    def find(self, key: str) -> NamedKey | None:
        """Which key this is, if it is good now. Found by its digest: the time shows nothing of the key."""
        found = self._by_digest.get(_digest(key))
        if found is None or not found.is_valid(self._wall_s()):
            return None
        self.used_at_s[found.id] = self._wall_s()
        return found

    def get(self, key_id: int) -> NamedKey | None:
        """The key with that id, if it is good now."""
        found = self._content.keys.get(key_id)
        return found if found is not None and found.is_valid(self._wall_s()) else None

    def rows(self) -> list[NamedKey]:
        """All keys, the oldest first; also those that ended not long ago."""
        return list(self._content.keys.values())

    def endpoint_rotations(self, endpoint_id: int) -> tuple[int, ...]:
        """With which counts of rotations an endpoint's key is good now, the latest first."""
        rotated = self._content.endpoints.get(endpoint_id)
        if rotated is None:
            return (0,)
        if self._wall_s() < rotated.before_until_s:
            return rotated.count, rotated.count - 1
        return (rotated.count,)

    # --------------------------------------------------------------------------------------------------------- changes

    def create(
        self, name: str, role: Role, endpoints: tuple[int, ...] = (), expires_in_s: float = 0.0
    ) -> tuple[NamedKey, Secret]:
        """Makes a key.

        Args:
            name: what it is called, for people.
            role: what it may do.
            endpoints: which endpoints it routes to; empty: all.
            expires_in_s: when it ends; 0: never.

        Returns:
            What is kept of it, and the key itself.

        Raises:
            TooManyError: there are too many.
            UnwritableError: the disk refuses; nothing was changed.
        """
        secret = Secret(PREFIX + secrets.token_hex(32))
        return self._add(secret.reveal(), name, role, endpoints, expires_in_s), secret

    def keep_for(self, name: str, role: Role, key: str, lasts_s: float) -> NamedKey:
        """Has a key of another origin go on being good for a while: the account key that was rotated.

        Args:
            name: what it is called from now on.
            role: what it may do.
            key: the key.
            lasts_s: for how long.

        Raises:
            TooManyError, UnwritableError: as `create`.
        """
        return self._add(key, name, role, (), lasts_s)

    def revoke(self, key_id: int) -> NamedKey:
        """Ends a key at once.

        Raises:
            NotFoundError: there is none with that id.
            UnwritableError: the disk refuses; nothing was changed.
        """
        ended = self._ended(key_id, 0.0)
        self._write(msgspec.structs.replace(self._content, keys={**self._content.keys, key_id: ended}))
        return ended

    def rotate(self, key_id: int, overlap_s: float) -> tuple[NamedKey, Secret]:
        """Makes a key of the same name, role and endpoints, and ends the old one after a while.

        A key that was to end still ends after as long as it was given at first.

        Args:
            key_id: the old one.
            overlap_s: for how long both are good.

        Raises:
            NotFoundError, TooManyError, UnwritableError: as `create` and `revoke`.
        """
        old = self._ended(key_id, overlap_s)
        given = self._content.keys[key_id]
        lasts_s = given.expires_at_s - given.created_at_s if given.expires_at_s else 0.0
        secret = Secret(PREFIX + secrets.token_hex(32))
        return self._add(secret.reveal(), old.name, old.role, old.endpoints, lasts_s, old), secret

    def _add(
        self,
        key: str,
        name: str,
        role: Role,
        endpoints: tuple[int, ...],
        lasts_s: float,
        replaced: NamedKey | None = None,
    ) -> NamedKey:
        now_s = self._wall_s()
        kept = {
            key_id: each
            for key_id, each in self._content.keys.items()
            if each.is_valid(now_s) or now_s - each.expires_at_s < SHOWN_AFTER_END_S
        }
        if len(kept) >= KEYS_MAX:
            raise TooManyError(f"There are {KEYS_MAX} keys; revoke some.")
        if replaced is not None:
            kept[replaced.id] = replaced
        expires_at_s = now_s + lasts_s if lasts_s else 0.0
        made = NamedKey(self._content.next_id, name, role, _digest(key), now_s, expires_at_s, endpoints)
        self._write(_Content(made.id + 1, {**kept, made.id: made}, self._content.endpoints))
        return made

    def _ended(self, key_id: int, after_s: float) -> NamedKey:
        """A key as it is once it was told to end."""
        key = self.get(key_id)
        if key is None:
            raise NotFoundError(f"There is no key {key_id} that is good; `nullworker keys` lists them.")
        ends_at_s = self._wall_s() + after_s
        return msgspec.structs.replace(
            key, expires_at_s=min(ends_at_s, key.expires_at_s) if key.expires_at_s else ends_at_s
        )

    def rotate_endpoint(self, endpoint_id: int, overlap_s: float) -> None:
        """Has an endpoint's own key be another, and the one before end after a while.

        Args:
            endpoint_id: the endpoint.
            overlap_s: for how long both are good.

        Raises:
            UnwritableError: the disk refuses; nothing was changed.
        """
        before = self._content.endpoints.get(endpoint_id)
        rotated = RotatedEndpoint((before.count if before else 0) + 1, self._wall_s() + overlap_s)
        endpoints = {**self._content.endpoints, endpoint_id: rotated}
        self._write(msgspec.structs.replace(self._content, endpoints=endpoints))
        self.rotations += 1

    def _write(self, content: _Content) -> None:
        """Takes a changed content over, once it is on the disk."""
        if self._path is not None:
            try:
                replace_key_file(self._path, msgspec.json.encode(content))
            except OSError as error:
                raise UnwritableError(
                    f"The keys cannot be written ({os.strerror(error.errno or 0).lower()}): nothing was changed."
                ) from None
        self._content = content
        self._index()


def _read(path: Path | None) -> _Content:
    if path is None:
        return _Content()
    try:
        return msgspec.json.decode(read_key_file(path), type=_Content)
    except FileNotFoundError:
        return _Content()
    except msgspec.DecodeError as error:
        raise StateError(
            f"The key file {path} is damaged ({error}); bring it back from a copy, or delete it: its keys end."
        ) from None


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
