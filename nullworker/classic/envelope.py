"""The message that ``vastai``'s client sends to a worker, and what a handler gets of it.

The client POSTs ``{auth_data, session_id, payload}`` to every endpoint. ``auth_data`` is the engine's answer to the
client's question for a worker; the handler sees ``payload`` alone, as if it had been sent by itself.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

COST_MAX = 1e9  # the engine's own bound
#: Of a longer message the sender is checked before all of it is parsed.
LONG_BYTES = 64 << 10
IDX_MAX = 2**53 - 1  # beyond it a number is not the same in every language


class EnvelopeError(Exception):
    """The message is wrong; ``status`` is the HTTP answer's, the text names the field."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Envelope:
    """A client's message. ``signature`` and ``url`` are "" where it has none (which only an unsecured worker takes)."""

    request_idx: int
    cost: float
    url: str
    signature: str
    payload: Any
    auth_data: Mapping[str, Any]


_AUTH_DATA = re.compile(r'"auth_data"\s*:\s*')


def auth_data_of(body: bytes) -> Mapping[str, Any] | None:
    """``auth_data`` of a long message, from its first or last `LONG_BYTES`; the rest is not looked at.

    Returns None where it is in neither.
    """
    for part in (body[:LONG_BYTES], body[-LONG_BYTES:]):
        text = part.decode(errors="replace")
        for found in _AUTH_DATA.finditer(text):
            try:
                value, _ = json.JSONDecoder().raw_decode(text, found.end())
            except (ValueError, RecursionError):
                break  # it is cut off, or none: a further one costs as much
            if isinstance(value, dict):
                return value
    return None


def read(body: bytes) -> Envelope | None:
    """The envelope in ``body``, or None when that is something else (a direct request's own JSON, or no JSON at all).

    Raises `EnvelopeError` for an envelope whose fields are wrong.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or "auth_data" not in message:
        return None
    auth_data = message["auth_data"]
    if not isinstance(auth_data, dict):
        raise EnvelopeError(400, "auth_data is no object: send the engine's answer to /route/ as it is")
    if "payload" not in message:
        raise EnvelopeError(400, "payload is missing beside auth_data")
    if message.get("session_id") is not None:
        raise EnvelopeError(410, "there is no such session: a classic backend offers none")
    return Envelope(
        request_idx=_whole(auth_data.get("request_idx", 0)),
        cost=_cost(auth_data.get("cost", 0.0)),
        url=_text(auth_data, "url"),
        signature=_text(auth_data, "signature"),
        payload=message["payload"],
        auth_data=auth_data,
    )


def method_for(name: str, handlers: Mapping[str, Iterable[str]]) -> str:
    """With which method a client's POST to the endpoint ``name`` is answered.

    The client can only POST: where an endpoint has no POST handler, the one it has is meant. POST, too, where there is
    none at all (and nothing is found).
    """
    for method in ("POST", "GET", "PUT", "PATCH", "DELETE"):
        if name in handlers.get(method, ()):
            return method
    return "POST"


def as_query(payload: Any) -> str:
    """``payload`` as the query string of a GET. Raises `EnvelopeError` for what a query can not say."""
    if payload is None:
        return ""
    if not isinstance(payload, dict):
        raise EnvelopeError(400, "payload must be an object: this endpoint has a GET handler, and it becomes the query")
    pairs = []
    for key, value in payload.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, (dict, list)):
                raise EnvelopeError(
                    400, f"payload.{key} is nested: this endpoint has a GET handler, and a query has no room for that"
                )
            if item is not None:
                pairs.append((key, json.dumps(item) if isinstance(item, bool) else str(item)))
    return urlencode(pairs)


def without_key(query: str) -> str:
    """``query`` without the endpoint's API key, which the client puts into every URL and no handler has a use for."""
    if "api_key" not in query:
        return query
    return urlencode([(k, v) for k, v in parse_qsl(query, keep_blank_values=True) if k != "api_key"])


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= IDX_MAX:
        raise EnvelopeError(400, "auth_data.request_idx must be a whole number, at least 0")
    return value


def _cost(value: object) -> float:
    try:
        cost = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        cost = math.nan
    if not 0 <= cost <= COST_MAX:
        raise EnvelopeError(400, f"auth_data.cost must be a number from 0 to {COST_MAX:g}")
    return cost


def _text(auth_data: Mapping[str, Any], name: str) -> str:
    value = auth_data.get(name, "")
    if not isinstance(value, str):
        raise EnvelopeError(400, f"auth_data.{name} must be a text")
    return value
