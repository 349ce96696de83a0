"""Masks secrets in a text: of fields with known names, of the environment, and what looks like a secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from nullworker.wire.printable import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MASK = "***"
#: Fields of the wire, also in query strings and headers.
_FIELDS = re.compile(
    r"""(?ix) \b(api_key|mtoken|master_token|signature|grant|session_auth|authorization|sig)
    (["']? \s* (?:=|:) \s* ["']? (?:bearer\s+)?) [^\s"'&,}]+"""
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
_LOOKS_SECRET = re.compile(
    r"(?i:(?<=bearer )|(?<=basic ))\S+"
    r"|(?<=[?&])[\w.-]*(?i:key|token|secret|sig|passw)[\w.-]*=[^\s&]+"
    r"|\beyJ[\w-]{8,}\.[\w-]{4,}\.[\w-]*"  # a JWT
    r"|\bAKIA[0-9A-Z]{12,}|\b[0-9a-fA-F]{40,}\b|\b[A-Za-z0-9+/_-]{80,}={0,2}"
)


def mask_fields(text: str) -> str:
    """``text`` without the values of the wire's secret fields."""
    return _FIELDS.sub(rf"\1\2{MASK}", text)


def mask_environment(text: str, env: Mapping[str, str]) -> str:
    """``text`` without the secrets that are in the variables ``env``."""
    # The longest first: one may be a part of another.
    for secret in sorted(_secrets(env), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def mask_likely(text: str) -> str:
    """``text`` without what looks like a secret: passwords in URLs, tokens, keys, signatures."""
    return _LOOKS_SECRET.sub(MASK, _IN_URL.sub(f"{MASK}@", text))


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
