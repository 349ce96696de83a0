"""Keys with a name and a role, for operators: they are made, listed, revoked and rotated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.engine.api.http import read, reply
from nullworker.engine.auth.account import BY_COOKIE
from nullworker.engine.auth.keys import ACCOUNT, Role
from nullworker.wire.decoding import decode
from nullworker.wire.errors import ForbiddenError, NotFoundError, WireError
from nullworker.wire.key_types import KeyBody, KeyList, KeyMade, KeyRevoked, KeyRotation, KeyRow
from nullworker.wire.types import Success

if TYPE_CHECKING:
    from aiohttp import web

    from nullworker.engine.auth.account import AccountAuth
    from nullworker.engine.auth.key_ring import NamedKey
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.catalog import Catalog


class KeysApi:
    """The handlers."""

    def __init__(self, keys: Keys, catalog: Catalog, auth: AccountAuth) -> None:
        """Takes what its handlers use.

        Args:
            keys: the engine's keys.
            catalog: has the endpoints.
            auth: checks the keys of calls.
        """
        self._keys = keys
        self._catalog = catalog
        self._auth = auth

    async def list_keys(self, request: web.BaseRequest) -> web.Response:
        """All keys with a name, and none of the keys themselves."""
        self._auth.check(request, None)
        return reply(KeyList([self._row(key) for key in self._keys.ring.rows()]))

    async def create_key(self, request: web.BaseRequest) -> web.Response:
        """Makes a key, and shows it."""
        body = decode(KeyBody, await read(request))
        self._check(request, body.api_key)
        role = Role(body.role)
        if body.endpoints and role is not Role.ROUTE:
            raise WireError("endpoints", "endpoints are for keys of role route alone.")
        endpoints = tuple(self._endpoint_id(name) for name in body.endpoints)
        made, key = self._keys.ring.create(body.name, role, endpoints, body.expires_in_s)
        return reply(KeyMade(made.id, key.reveal()))

    async def revoke_key(self, request: web.BaseRequest) -> web.Response:
        """Ends a key at once."""
        body = decode(KeyRevoked, await read(request))
        self._auth.check(request, body.api_key)
        self._keys.ring.revoke(body.id)
        return reply(Success())

    async def rotate_key(self, request: web.BaseRequest) -> web.Response:
        """Has another key take the place of a named one, of an endpoint's own, or of the account key."""
        body = decode(KeyRotation, await read(request))
        self._check(request, body.api_key)
        if [body.id is not None, body.endpoint is not None, body.account].count(True) != 1:
            raise WireError("", "One of id, endpoint and account says which key is rotated.")
        if body.id is not None:
            made, key = self._keys.ring.rotate(body.id, body.overlap_s)
            return reply(KeyMade(made.id, key.reveal()))
        if body.endpoint is not None:
            endpoint_id = self._endpoint_id(body.endpoint)
            self._keys.ring.rotate_endpoint(endpoint_id, body.overlap_s)
            return reply(KeyMade(0, self._keys.endpoint_key(endpoint_id).reveal()))
        self._keys.rotate_account(body.overlap_s)
        return reply(KeyMade(ACCOUNT.key_id, self._keys.account_key.reveal()))

    def _check(self, request: web.BaseRequest, in_body: str | None) -> None:
        self._auth.check(request, in_body)
        if request.get(BY_COOKIE):
            raise ForbiddenError("A page is told no key; `nullworker keys` makes and shows them.")

    def _endpoint_id(self, name: str) -> int:
        entry = self._catalog.by_name.get(name)
        if entry is None:
            raise NotFoundError(f"There is no endpoint called {name}; `vastai show endpoints` lists them.")
        return entry.endpoint_id

    def _row(self, key: NamedKey) -> KeyRow:
        known = self._catalog.endpoints
        return KeyRow(
            key.id,
            key.name,
            key.role.value,
            [known[each].name if each in known else f"{each} (deleted)" for each in key.endpoints],
            key.created_at_s,
            key.expires_at_s,
            self._keys.ring.used_at_s.get(key.id, 0.0),
            self._keys.ring.get(key.id) is not None,
        )
