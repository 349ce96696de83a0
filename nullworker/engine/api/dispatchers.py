"""What dispatchers call: they tell of their queues, for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.engine.api.http import LONG_BODY_BYTES_MAX, read, reply
from nullworker.engine.api.listening import prove
from nullworker.engine.auth.account import bearer
from nullworker.engine.cost_file import Label
from nullworker.wire.decoding import decode
from nullworker.wire.errors import ForbiddenError
from nullworker.wire.types import DispatcherReport, LabelReport, Labels, Success

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiohttp import web

    from nullworker.engine.auth.clients import Client, ClientAuth
    from nullworker.engine.catalog import Catalog
    from nullworker.engine.cost_keeper import CostKeeper
    from nullworker.engine.dispatchers import Dispatchers
    from nullworker.engine.driver import AsyncDriver
    from nullworker.views.history import History
    from nullworker.wire.types import JobTold


#: Of one report of a worker.
JOBS_MAX = 1_000


class DispatchersApi:
    """The handlers."""

    def __init__(
        self,
        driver: AsyncDriver,
        dispatchers: Dispatchers,
        client_auth: ClientAuth,
        catalog: Catalog,
        costs: CostKeeper,
        history: History,
    ) -> None:
        """Takes what its handlers use.

        Args:
            driver: has the clock.
            dispatchers: where reports are kept.
            client_auth: tells clients by their keys.
            catalog: has the endpoints.
            costs: keeps what reservations are for.
            history: shows that on lanes.
        """
        self._costs = costs
        self._history = history
        self._driver = driver
        self._dispatchers = dispatchers
        self._client_auth = client_auth
        self._catalog = catalog

    async def heard_dispatcher(self, request: web.BaseRequest) -> web.Response:
        """A dispatcher tells of its queues, with a key that routes to the endpoints of all of them."""
        key = bearer(request)
        if key:  # before the body is read
            prove(request, self._client_auth.client(key).owner)
        body = decode(DispatcherReport, await read(request, LONG_BODY_BYTES_MAX))
        client = self._client_auth.client(key or body.api_key or "")
        for queue in body.queues:
            entry = self._catalog.by_name.get(queue.endpoint)
            if entry is None and client.is_for_all:
                continue  # it is not there yet, or any more
            if entry is None or not client.routes_to(entry.endpoint_id):
                raise ForbiddenError(f"The key does not route to endpoint {queue.endpoint[:100]}.")
        prove(request, client.owner)
        self._dispatchers.heard(body, self._driver.now())
        await self._label(self._read_from_broker(self._theirs(client, body.labels)))
        return reply(Success())

    def _read_from_broker(self, told: Iterable[LabelReport]) -> Iterable[LabelReport]:
        """What a dispatcher tells, without the jobs of reservations whose holder or consumer has named another.

        A dispatcher adds jobs at the end of what it told before, as its reservation takes them.
        """
        for each in told:
            known = self._costs.labels.get(each.request_idx)
            is_theirs = known is not None and not each.job.startswith(known.job)
            yield LabelReport(each.request_idx, each.queue) if is_theirs else each

    async def label(self, request: web.BaseRequest) -> web.Response:
        """A holder tells what its reservations are for, with a key that routes to their endpoints."""
        key = bearer(request)
        if key:  # before the body is read
            prove(request, self._client_auth.client(key).owner)
        body = decode(Labels, await read(request, LONG_BODY_BYTES_MAX))
        client = self._client_auth.client(key or body.api_key or "")
        prove(request, client.owner)
        await self._label(self._theirs(client, body.labels))
        return reply(Success())

    def _theirs(self, client: Client, told: Iterable[LabelReport]) -> Iterable[LabelReport]:
        """What a client tells of requests that are its own; those of other endpoints are not its to tell of."""
        if client.is_for_all:
            return told
        known = self._history.reservations
        return [
            each for each in told if each.request_idx in known and client.routes_to(known[each.request_idx].endpoint_id)
        ]

    async def jobs(self, worker_id: int, told: Sequence[JobTold]) -> None:
        """A worker tells what its sessions are for; what it never held is not its to tell.

        Args:
            worker_id: its number.
            told: its jobs.
        """
        known = self._history.reservations
        await self._label(
            LabelReport(each.request_idx, "", each.job)
            for each in told[:JOBS_MAX]
            if each.request_idx in known and any(on == worker_id for _, _, on in known[each.request_idx].stages)
        )

    async def _label(self, told: Iterable[LabelReport]) -> None:
        labels = [Label(each.request_idx, each.queue, each.job) for each in told]
        for label in await self._costs.label(labels):
            self._history.job(label.request_idx, label.job)
