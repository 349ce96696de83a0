"""Whose a key is, found in the same time for any number of endpoints: by its digest, and not by trying each."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nullworker.engine.auth.keys import Keys
    from nullworker.engine.catalog import Catalog


class KeyIndex:
    """Finds the endpoint whose own key a key is."""

    def __init__(self, catalog: Catalog, keys: Keys) -> None:
        """Takes what it looks up.

        Args:
            catalog: the endpoints. Their ids are never used twice, and a new one comes last.
            keys: have the keys of endpoints.
        """
        self._catalog = catalog
        self._keys = keys
        self._endpoint_of: dict[bytes, int] = {}  # by the digest of its key
        self._digested: set[int] = set()
        self._rotations = keys.ring.rotations

    def endpoint_of(self, key: str) -> int | None:
        """The id of the endpoint whose key this is, if any."""
        endpoints = self._catalog.endpoints
        if self._rotations != self._keys.ring.rotations:
            self._rotations = self._keys.ring.rotations
            self._digested.clear()
        if next(reversed(endpoints), 0) not in self._digested:
            for endpoint_id in endpoints.keys() - self._digested:
                self._digested.add(endpoint_id)
                for good in self._keys.endpoint_keys(endpoint_id):
                    self._endpoint_of[_digest(good.reveal())] = endpoint_id
        endpoint_id = self._endpoint_of.get(_digest(key), 0)
        return endpoint_id if endpoint_id in endpoints and self._keys.is_endpoint(endpoint_id, key) else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="surrogatepass")).digest()
