"""What operators ask about keys with a name, and what they are answered."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, field

from nullworker.wire.types import Id, Key, Message, Name

#: Not a number, which keys have as well.
KeyName = Annotated[
    str, Meta(min_length=1, max_length=100, pattern=r"^(?![0-9]+$)[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$")
]
LASTS_MAX_S = 10 * 366 * 86_400.0


class KeyBody(Message, frozen=True):
    """Makes a key. ``endpoints``, by name, are those that a key of role ``route`` is for; none: all."""

    name: KeyName
    role: Literal["route", "read", "operate", "admin"]
    endpoints: Annotated[list[Name], Meta(max_length=100)] = field(default_factory=list)
    expires_in_s: Annotated[float, Meta(ge=0, le=LASTS_MAX_S)] = 0.0  # 0: it does not end
    api_key: Key | None = None


class KeyMade(Message, frozen=True):
    """A key that was made, and how it is listed: the one time that it is shown."""

    id: int
    api_key: str
    success: bool = True


class KeyRevoked(Message, frozen=True):
    """Ends a key at once."""

    id: Id
    api_key: Key | None = None


class KeyRotation(Message, frozen=True):
    """Has another key take a key's place; both are good for ``overlap_s``. One of the three says which key."""

    id: Id | None = None
    endpoint: Name | None = None
    account: bool = False
    overlap_s: Annotated[float, Meta(ge=0, le=LASTS_MAX_S)] = 3_600.0
    api_key: Key | None = None


class KeyRow(Message, frozen=True):
    """A key as it is listed. Times are Unix times; 0: never, or not since the engine started."""

    id: int
    name: str
    role: str
    endpoints: list[str]
    created_at_s: float
    expires_at_s: float
    used_at_s: float
    is_good: bool


class KeyList(Message, frozen=True):
    """All keys with a name."""

    keys: list[KeyRow]
    success: bool = True
