"""Whether a call bears a key whose role is enough, or the cookie of a page that was signed in with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from nullworker.engine.auth.keys import Holder, Role
from nullworker.wire.errors import ForbiddenError, UnauthorizedError

if TYPE_CHECKING:
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.auth.sign_in import SignIn

#: Under these a request has whose key it was let pass with, and whether that was by a cookie.
HOLDER = web.RequestKey("holder", Holder)
BY_COOKIE = web.RequestKey("by_cookie", bool)

_MAY = {
    Role.ROUTE: "asks for workers of its endpoints",
    Role.READ: "sees, and changes nothing",
    Role.OPERATE: "operates, and neither makes nor deletes endpoints, workergroups and keys",
}


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

    def check(self, request: web.BaseRequest, in_body: str | None, needs: Role = Role.ADMIN) -> Holder:
        """Lets a key pass whose role is enough, from the header, the query, the body, or as the page's cookie.

        Args:
            request: the request.
            in_body: the key in its body, if any.
            needs: the role that is asked for.

        Returns:
            Whose key it is.

        Raises:
            UnauthorizedError: there is none, or one that is unknown or has ended.
            ForbiddenError: its role is another, or a page of another site asks.
        """
        holder = self.holder(request, in_body)
        if not holder.may(needs):
            raise ForbiddenError(f"The {holder.name} {_MAY[holder.role]}; this takes a key for more.")
        return holder

    def check_reader(self, request: web.BaseRequest, in_body: str | None = None) -> Holder:
        """As `check`, for what changes nothing."""
        return self.check(request, in_body, Role.READ)

    def holder(self, request: web.BaseRequest, in_body: str | None = None) -> Holder:
        """Whose key a request has, whatever its role.

        Raises:
            UnauthorizedError: there is no key, or one that is unknown or has ended.
            ForbiddenError: a page of another site asks.
        """
        key = bearer(request) or in_body or ""
        holder = self._keys.holder(key) if key else None
        by_cookie = not key
        if by_cookie:
            signed_in = self._sign_in.read(request)
            if signed_in is None:
                raise UnauthorizedError("There is no API key in the request; give --api-key or set VAST_API_KEY.")
            holder = signed_in.holder
        if holder is None:
            raise UnauthorizedError("The API key is none of this engine's, or has ended.")
        request[HOLDER], request[BY_COOKIE] = holder, by_cookie
        return holder


def bearer(request: web.BaseRequest) -> str:
    """The key of a request: its Authorization header's, else its query's (which Vast's client sends)."""
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        return header[7:]
    return request.query.get("api_key", "")
