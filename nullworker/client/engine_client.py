"""Every call that an engine is sent: the list of endpoints, a request for a worker, the list of workers.

Connects when first used, and looks endpoints up once. What a call raises is understood already: an
`EngineUnreachableError` may go well a moment later, every other `ClientError` will not.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any

import aiohttp

from nullworker.client.errors import (
    ClientError,
    EndpointUnknownError,
    EngineRefusedError,
    EngineUnreachableError,
    KeyRefusedError,
)
from nullworker.client.http import NO_HEADERS, Answer, NoAnswerError, call
from nullworker.client.instances import API_KEY_VARIABLE, find_authority
from nullworker.client.models import Endpoint, RouteAnswer, WorkerInfo
from nullworker.client.retry import BACKOFF_MAX_S, steady_backoff_s
from nullworker.client.trust import load_context
from nullworker.wire import paths
from nullworker.wire.headers import HOLD_AT_MOST

if TYPE_CHECKING:
    import random
    import ssl
    from collections.abc import Mapping

    from nullworker.client.instances import Instance

LIST_TRIES_MAX = 5  # as the vastai client's own, and so are the following
LIST_TIMEOUT_S = 30.0
ROUTE_TIMEOUT_S = 10.0  # an engine that holds the call answers well before
#: For how long the engine remembers a request that does not ask again.
REPLAY_TIMEOUT_S = 60.0
#: Statuses that may be different a moment later, as every 5xx may.
PASSING_STATUSES = frozenset({408, 425, 429})

_log = logging.getLogger(__name__)


class EngineClient:
    """One engine, for many reservations at once."""

    def __init__(self, instance: Instance, api_key: str, rng: random.Random) -> None:
        """Nothing is asked yet.

        Args:
            instance: the engine.
            api_key: the account's key.
            rng: for pauses.
        """
        self.label = instance.label
        self.poll_max_s = instance.poll_max_s
        self.heard = False  # whether the engine has ever answered
        self._instance = instance
        self._api_key = api_key
        self._rng = rng
        # Locks: what a hundred callers need at the same moment is fetched once.
        self._connecting = asyncio.Lock()
        self._looking_up = asyncio.Lock()
        self._authority = find_authority(instance)
        self._tls: aiohttp.ClientSession | None = None  # accepts certificates of the engine's authority
        self._plain: aiohttp.ClientSession | None = None
        self._endpoints: dict[str, Endpoint] = {}

    # ------------------------------------------------------------------------------------------------------ connections

    async def connect(self) -> None:
        """Fetches the engine's root certificate, once and before the first call.

        A server that has none is no engine, and a worker's certificate can be checked as soon as the worker is named.

        Raises:
            EngineUnreachableError, CertificateUnavailableError: the certificate is not to be had.
        """
        async with self._connecting:
            if self._tls is None:
                self._tls = _connections(
                    await load_context(self._instance.certificate_url, self.label, self._authority)
                )

    async def reach(self, worker_url: str) -> aiohttp.ClientSession:
        """The connections for calls to that worker. Needs the engine only if the worker's certificate is to be checked.

        Raises:
            EngineUnreachableError, CertificateUnavailableError: as `connect`.
        """
        if _is_tls(worker_url):
            await self.connect()
        return self.connections_for(worker_url)

    def connections_for(self, url: str) -> aiohttp.ClientSession:
        """As `reach`, after `connect`, so that nothing is left to wait for."""
        if _is_tls(url):
            assert self._tls is not None, "not connected"
            return self._tls
        if self._plain is None:
            self._plain = _connections()
        return self._plain

    async def close(self) -> None:
        """Closes every connection."""
        for each in (self._plain, self._tls):
            if each is not None:
                await each.close()
        self._plain = self._tls = None

    # -------------------------------------------------------------------------------------------------------- endpoints

    async def list_endpoints(self) -> list[Endpoint]:
        """The endpoints that the key may use. An engine that cannot serve at the moment is asked five times.

        Raises:
            ClientError: the engine cannot be asked, or refuses.
        """
        await self.connect()
        failures = 0
        while True:
            try:
                return await self._list_once()
            except EngineUnreachableError:
                failures += 1
                if failures == LIST_TRIES_MAX:
                    raise
            await asyncio.sleep(steady_backoff_s(failures, BACKOFF_MAX_S, self._rng))

    async def _list_once(self) -> list[Endpoint]:
        body = await self._ask(
            "GET",
            self._instance.console_url + paths.ENDPOINTS,
            key=self._api_key,
            query={"client_id": "me"},
            timeout_s=LIST_TIMEOUT_S,
        )
        try:
            return [
                Endpoint(int(row["id"]), str(row["endpoint_name"]), str(row["api_key"]))
                for row in body.get("results", [])
            ]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._not_understood(error) from error

    async def find(self, name: str) -> Endpoint:
        """The endpoint of that name, remembered until `forget`.

        Raises:
            EndpointUnknownError: there is none.
            ClientError: as `list_endpoints`.
        """
        async with self._looking_up:
            if name not in self._endpoints:
                found = await self.list_endpoints()
                self._endpoints.update((one.name, one) for one in found)
                if name not in self._endpoints:
                    raise EndpointUnknownError(self.label, name, [one.name for one in found])
            return self._endpoints[name]

    def knows(self, name: str) -> bool:
        """Whether `find` would answer from memory."""
        return name in self._endpoints

    def forget(self, name: str) -> None:
        """What is remembered of the endpoint is out of date."""
        self._endpoints.pop(name, None)

    # ---------------------------------------------------------------------------------------------------------- workers

    async def route(
        self, endpoint: Endpoint, cost: float, request_idx: int, hold_at_most_s: float | None = None
    ) -> RouteAnswer:
        """Asks once for a worker. Leaving while the engine holds the call tells it that the request is withdrawn.

        Args:
            endpoint: the endpoint.
            cost: what the request takes of the endpoint's capacity, in perf units.
            request_idx: 0 for a new request, else the number that the last answer gave. With a number whose last
                answer named a worker, the engine learns that this worker did not take the request.
            hold_at_most_s: for how long the engine may hold the call while there is none; None: as long as it does.

        Raises:
            ClientError: the engine cannot be asked, or refuses.
        """
        body = await self._ask(
            "POST",
            self._instance.engine_url + paths.ROUTE,
            key=endpoint.api_key,
            body={
                "endpoint": endpoint.name,
                "api_key": endpoint.api_key,
                "cost": cost,
                "request_idx": request_idx,
                "replay_timeout": REPLAY_TIMEOUT_S,
            },
            timeout_s=ROUTE_TIMEOUT_S,
            endpoint=endpoint.name,
            headers=NO_HEADERS if hold_at_most_s is None else {HOLD_AT_MOST: f"{hold_at_most_s:.2f}"},
        )
        if not isinstance(body, dict):
            raise self._not_understood("no JSON object")
        number, reason = body.get("request_idx"), body.get("reason")
        number = number if isinstance(number, int) and not isinstance(number, bool) else 0
        if "url" not in body:
            return RouteAnswer(number, reason=reason if isinstance(reason, str) else "")
        if not isinstance(body["url"], str):
            raise EngineRefusedError(self.label, "its answer names no worker")
        return RouteAnswer(number, auth_data=body)

    async def list_workers(self, name: str) -> list[WorkerInfo]:
        """The workers of the endpoint of that name; none where the engine says that it cannot tell yet.

        Raises:
            ClientError: the engine cannot be asked, or refuses.
        """
        endpoint = await self.find(name)
        await self.connect()
        body = await self._ask(
            "POST",
            self._instance.engine_url + paths.GET_ENDPOINT_WORKERS,
            body={"id": endpoint.id, "api_key": self._api_key},
            timeout_s=LIST_TIMEOUT_S,
            endpoint=name,
        )
        if isinstance(body, dict) and "error_msg" in body:
            _log.warning("The engine at %s does not list the workers of %s: %s", self.label, name, body["error_msg"])
            return []
        try:
            return [_worker_info(row) for row in body]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._not_understood(error) from error

    async def tell_queues(self, dispatcher: str, queues: list[dict[str, Any]], labels: list[dict[str, Any]]) -> None:
        """Tells the engine of a dispatcher's queues, as `nullworker.wire.types.DispatcherReport` has them.

        Args:
            dispatcher: its name.
            queues: one mapping for each.
            labels: what reservations are for, one mapping for each.

        Raises:
            ClientError: the engine cannot be told, or refuses.
        """
        await self._tell(paths.DISPATCHERS, {"dispatcher": dispatcher, "queues": queues, "labels": labels})

    async def tell_labels(self, labels: list[dict[str, Any]]) -> None:
        """Tells the engine what reservations are for, as `nullworker.wire.types.LabelReport` has it.

        Raises:
            ClientError: the engine cannot be told, or refuses.
        """
        await self._tell(paths.LABELS, {"labels": labels})

    async def _tell(self, path: str, body: dict[str, Any]) -> None:
        await self.connect()
        url = self._instance.engine_url + path
        await self._ask("POST", url, body={**body, "api_key": self._api_key}, timeout_s=LIST_TIMEOUT_S)

    # ------------------------------------------------------------------------------------------------------------ calls

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        timeout_s: float,
        key: str | None = None,
        query: dict[str, str] | None = None,
        body: dict[str, Any] | None = None,
        endpoint: str = "",
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Any:
        """The JSON of the answer to one call about ``endpoint``. ``key`` is sent as a header and in the query.

        Raises:
            ClientError: there is no answer, or it is an error.
        """
        if key is not None:
            query = {**(query or {}), "api_key": key}
        try:
            http = self.connections_for(url)
            answer = await call(
                http, method, url, timeout_s=timeout_s, body=body, query=query, key=key, headers=headers
            )
        except NoAnswerError as error:
            raise EngineUnreachableError(self.label, str(error)) from error
        if not answer.ok:
            raise self._refusal(answer, endpoint)
        try:
            parsed = answer.parsed()
        except ValueError as error:
            raise EngineUnreachableError(self.label, f"its answer is no JSON: {answer.text}") from error
        self.heard = True
        return parsed

    def _refusal(self, answer: Answer, endpoint: str) -> ClientError:
        """What an answer means that is no success."""
        status, detail = answer.status, answer.sentence
        said = f"HTTP {status}: {detail}" if detail else f"HTTP {status}"
        if status >= 500 or status in PASSING_STATUSES:
            return EngineUnreachableError(self.label, said)
        if status in (401, 403):
            is_of_environment = self._instance.is_here and self._api_key == os.environ.get(API_KEY_VARIABLE)
            return KeyRefusedError(self.label, detail, is_of_environment=is_of_environment)
        if status == 404 and endpoint:
            return EndpointUnknownError(self.label, endpoint)
        if 300 <= status < 400:
            said = f"HTTP {status}: it is at {answer.location or 'another address'}"
        return EngineRefusedError(self.label, said)

    def _not_understood(self, why: Exception | str) -> EngineRefusedError:
        reason = why if isinstance(why, str) else f"{type(why).__name__}: {why}"
        return EngineRefusedError(self.label, f"its answer is not understood: {reason}")


def _connections(context: ssl.SSLContext | None = None) -> aiohttp.ClientSession:
    """Without a limit: a waiting request holds a connection, and the caller decides how many of those there are."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=context or True))


def _is_tls(url: str) -> bool:
    return url.lower().startswith("https:")


def _worker_info(row: dict[str, Any]) -> WorkerInfo:
    """One row of the engine's list; what it leaves out is 0."""
    return WorkerInfo(
        id=int(row["id"]),
        status=str(row.get("status") or "UNKNOWN"),
        cur_load=float(row.get("cur_load", 0.0)),
        perf=float(row.get("perf", 0.0)),
        reqs_working=int(row.get("reqs_working", 0)),
        loaded_at=float(row.get("loaded_at", 0.0)),
        started_at=float(row.get("started_at", 0.0)),
    )
