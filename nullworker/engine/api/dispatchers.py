"""What dispatchers call: they tell of their queues, for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.engine.api.http import read, reply
from nullworker.engine.cost_file import Label
from nullworker.wire.decoding import decode
from nullworker.wire.types import DispatcherReport, LabelReport, Labels, Success

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aiohttp import web

    from nullworker.engine.auth.account import AccountAuth
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
        account_auth: AccountAuth,
        dispatchers: Dispatchers,
        costs: CostKeeper,
        history: History,
    ) -> None:
        """Takes what its handlers use.

        Args:
            driver: has the clock.
            account_auth: checks the keys of calls.
            dispatchers: where reports are kept.
            costs: keeps what reservations are for.
            history: shows that on lanes.
        """
        self._costs = costs
        self._history = history
        self._driver = driver
        self._account_auth = account_auth
        self._dispatchers = dispatchers

    async def heard_dispatcher(self, request: web.BaseRequest) -> web.Response:
        """A dispatcher tells of its queues."""
        body = decode(DispatcherReport, await read(request))
        self._account_auth.check(request, body.api_key)
        self._dispatchers.heard(body, self._driver.now())
        await self._label(body.labels)
        return reply(Success())

    async def label(self, request: web.BaseRequest) -> web.Response:
        """A holder tells what its reservations are for."""
        body = decode(Labels, await read(request))
        self._account_auth.check(request, body.api_key)
        await self._label(body.labels)
        return reply(Success())

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
