"""What clients send to the worker, read strictly: from bytes to checked values, or one sentence that names the field.

Unknown fields pass. Everything that is later compared, signed over or counted with has exactly one meaning: no key
twice, no NaN, no half of a surrogate pair, no bottomless nesting.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

BODY_BYTES_MAX = 64 * 1024
_DEPTH_MAX = 32
_INTEGER_MAX = 2**53 - 1  # beyond it, a JSON number is no longer exact in every language
_STANDARD_LIFETIME_S = 60.0  # the framework's, if none is given
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class BadMessageError(Exception):
    """A body that is refused with 400; the message is one sentence that names the field."""


@dataclass(frozen=True, slots=True)
class Auth:
    """The engine's answer to /route/, as a client passes it on. ``data`` is all of it."""

    data: dict[str, Any]
    url: str
    signature: str
    request_idx: int
    grant: str | None


@dataclass(frozen=True, slots=True)
class Create:
    """The body of /session/create."""

    auth: Auth
    lifetime_s: float
    on_close_route: str | None


@dataclass(frozen=True, slots=True)
class Held:
    """The body of /session/end, /session/get and /session/health."""

    session_id: str
    session_auth: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ping:
    """The body of /ping; ``session_id`` is None for a call outside any session."""

    auth: Auth
    session_id: str | None


def read_object(body: bytes) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        BadMessageError: it is none, or is ambiguous.
    """
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
        depth = _depth(value)
    except BadMessageError:
        raise
    except RecursionError:
        raise BadMessageError("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise BadMessageError("The body is not UTF-8.") from None
    except ValueError:
        raise BadMessageError("The body is not JSON.") from None
    if not isinstance(value, dict):
        raise BadMessageError("The body must be a JSON object.")
    if depth > _DEPTH_MAX:
        raise BadMessageError("The body is nested too deeply.")
    return value


def create(body: dict[str, Any], *, signed: bool) -> Create:
    """Checks the body of /session/create; ``signed`` asks for a signature as well.

    Raises:
        BadMessageError: a field is missing or has the wrong type.
    """
    auth = _auth(body, signed=signed)
    payload = _object(body, "payload", "payload")
    lifetime = payload.get("lifetime", _STANDARD_LIFETIME_S)
    if not _is_number(lifetime) or lifetime <= 0:
        raise BadMessageError("payload.lifetime must be a finite number of seconds over 0.")
    return Create(auth, float(lifetime), _on_close_route(payload.get("on_close_route")))


def held(body: dict[str, Any]) -> Held:
    """Checks the body of the calls that name a session and show its ``auth_data``.

    Raises:
        BadMessageError: a field is missing or has the wrong type.
    """
    session_auth = body.get("session_auth")
    if session_auth is not None and not isinstance(session_auth, dict):
        raise BadMessageError("session_auth must be an object.")
    return Held(_text(body, "session_id", "session_id"), session_auth)


def ping(body: dict[str, Any], *, signed: bool) -> Ping:
    """Checks the body of /ping.

    Raises:
        BadMessageError: a field is missing or has the wrong type.
    """
    session_id = body.get("session_id")
    if session_id is not None and not isinstance(session_id, str):
        raise BadMessageError("session_id must be text or null.")
    _object(body, "payload", "payload")
    return Ping(_auth(body, signed=signed), session_id)


def _auth(body: dict[str, Any], *, signed: bool) -> Auth:
    data = _object(body, "auth_data", "auth_data")
    url = _text(data, "url", "auth_data.url")
    signature = _text(data, "signature", "auth_data.signature") if signed or "signature" in data else ""
    cost = _present(data, "cost", "auth_data.cost")
    if not _is_number(cost) or cost < 0:
        raise BadMessageError("auth_data.cost must be a finite number of at least 0.")
    endpoint = _present(data, "endpoint", "auth_data.endpoint")
    if isinstance(endpoint, bool) or not isinstance(endpoint, (str, int)):
        raise BadMessageError("auth_data.endpoint must be text.")
    _integer(data, "reqnum", "auth_data.reqnum")
    grant = data.get("grant")
    if grant is not None and not isinstance(grant, str):
        raise BadMessageError("auth_data.grant must be text.")
    return Auth(data, url, signature, _integer(data, "request_idx", "auth_data.request_idx"), grant)


def _on_close_route(route: object) -> str | None:
    if route is None:
        return None
    if not isinstance(route, str):
        raise BadMessageError("payload.on_close_route must be text or null.")
    wrong = BadMessageError(
        "payload.on_close_route must be an absolute http or https URL without user name and password."
    )
    try:
        parts = urlsplit(route)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or "@" in parts.netloc:
        raise wrong
    if "\\" in route or not route.isprintable() or " " in route:  # what URL readers disagree about
        raise wrong
    return route


def _present(data: dict[str, Any], key: str, name: str) -> Any:
    if key not in data:
        raise BadMessageError(f"{name} is missing.")
    return data[key]


def _object(data: dict[str, Any], key: str, name: str) -> dict[str, Any]:
    value = _present(data, key, name)
    if not isinstance(value, dict):
        raise BadMessageError(f"{name} must be an object.")
    return value


def _text(data: dict[str, Any], key: str, name: str) -> str:
    value = _present(data, key, name)
    if not isinstance(value, str) or not value:
        raise BadMessageError(f"{name} must be text.")
    return value


def _integer(data: dict[str, Any], key: str, name: str) -> int:
    value = _present(data, key, name)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _INTEGER_MAX:
        raise BadMessageError(f"{name} must be a whole number.")
    return value


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadMessageError("The body has the same key twice in one object.")
    return found


def _refuse_constant(name: str) -> Any:
    raise BadMessageError(f"The body has {name}, which is no JSON number.")


def _depth(value: object) -> int:
    """How deep ``value`` is nested.

    Raises:
        BadMessageError: a text in it is not Unicode, or a number not finite (1e999 reads as infinite).
    """
    if isinstance(value, dict):
        return 1 + max((max(_depth(key), _depth(item)) for key, item in value.items()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(item) for item in value), default=0)
    if isinstance(value, str) and _LONE_SURROGATE.search(value):
        raise BadMessageError("The body has half of a surrogate pair, which is no text.")
    if isinstance(value, float) and not math.isfinite(value):
        raise BadMessageError("The body has a number too large.")
    return 0
