"""Signing in and out, and what operators do beyond Vast's own calls: drain, withdraw, preview; and the audit log."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from nullworker.core import views as core_views
from nullworker.core.events import WaiterGone
from nullworker.engine.api.http import read, reply
from nullworker.engine.auth.account import BY_COOKIE, HOLDER, bearer
from nullworker.engine.auth.keys import Role
from nullworker.engine.auth.sign_in import check_site
from nullworker.engine.preview import preview, replacement
from nullworker.wire.decoding import decode
from nullworker.wire.errors import ForbiddenError, NotFoundError, TooManyError, UnauthorizedError, WireError
from nullworker.wire.types import (
    DrainBody,
    ExtendBody,
    PreviewBody,
    ReplaceBody,
    SignedInBody,
    SignInBody,
    Success,
    WithdrawBody,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from nullworker.engine.audit import AuditLog
    from nullworker.engine.auth.account import AccountAuth
    from nullworker.engine.auth.keys import Holder, Keys
    from nullworker.engine.auth.sign_in import SignIn
    from nullworker.engine.catalog import Catalog
    from nullworker.engine.drains import Drains
    from nullworker.engine.driver import AsyncDriver
    from nullworker.engine.worker_orders import OrdersToWorkers

#: So many wrong keys in a minute, from all callers together; no further key is looked at in that minute.
WRONG_KEYS_A_MINUTE = 60
AUDIT_ROWS_MAX = 1_000


class ActsApi:
    """The handlers."""

    def __init__(
        self,
        driver: AsyncDriver,
        catalog: Catalog,
        keys: Keys,
        auth: AccountAuth,
        sign_in: SignIn,
        audit: AuditLog,
        drains: Drains,
        orders: OrdersToWorkers,
        wall_s: Callable[[], float],
    ) -> None:
        """Takes what its handlers use.

        Args:
            driver: feeds the core.
            catalog: endpoints and workergroups.
            keys: checks keys.
            auth: checks the keys of calls.
            sign_in: makes and ends cookies.
            audit: the audit log.
            drains: the workers that are drained.
            orders: what operators ask of workers.
            wall_s: Unix time.
        """
        self._driver = driver
        self._catalog = catalog
        self._keys = keys
        self._auth = auth
        self._sign_in = sign_in
        self._audit = audit
        self._drains = drains
        self._orders = orders
        self._wall_s = wall_s
        self._wrong_keys = (0, 0)  # the minute, and how many in it

    # ---------------------------------------------------------------------------------------------------------- sign-in

    async def sign_in(self, request: web.BaseRequest) -> web.Response:
        """Takes a key, and gives the page a cookie in its place."""
        check_site(request)
        body = decode(SignInBody, await read(request))
        minute, wrong = int(self._wall_s() // 60), 0
        if self._wrong_keys[0] == minute:
            wrong = self._wrong_keys[1]
        if wrong >= WRONG_KEYS_A_MINUTE:
            raise TooManyError("There were too many wrong keys in this minute; sign in again in the next.")
        holder = self._keys.holder(body.api_key)
        if holder is None:
            self._wrong_keys = (minute, wrong + 1)
            raise UnauthorizedError("The key is none of this engine's, or has ended.")
        if not holder.may(Role.READ):
            raise ForbiddenError("The key routes, and sees nothing; sign in with one of role read, operate or admin.")
        answer = reply(_signed_in(holder))
        self._sign_in.set(answer, self._sign_in.new(holder))
        request[HOLDER], request[BY_COOKIE] = holder, True
        return answer

    async def signed_in(self, request: web.BaseRequest) -> web.Response:
        """What the caller is signed in as; "" for nothing, which is no error: the page asks before it shows a form."""
        try:
            holder = self._auth.check_reader(request)
        except UnauthorizedError:
            if bearer(request):
                raise  # counted, as every wrong key is
            return reply(SignedInBody("", version("nullworker")))
        return reply(_signed_in(holder))

    async def sign_out(self, request: web.BaseRequest) -> web.Response:
        """Ends the page's cookie."""
        check_site(request)
        self._sign_in.end(request)
        answer = reply(Success())
        self._sign_in.set(answer, "")
        return answer

    # ------------------------------------------------------------------------------------------------------------- acts

    async def drain(self, request: web.BaseRequest) -> web.Response:
        """Drains a worker, or cancels that."""
        body = decode(DrainBody, await read(request))
        self._auth.check(request, body.api_key, Role.OPERATE)
        worker = core_views.worker_ref(self._driver.engine, body.worker_id)
        if worker is None:
            raise NotFoundError(f"There is no worker {body.worker_id}; `nullworker status` lists them.")
        self._drains.forget_gone(core_views.worker_ids(self._driver.engine))
        if not body.cancel:
            self._drains.begin(body.worker_id, body.reason)
        elif not self._drains.cancel(body.worker_id):
            raise WireError("worker_id", f"Worker {body.worker_id} is not being drained.")
        return reply(Success())

    async def withdraw(self, request: web.BaseRequest) -> web.Response:
        """Ends a request that waits, or has its worker end it; its client sees that it is over."""
        body = decode(WithdrawBody, await read(request))
        reservation = self._reservation(request, body)
        if reservation.stage == "waiting":
            self._driver.handle(WaiterGone(body.request_idx))
        else:
            await self._orders.give(reservation.worker_id, "end", body.request_idx)
        return reply(Success())

    async def extend(self, request: web.BaseRequest) -> web.Response:
        """Has a worker held for longer, though its client does not ask for it."""
        body = decode(ExtendBody, await read(request))
        reservation = self._reservation(request, body)
        if reservation.stage == "waiting":
            raise WireError("request_idx", f"Request {body.request_idx} waits, and holds no worker yet.")
        await self._orders.give(reservation.worker_id, "extend", body.request_idx, body.seconds)
        return reply(Success())

    def _reservation(self, request: web.BaseRequest, body: WithdrawBody | ExtendBody) -> core_views.ReservationView:
        """The reservation that an operator's call is about, once it is known that the caller may make it."""
        self._auth.check(request, body.api_key, Role.OPERATE)
        reservation = core_views.reservation(self._driver.engine, body.request_idx)
        if reservation is None:
            raise NotFoundError(f"There is no request {body.request_idx}.")
        return reservation

    async def replace(self, request: web.BaseRequest) -> web.Response:
        """Drains a worker, and says what comes in its place."""
        body = decode(ReplaceBody, await read(request))
        self._auth.check(request, body.api_key, Role.OPERATE)
        worker = core_views.worker(self._driver.engine, body.worker_id)
        if worker is None:
            raise NotFoundError(f"There is no worker {body.worker_id}; `nullworker status` lists them.")
        replaced = replacement(self._driver.engine, worker, self._driver.now())
        if not body.dry_run:
            self._drains.forget_gone(core_views.worker_ids(self._driver.engine))
            self._drains.begin(body.worker_id, f"it is replaced{body.reason and ': '}{body.reason}")
        return reply(replaced)

    async def preview(self, request: web.BaseRequest) -> web.Response:
        """What a change of an endpoint would do at once; changes nothing."""
        body = decode(PreviewBody, await read(request))
        self._auth.check_reader(request, body.api_key)
        parameters = self._catalog.parameters_after(body.id, body.change)
        return reply(preview(self._driver.engine, body.id, parameters, self._driver.now()))

    async def audit(self, request: web.BaseRequest) -> web.Response:
        """The latest acts, oldest first."""
        self._auth.check_reader(request)
        tail = request.query.get("tail", "100")
        if not (tail.isascii() and tail.isdigit() and len(tail) < 6):
            raise WireError("tail", "tail must be a whole number.")
        rows = self._audit.tail(min(int(tail), AUDIT_ROWS_MAX))
        return reply({"success": True, "rows": rows})


def _signed_in(holder: Holder) -> SignedInBody:
    return SignedInBody(holder.role.value, version("nullworker"), holder.name)
