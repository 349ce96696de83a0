"""Whether a call bears the account key, the read-only key, or the cookie of a page that was signed in with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from nullworker.engine.auth.sign_in import ACCOUNT, READ_ONLY
from nullworker.wire.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.auth.sign_in import SignIn

#: Under these a request has the role that it was let pass in, and whether that was by a cookie.
ROLE = web.RequestKey("role", str)
BY_COOKIE = web.RequestKey("by_cookie", bool)


class AccountAuth:
    """Checks the keys of calls that are the operator's."""

    def __init__(self, keys: Keys, sign_in: SignIn) -> None:
        """Takes what it uses.

        Args:
            keys: checks keys.
            sign_in: reads cookies.
        """
        self._keys = keys
        self._sign_in = sign_in

    def check(self, request: web.BaseRequest, in_body: str | None) -> None:
        """Lets the account key pass, from the header, the query, the body, or as the page's cookie.

        Raises:
            UnauthorizedError: there is none, or another.
            ForbiddenError: it is the read-only key, or a page of another site asks.
        """
        if self._role(request, in_body) != ACCOUNT:
            raise ForbiddenError("The read-only key sees, and changes nothing; use the account key for this.")

    def check_reader(self, request: web.BaseRequest, in_body: str | None = None) -> str:
        """As `check`, and lets the read-only key pass as well; returns the role.

        Raises:
            UnauthorizedError: there is no key, or another.
            ForbiddenError: a page of another site asks.
        """
        return self._role(request, in_body)

    def _role(self, request: web.BaseRequest, in_body: str | None) -> str:
        key = bearer(request) or in_body or ""
        signed_in = None if key else self._sign_in.read(request)
        if signed_in is not None:
            role = signed_in.role
        elif not key:
            raise UnauthorizedError("There is no API key in the request; give --api-key or set VAST_API_KEY.")
        elif self._keys.is_account(key):
            role = ACCOUNT
        elif self._keys.is_read_only(key):
            role = READ_ONLY
        else:
            raise UnauthorizedError("The API key is not this engine's account key.")
        request[ROLE], request[BY_COOKIE] = role, signed_in is not None
        return role


def bearer(request: web.BaseRequest) -> str:
    """The key of a request: its Authorization header's, else its query's (which Vast's client sends)."""
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        return header[7:]
    return request.query.get("api_key", "")
