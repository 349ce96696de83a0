"""Signing in on the page: a cookie that scripts cannot read, signed by the engine, good for a while, and for one key.

The cookie is no key: it has a key's number and a time, and only the engine's secret makes it valid. It ends with its
key. It is for requests of the engine's own page alone: what a page of another site has a browser send is refused.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from nullworker.wire.errors import ForbiddenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from nullworker.engine.auth.keys import Holder, Keys

LASTS_S = 12 * 3600
#: Cookies that were signed out and are not over yet; the oldest are forgotten first.
SIGNED_OUT_MAX = 10_000
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class SignedIn(NamedTuple):
    """What a valid cookie says."""

    holder: Holder  # of the key that the page was signed in with
    until_s: float  # Unix time


class SignIn:
    """Makes and reads cookies."""

    def __init__(self, keys: Keys, wall_s: Callable[[], float], *, is_secure: bool = False) -> None:
        """Takes what it uses.

        Args:
            keys: sign cookies.
            wall_s: Unix time.
            is_secure: whether browsers reach the engine by https alone, and are to send the cookie by that alone.
        """
        self._keys = keys
        self._wall_s = wall_s
        self._is_secure = is_secure
        self._signed_out: dict[str, None] = {}
        #: Not the same as another engine's on this host: browsers send cookies to all ports of a host.
        self.cookie = f"nullworker_{keys.mark}"

    def new(self, holder: Holder) -> str:
        """The value of a new cookie."""
        text = f"{holder.key_id}.{int(self._wall_s()) + LASTS_S}.{secrets.token_hex(8)}"
        return f"{text}.{self._keys.cookie_signature(text)}"

    def set(self, answer: web.Response, value: str) -> None:
        """Has the browser keep a cookie; "" has it forget the one that it has."""
        answer.set_cookie(
            self.cookie,
            value,
            max_age=LASTS_S if value else 0,
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="Strict",
        )

    def read(self, request: web.BaseRequest) -> SignedIn | None:
        """What the request's cookie says; None: it has none that is valid.

        Raises:
            ForbiddenError: a page of another site had the browser send it.
        """
        value = request.cookies.get(self.cookie, "")
        text, _, signature = value.rpartition(".")
        parts = text.split(".")
        if len(parts) != 3 or not self._keys.is_cookie_signature(text, signature) or value in self._signed_out:
            return None
        holder, until = self._keys.holder_of(int(parts[0])), int(parts[1])
        if until <= self._wall_s() or holder is None:
            return None
        check_site(request)
        return SignedIn(holder, until)

    def end(self, request: web.BaseRequest) -> None:
        """The request's cookie is valid no more."""
        value = request.cookies.get(self.cookie, "")
        if value:
            self._signed_out[value] = None
            if len(self._signed_out) > SIGNED_OUT_MAX:
                del self._signed_out[next(iter(self._signed_out))]


def check_site(request: web.BaseRequest) -> None:
    """Refuses what a page of another site has a browser send.

    Raises:
        ForbiddenError: it comes of another site, or a change does not say of which.
    """
    site = request.headers.get("Sec-Fetch-Site", "")
    origin = request.headers.get("Origin", "")
    if site in ("cross-site", "same-site") or (origin and urlsplit(origin).netloc != request.headers.get("Host", "")):
        raise ForbiddenError("A page of another site asked for this; only the engine's own page may.")
    if request.method not in _SAFE_METHODS and not origin and site != "same-origin":
        raise ForbiddenError(
            "The request does not say which site it comes from (Origin), and a cookie alone is not enough."
        )
