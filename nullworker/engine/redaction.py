"""Nothing secret in a log: what is masked, and how it is recognised.

Three rules, one after another: values of the type `Secret`; values of fields with known names, also inside text
(JSON, ``key=value``, headers, query strings); text that looks like one of our keys (64 hex digits, a JWT, a signature).
A key of the user's own making that looks like none of these is named with `hide`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nullworker.engine.secret import MASK, Secret
from nullworker.wire.printable import printable
from nullworker.wire.redaction import mask_likely
from nullworker.wire.types import SECRET_FIELDS

#: Names of fields, headers and variables whose values are secret, in small letters.
SECRET_NAMES = SECRET_FIELDS | {"authorization", "master_token", "vast_api_key", "password", "token", "secret"}
_DEPTH_MAX = 8
TEXT_CHARACTERS_MAX = 20_000
#: Looked at beyond the cut, so that no secret is cut in half and passes for none.
_MARGIN_CHARACTERS = 2_000

_NAMES = "|".join(sorted(SECRET_NAMES, key=len, reverse=True))
_QUOTED = r""" "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | \\+".*?\\+" | \\+'.*?\\+' """
_X = re.VERBOSE | re.IGNORECASE
_PATTERNS = (
    # "api_key": "…", also within a quoted text, where the quotes bear backslashes
    re.compile(rf"""( ["'] (?:{_NAMES}) \\* ["'] \s* : \s* ) (?: {_QUOTED} | [^\s,}}\]]+ )""", _X),
    # api_key=…
    re.compile(rf"""( \b (?:\w+_)? (?:{_NAMES}) \s? = \s? ) (?: {_QUOTED} | [^\s&,;)}}\]]+ )""", _X),
    # Authorization: Bearer …
    re.compile(r"""( \b authorization \W{0,4} : \s* ) (?: (?:bearer|basic) \s+ )? \S+""", _X),
    re.compile(r"""( \b bearer \s+ ) [^\s"',]+""", _X),
    # the query of a URL or path, as a whole
    re.compile(r"""( (?<=[/\w]) \? ) [\w.%~+-]+ = [^\s"'<>]*""", _X),
)
_LOOKS_SECRET = re.compile(
    r"""
    \b [0-9a-fA-F]{64} \b                                       # a key or token of ours
    | \b eyJ [\w-]{8,400} \. [\w-]{4,4000} \. [\w-]*                         # a JWT
    | [A-Za-z0-9+/]{100,} ={0,2}                                # a signature in base64
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY----- .*? (?: -----END\ [A-Z ]*PRIVATE\ KEY----- | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)

_hidden: set[str] = set()


def hide(secret: Secret) -> None:
    """Masks ``secret`` in every log line from now on, also where it looks like no key."""
    text = secret.reveal()
    if len(text) >= 8:  # a shorter one would mask ordinary words
        _hidden.add(text)


def redact(text: str) -> str:
    """``text`` with everything secret in it masked, and cut where it is very long."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return _redact(text[: TEXT_CHARACTERS_MAX + _MARGIN_CHARACTERS])[:TEXT_CHARACTERS_MAX] + "…"
    return _redact(text)


def from_others(text: str) -> str:
    """What a worker, a consumer or a provider says, fit to be kept and shown: masked, printable and on one line.

    Text of others is masked more widely than the engine's own: also what merely looks like a key of some other product.
    """
    return printable(mask_likely(redact(text)))


def _redact(text: str) -> str:
    """As `redact`, without the limit on the length."""
    for secret in _hidden:
        text = text.replace(secret, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{MASK}", text)
    return _LOOKS_SECRET.sub(MASK, text)


def redacted(value: object, name: str = "", depth: int = 0) -> object:
    """``value``, which the field ``name`` has, as plain data fit for JSON, with everything secret in it masked.

    Args:
        value: anything.
        name: the field that has it; some names are secret.
        depth: how deep it lies in another value.
    """
    if value is None or value == "":
        return value
    if isinstance(value, Secret) or name.lower() in SECRET_NAMES:
        return MASK
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return redact(value)
    if depth >= _DEPTH_MAX:
        return "…"
    if isinstance(value, Mapping):
        return {redact(str(key)): redacted(item, str(key), depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [redacted(item, "", depth + 1) for item in value]
    return redact(str(value))
