"""One engine, spoken to through one ``vastai`` client: connected once, endpoints looked up once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp

from nullworker.client.errors import EndpointUnknownError, EngineUnreachableError
from nullworker.client.sdk import Endpoint, Sdk, reason_of, understand

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nullworker.client.instances import Instance

T = TypeVar("T")


class EngineClient:
    """What many reservations share. Connects when first used; the lock is for the SDK's lazy ways, which make two of
    everything under two callers at once and lose one of them.
    """

    def __init__(self, instance: Instance, api_key: str) -> None:
        self.label = instance.label
        self.heard = False  # whether the engine has ever answered
        self._instance = instance
        self._api_key = api_key
        self._connecting = asyncio.Lock()
        self._looking_up = asyncio.Lock()
        self._sdk: Sdk | None = None
        self._trusting: aiohttp.ClientSession | None = None  # for workers with TLS: knows the engine's certificate
        self._plain: aiohttp.ClientSession | None = None  # for workers without
        self._endpoints: dict[str, Endpoint] = {}

    async def connect(self) -> Sdk:
        """The ``vastai`` client.

        Raises:
            EngineUnreachableError, CertificateUnavailableError: the engine's certificate is not to be had.
        """
        async with self._connecting:
            if self._sdk is None:
                sdk = Sdk(self._instance, self._api_key)
                context = await sdk.get_ssl_context()
                await sdk.__aenter__()
                self._trusting = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context))
                self._sdk = sdk
        return self._sdk

    async def reach(self, worker_url: str) -> aiohttp.ClientSession:
        """The session for calls to that worker. Needs the engine only if the worker's certificate is to be checked.

        Raises:
            EngineUnreachableError, CertificateUnavailableError: as `connect`.
        """
        if worker_url.startswith("https:"):
            await self.connect()
        return self.reached(worker_url)

    def reached(self, worker_url: str) -> aiohttp.ClientSession:
        """As `reach`, for a worker that this engine has just named, so that nothing is left to wait for."""
        if worker_url.startswith("https:"):
            assert self._trusting is not None, "not connected"
            return self._trusting
        if self._plain is None:
            self._plain = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._plain

    async def close(self) -> None:
        """Closes every connection."""
        for each in (self._plain, self._trusting, self._sdk):
            if each is not None:
                await each.close()
        self._plain = self._trusting = self._sdk = None

    async def list_endpoints(self) -> list[Endpoint]:
        """The endpoints that the key may use. Raises what the SDK raises."""
        sdk = await self.connect()
        found: list[Endpoint] = await sdk.get_endpoints()
        self.heard = True
        return found

    async def find(self, name: str) -> Endpoint:
        """The endpoint of that name, remembered until `forget`.

        Raises:
            EndpointUnknownError: there is none. Otherwise what the SDK raises.
        """
        async with self._looking_up:
            if name not in self._endpoints:
                found = await self.list_endpoints()
                self._endpoints.update((one.name, one) for one in found)
                if name not in self._endpoints:
                    raise EndpointUnknownError(self.label, name, [str(one.name) for one in found])
            return self._endpoints[name]

    def knows(self, name: str) -> bool:
        """Whether `find` would answer from memory."""
        return name in self._endpoints

    def forget(self, name: str) -> None:
        """What is remembered of the endpoint does not hold any more."""
        self._endpoints.pop(name, None)

    async def ask(self, call: Coroutine[Any, Any, T], endpoint: str = "") -> T:
        """The result of one ``call`` to the engine, about ``endpoint``.

        Raises:
            ClientError: whatever the SDK raised, understood.
        """
        try:
            return await call
        except Exception as error:
            understood = understand(error, self.label, endpoint)
            raise understood or EngineUnreachableError(self.label, reason_of(error)) from error
