"""What dispatchers call: they tell of their queues, for people to read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.engine.api.http import read, reply
from nullworker.wire.decoding import decode
from nullworker.wire.types import DispatcherReport, Success

if TYPE_CHECKING:
    from aiohttp import web

    from nullworker.engine.auth.account import AccountAuth
    from nullworker.engine.dispatchers import Dispatchers
    from nullworker.engine.driver import AsyncDriver


class DispatchersApi:
    """The handlers."""

    def __init__(self, driver: AsyncDriver, account_auth: AccountAuth, dispatchers: Dispatchers) -> None:
        """Takes what its handlers use.

        Args:
            driver: has the clock.
            account_auth: checks the keys of calls.
            dispatchers: where reports are kept.
        """
        self._driver = driver
        self._account_auth = account_auth
        self._dispatchers = dispatchers

    async def heard_dispatcher(self, request: web.BaseRequest) -> web.Response:
        """A dispatcher tells of its queues."""
        body = decode(DispatcherReport, await read(request))
        self._account_auth.check(request, body.api_key)
        self._dispatchers.heard(body, self._driver.now())
        return reply(Success())
