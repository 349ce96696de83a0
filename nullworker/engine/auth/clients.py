"""Which endpoints a client's key is for: an endpoint's own key for that one, a key with a role for those that it names.

A client needs no more than the key of its endpoint: with it, it is shown this endpoint alone, and asks for its workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nullworker.engine.auth.key_index import KeyIndex
from nullworker.engine.auth.keys import Holder, Role
from nullworker.wire.errors import ForbiddenError, NotFoundError, UnauthorizedError

if TYPE_CHECKING:
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.catalog import Catalog, EndpointEntry


class Client(NamedTuple):
    """What a key is good for."""

    key: str
    endpoint_id: int  # of its own endpoint; 0: it is a key with a role
    holder: Holder | None  # of a key with a role

    def routes_to(self, endpoint_id: int) -> bool:
        """Whether it may ask for workers of an endpoint."""
        return self.endpoint_id == endpoint_id if self.holder is None else self.holder.routes_to(endpoint_id)

    @property
    def is_for_all(self) -> bool:
        """Whether it routes to all endpoints, also to those that are made later."""
        return self.holder is not None and not self.holder.endpoints

    @property
    def is_admin(self) -> bool:
        """Whether it may see all keys of endpoints."""
        return self.holder is not None and self.holder.may(Role.ADMIN)

    @property
    def owner(self) -> str:
        """Whose the connection is that it came on, for `nullworker.engine.api.listening.prove`."""
        return f"endpoint {self.endpoint_id}" if self.holder is None else "account"


class ClientAuth:
    """Tells clients by their keys."""

    def __init__(self, keys: Keys, catalog: Catalog) -> None:
        """Takes what it uses.

        Args:
            keys: have the keys.
            catalog: has the endpoints.
        """
        self._keys = keys
        self._catalog = catalog
        self._index = KeyIndex(catalog, keys)

    def client(self, key: str) -> Client:
        """What a key is good for.

        Raises:
            UnauthorizedError: nothing.
            ForbiddenError: it routes to no endpoint.
        """
        if not key:
            raise UnauthorizedError("There is no api_key in the request.")
        endpoint_id = self._index.endpoint_of(key)
        if endpoint_id is not None:
            return Client(key, endpoint_id, None)
        holder = self._keys.holder(key)
        if holder is None:
            raise UnauthorizedError("The api_key is not one of this engine's, or has ended.")
        if not holder.may(Role.ROUTE):
            raise ForbiddenError(f"The {holder.name} sees, and routes to no endpoint.")
        return Client(key, 0, holder)

    def check(self, key: str, endpoint: str) -> EndpointEntry:
        """The endpoint of that name, if the key is good for it.

        Raises:
            UnauthorizedError, ForbiddenError: it is not.
            NotFoundError: there is no such endpoint, and the key would be good for it.
        """
        entry = self._catalog.by_name.get(endpoint)
        if entry is not None and key and self._keys.is_endpoint(entry.endpoint_id, key):
            return entry
        client = self.client(key)
        if client.holder is None:
            raise ForbiddenError("The api_key is another endpoint's.")
        if entry is None and client.is_for_all:
            raise NotFoundError(f"There is no endpoint called {endpoint}; `vastai show endpoints` lists them.")
        if entry is None or not client.routes_to(entry.endpoint_id):
            raise ForbiddenError(f"The {client.holder.name} is for other endpoints.")
        return entry
