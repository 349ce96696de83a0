"""Whether a call bears the account key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.wire.errors import UnauthorizedError

if TYPE_CHECKING:
    from aiohttp import web

    from nullworker.engine.auth.keys import Keys


class AccountAuth:
    """Checks the account key of calls."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def check(self, request: web.BaseRequest, in_body: str | None) -> None:
        """Lets the account key pass, from the header, the query or the body.

        Raises:
            UnauthorizedError: there is none, or another.
        """
        key = bearer(request) or in_body or ""
        if not key:
            raise UnauthorizedError("There is no API key in the request; give --api-key or set VAST_API_KEY.")
        if not self._keys.is_account(key):
            raise UnauthorizedError("The API key is not this engine's account key.")


def bearer(request: web.BaseRequest) -> str:
    """The key of a request: its Authorization header's, else its query's (which Vast's client sends)."""
    header = request.headers.get("Authorization", "")
    if header.startswith("Bearer "):
        return header[7:]
    return request.query.get("api_key", "")
