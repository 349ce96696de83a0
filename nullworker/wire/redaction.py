"""The one redactor: nothing secret in a log, an audit, a story, an error or an answer, of whatever process.

What is masked, one rule after another: values of the type `Secret`; values of fields with known names, also inside text
(JSON, ``key=value``, headers, query strings); text that looks like one of our keys (64 hex digits, a JWT, a signature).
A key of the user's own making that looks like none of these is named with `hide`. Text of others (a worker, a consumer,
a provider) is masked more widely, by `from_others`: also what merely looks like a key of some other product.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nullworker.wire.printable import one_line, printable
from nullworker.wire.secret import MASK, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Fields of the wire that hold secrets.
SECRET_FIELDS = frozenset({"api_key", "master_token", "mtoken", "signature", "grant", "docker_login_pass"})
#: Names of fields, headers and variables whose values are secret, in small letters.
SECRET_NAMES = SECRET_FIELDS | {"authorization", "password", "secret", "session_auth", "sig", "token", "vast_api_key"}
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
    # sig:…, as Vast's framework logs it; "grant: " and "signature: " are beginnings of sentences
    re.compile(r"""( \b (?:master_token|mtoken|session_auth|sig) \s? : \s* | \b api_key : ) [^\s"'&,}]+""", _X),
    # Authorization: Bearer …
    re.compile(r"""( \b authorization \W{0,4} : \s* ) (?: (?:bearer|basic) \s+ )? \S+""", _X),
    re.compile(r"""( \b bearer \s+ ) [^\s"',]+""", _X),
    # the query of a URL or path, as a whole
    re.compile(r"""( (?<=[/\w]) \? ) [\w.%~+-]+ = [^\s"'<>]*""", _X),
)
_LOOKS_OURS = re.compile(
    r"""
    \b [0-9a-fA-F]{64} \b                                       # a key or token of ours
    | \b eyJ [\w-]{8,400} \. [\w-]{4,4000} \. [\w-]*                         # a JWT
    | [A-Za-z0-9+/]{100,} ={0,2}                                # a signature in base64
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY----- .*? (?: -----END\ [A-Z ]*PRIVATE\ KEY----- | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
#: Parts of the names of environment variables that hold secrets.
_SECRET_NAME = re.compile(
    r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH|COOKIE|SIGNATURE|DSN|CONNECTION_STRING", re.IGNORECASE
)
#: Names of variables that hold a place, which a text may be about.
_PLACE_NAME = re.compile(r"(SOCK|FILE|PATH|DIR|ASKPASS|XAUTHORITY|^PWD|^OLDPWD)$", re.IGNORECASE)
#: Shorter values are words that occur anywhere: masking them would hide nothing and spoil the text.
_SECRET_CHARACTERS_MIN = 5
_IN_URL = re.compile(r"(?<=://)[^\s/@]*:[^\s/]*@")  # user:password@, also with an @ in the password
_LOOKS_LIKE_A_SECRET = re.compile(
    r"(?i:(?<=bearer )|(?<=basic ))\S+"
    r"|(?<=[?&])[\w.-]*(?i:key|token|secret|sig|passw)[\w.-]*=[^\s&]+"
    r"|\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"  # a JWT
    r"|\bAKIA[0-9A-Z]{12,}|\b[0-9a-fA-F]{40,}\b|\b[A-Za-z0-9+/_-]{80,}={0,2}"
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
    """What a worker, a consumer or a provider says, fit to be kept and shown: masked, printable and on one line."""
    return printable(_LOOKS_LIKE_A_SECRET.sub(MASK, _IN_URL.sub(f"{MASK}@", redact(text))))


def _redact(text: str) -> str:
    """As `redact`, without the limit on the length."""
    for secret in _hidden:
        text = text.replace(secret, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{MASK}", text)
    return _LOOKS_OURS.sub(MASK, text)


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


def mask_environment(text: str, env: Mapping[str, str]) -> str:
    """``text`` without the secrets that are in the variables ``env``."""
    # The longest first: one may be a part of another.
    for secret in sorted(_secrets(env), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _secrets(env: Mapping[str, str]) -> Iterator[str]:
    for name, text in env.items():
        value = one_line(text)  # as the text is
        found = _passwords(value)
        if _SECRET_NAME.search(name) and not _PLACE_NAME.search(name):
            found.append(value)
        yield from (each for each in found if len(each) >= _SECRET_CHARACTERS_MIN)


def _passwords(value: str) -> list[str]:
    """The password in a URL, as it is written there and as it is sent."""
    try:
        password = urlsplit(value).password or ""
    except ValueError:
        return []
    return [password, unquote(password)]
