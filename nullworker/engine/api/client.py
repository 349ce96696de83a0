"""What clients and workers call: routes, reports, keys. The hot paths of the engine are `route` and `worker_status`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import UnsetType

from nullworker.core import explain, views
from nullworker.core.commands import Grant, Refuse
from nullworker.core.driver import HOLD_S
from nullworker.core.events import Finished, ReportRefused, RequestsFinished, WorkerReported
from nullworker.core.journal import described
from nullworker.core.parameters import EndpointState
from nullworker.engine.api.http import WORKER_BODY_BYTES_MAX, Reply, read, read_from_worker, reply
from nullworker.engine.api.listening import prove
from nullworker.engine.api.refusals import Kind
from nullworker.engine.api.worker_messages import WAIT_MAX_S, MessagePace, ends_within, listed_within
from nullworker.engine.auth.account import bearer
from nullworker.engine.auth.worker_clocks import WorkerClocks
from nullworker.engine.auth.workers import WorkerGoneError
from nullworker.wire import grant as grants
from nullworker.wire import headers, tolerant
from nullworker.wire.decoding import decode
from nullworker.wire.errors import (
    NotFoundError,
    TooLargeError,
    TooManyError,
    WireError,
)
from nullworker.wire.redaction import from_others
from nullworker.wire.types import (
    DeleteRequests,
    RouteReady,
    RouteRequest,
    RouteWaiting,
    Success,
    WorkerStatus,
)
from nullworker.wire.worker_clock import WorkerTime

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import web

    from nullworker.core.views import WorkerRef
    from nullworker.engine.api.held_calls import HeldCalls
    from nullworker.engine.api.refusals import Refusals
    from nullworker.engine.auth.clients import ClientAuth
    from nullworker.engine.auth.request_numbers import RequestNumbers
    from nullworker.engine.auth.signing import Signer
    from nullworker.engine.auth.workers import WorkerAuth
    from nullworker.engine.catalog import EndpointEntry
    from nullworker.engine.drains import Drains
    from nullworker.engine.driver import AsyncDriver
    from nullworker.engine.worker_orders import OrdersToWorkers
    from nullworker.wire.types import JobTold, WorkerOrders

#: Who asks a suspended or stopped endpoint hears that it is one after so long, and not after a whole hold.
HOLD_INACTIVE_S = 1.0
#: So many may wait at one endpoint.
WAITERS_MAX = 100_000
#: Ends of requests that one event takes in; all else waits for so long.
FINISHED_AT_ONCE = 1_000

_TAKEN = Success()

log = logging.getLogger(__name__)


class ClientApi:
    """The handlers of clients' and workers' calls."""

    def __init__(
        self,
        driver: AsyncDriver,
        client_auth: ClientAuth,
        signer: Signer,
        worker_auth: WorkerAuth,
        numbers: RequestNumbers,
        drains: Drains,
        orders: OrdersToWorkers,
        on_jobs: Callable[[int, list[JobTold]], Awaitable[None]],
        refusals: Refusals,
        held_calls: HeldCalls,
    ) -> None:
        """Takes what its handlers use.

        Args:
            driver: feeds the core.
            client_auth: tells clients by their keys.
            signer: signs workers' URLs.
            worker_auth: identifies workers.
            numbers: gives numbers to requests.
            drains: the workers that an operator has drained.
            orders: what operators ask of workers.
            on_jobs: called with what sessions are for, as their consumers say.
            refusals: counts and bounds what is refused.
            held_calls: whose calls are held.
        """
        self._orders = orders
        self._on_jobs = on_jobs
        self._driver = driver
        self._client_auth = client_auth
        self._signer = signer
        self._worker_auth = worker_auth
        self._worker_clocks = WorkerClocks()
        self._pace = MessagePace(driver.now)
        self._numbers = numbers
        self._drains = drains
        self._refusals = refusals
        self._held_calls = held_calls
        self._reqnum = int(time.time() * 1000)  # noqa: TID251 - unique over restarts is all it must be

    # --------------------------------------------------------------------------------------------------------- clients

    async def route(self, request: web.BaseRequest) -> web.Response:
        """Answers with a worker as soon as there is one, or WAITING after some seconds."""
        ask = decode(RouteRequest, await read(request))
        endpoint = self._client_auth.check(ask.api_key or bearer(request), ask.endpoint)
        prove(request, f"endpoint {endpoint.endpoint_id}")
        driver, address = self._driver, request.remote or ""
        request_idx = self._number(ask.request_idx, endpoint, address)
        is_active = endpoint.parameters.state is EndpointState.ACTIVE
        at_most_s = headers.read_hold_at_most(request.headers.get(headers.HOLD_AT_MOST))
        hold_s = min(HOLD_S if is_active else HOLD_INACTIVE_S, at_most_s)
        with self._held_calls.one_more(endpoint.endpoint_id, address) as is_held:
            answer = await driver.ask(
                endpoint.endpoint_id, request_idx, ask.cost, ask.replay_timeout, hold_s if is_held else 0.0
            )
        worker = views.worker_ref(driver.engine, answer.worker_id) if isinstance(answer, Grant) else None
        if isinstance(answer, Grant) and worker is not None:
            return reply(self._ready(endpoint, answer, worker))
        if isinstance(answer, Refuse):
            raise NotFoundError(f"Request {request_idx} gets no worker: {answer.reason}.")
        reason = explain.why_waiting(driver.engine, request_idx)
        return reply(RouteWaiting(request_idx, endpoint.name, reason=reason))

    def _number(self, request_idx: int, endpoint: EndpointEntry, address: str) -> int:
        """The number of a request that asks with ``request_idx``: that one, or a new one for 0."""
        if request_idx:
            if not self._numbers.has_given(request_idx):
                self._refusals.wrong_number(endpoint.endpoint_id, address)
                raise WireError("request_idx", "request_idx is none that this engine gave; begin with 0.")
            self._refusals.check_number(endpoint.endpoint_id, request_idx, address)
            return request_idx
        if views.waiting(self._driver.engine, endpoint.endpoint_id) >= WAITERS_MAX:
            self._refusals.count(Kind.WAITER, address)
            raise TooManyError(f"{WAITERS_MAX} wait at endpoint {endpoint.name} already; ask again later.")
        request_idx = self._numbers.new()
        self._refusals.gave_number(request_idx, address)
        return request_idx

    def _ready(self, endpoint: EndpointEntry, granted: Grant, worker: WorkerRef) -> RouteReady:
        self._reqnum += 1
        token = grants.issue(
            self._worker_auth.token_of(worker),
            worker.worker_id,
            granted.url,
            granted.request_idx,
            granted.expires_in_s,
            time.time(),  # noqa: TID251 - for workers that tell of no clock of their own
            self._worker_clocks.read(worker.worker_id, self._driver.now()),
        )
        return RouteReady(
            granted.request_idx,
            endpoint.name,
            granted.url,
            self._signer.sign_url(granted.url),
            granted.cost,
            self._reqnum,
            grant=token,
        )

    # --------------------------------------------------------------------------------------------------------- workers

    async def pubkey(self, _request: web.BaseRequest) -> web.Response:
        """The key that signatures are checked with, and what this engine takes beyond Vast's wire."""
        answer = Reply(text=self._signer.public_pem, content_type="text/plain")
        answer.headers[headers.FEATURES] = f"{headers.PROMPT_REPORTS}, {headers.GRANTS}"
        return answer

    async def worker_status(self, request: web.BaseRequest) -> web.Response:
        """Takes a worker's report in."""
        return await self._take(request, WorkerStatus, self._take_status)

    async def _take_status(self, status: WorkerStatus, sender: _Sender) -> WorkerOrders | None:
        try:
            worker = self._worker_auth.authentic(status.id, status.mtoken)
        except WorkerGoneError:
            await self._has_its_turn(status.id, sender)
            # If it holds something, it is not to be destroyed.
            self._driver.handle(self._reported(status, sender))
            raise
        await self._has_its_turn(status.id, sender)
        if status.url:
            _check_url(status.url, worker.url, self._driver.addresses.get(status.id, ""))
        if status.clock:
            self._worker_clocks.heard(status.id, WorkerTime(status.clock, status.clock_s), self._driver.now())
        self._driver.handle(self._drains.applied(self._reported(status, sender)))
        if status.jobs:
            await self._on_jobs(status.id, status.jobs)
        done = status.orders_done
        return self._orders.heard(status.id, None if isinstance(done, UnsetType) else done) if status.seq else None

    async def delete_requests(self, request: web.BaseRequest) -> web.Response:
        """Takes in what a worker is done with."""
        return await self._take(request, DeleteRequests, self._take_finished)

    def _reported(self, status: WorkerStatus, sender: _Sender) -> WorkerReported:
        listed = status.working_request_idxs
        taken = listed_within(listed, views.held(self._driver.engine, status.id))
        if len(taken) < len(listed):
            self._refusals.count(Kind.LISTED, sender.address, len(listed) - len(taken))
        return _reported(status, taken)

    async def _has_its_turn(self, worker_id: int, sender: _Sender) -> None:
        """Waits until a message of the worker's has its turn: one that sends few never waits.

        Raises:
            TooManyError: others of its messages wait already.
        """
        self._check_pace(worker_id, sender)
        wait_s = self._pace.take(worker_id, len(sender.body))
        if wait_s > 0:
            await asyncio.sleep(wait_s)

    def _check_pace(self, worker_id: int, sender: _Sender) -> None:
        wait_s = self._pace.wait_s(worker_id)
        if wait_s > WAIT_MAX_S:
            self._refusals.count(Kind.MESSAGE, sender.address)
            raise TooManyError("This worker sends more than the engine takes in; send fewer messages.", wait_s)

    async def _take_finished(self, done: DeleteRequests, sender: _Sender) -> None:
        self._worker_auth.authentic(done.worker_id, done.mtoken)
        held = views.held(self._driver.engine, done.worker_id)
        self._pace.give_back(done.worker_id, len({end.request_idx for end in done.requests if end.request_idx in held}))
        await self._has_its_turn(done.worker_id, sender)
        ends = ends_within(done.requests, views.held(self._driver.engine, done.worker_id))
        if len(ends) < len(done.requests):
            self._refusals.count(Kind.END, sender.address, len(done.requests) - len(ends))
        for first in range(0, max(len(ends), 1), FINISHED_AT_ONCE):
            some = ends[first : first + FINISHED_AT_ONCE]
            requests = tuple(Finished(r.request_idx, r.status, r.entered_queue_at or 0.0) for r in some)
            self._driver.handle(RequestsFinished(done.worker_id, requests))
            if len(some) == FINISHED_AT_ONCE:
                await asyncio.sleep(0)  # others have their turn

    async def _take(
        self,
        request: web.BaseRequest,
        kind: type[tolerant.MessageT],
        take: Callable[[tolerant.MessageT, _Sender], Awaitable[WorkerOrders | None]],
    ) -> web.Response:
        """Takes in a worker's message; one that is refused is still a sign of life of its sender.

        Args:
            request: the request.
            kind: the message's type.
            take: takes it in, if it is authentic.
        """
        sender = _Sender(self._worker_auth, request)
        try:
            body = await read_from_worker(request, lambda head: self._may_send_much(sender, head))
            if body is None:
                return self._dropped(kind, sender)
            sender.body = body
            message = tolerant.decode_tolerantly(kind, body, sender.is_proven)
            self._worker_auth.check_certificate(request, _sender_of(message))
            told = await take(message, sender)
        except Exception as error:
            self._refused(error, sender)
            if sender.worker_id:
                prove(request, f"worker {sender.worker_id}", is_worker=True)
            raise
        prove(request, f"worker {_sender_of(message)}", is_worker=True)
        return reply(_TAKEN if told is None else told)

    def _may_send_much(self, sender: _Sender, head: bytes) -> bool:
        is_proven = sender.proves(head)
        if is_proven:
            self._check_pace(sender.worker_id, sender)
        return is_proven

    def _dropped(self, kind: type[WorkerStatus | DeleteRequests], sender: _Sender) -> web.Response:
        """A message that is too long even for a worker's."""
        worker_id = sender.worker_id
        self._pace.take(worker_id, WORKER_BODY_BYTES_MAX)
        if kind is WorkerStatus:
            raise TooLargeError(f"The report has more than {WORKER_BODY_BYTES_MAX} bytes.")
        # Refused, it would be sent again, longer each time. Its worker's reports say what has ended, too.
        log.warning(
            "worker %d is done with more requests than one message may list (%d bytes); its reports tell which",
            worker_id,
            WORKER_BODY_BYTES_MAX,
        )
        self._driver.report(ReportRefused(worker_id, "the list of its finished requests is too long"))
        return reply(_TAKEN)

    def _refused(self, error: Exception, sender: _Sender) -> None:
        """Has the core know that the sender of a refused message lives, if it is an authentic worker."""
        with contextlib.suppress(WireError):
            if sender.is_proven() and self._pace.tells_refusal(sender.worker_id):
                is_theirs = isinstance(error, WireError)
                reason = str(error) if is_theirs else f"the engine failed at it ({described(error)})"
                self._driver.report(ReportRefused(sender.worker_id, reason))


class _Sender:
    """Who sent a message that could not be taken as it is: found only then, in the beginning of the message."""

    __slots__ = ("_auth", "_request", "address", "body", "worker_id")

    def __init__(self, auth: WorkerAuth, request: web.BaseRequest) -> None:
        self._auth = auth
        self._request = request
        self.address = request.remote or ""
        self.body = b""
        self.worker_id = 0  # once it is proven

    def is_proven(self) -> bool:
        """Whether it is an authentic worker.

        Raises:
            WireError: the sender claims to be one, and is not.
        """
        return self.worker_id > 0 or self.proves(self.body)

    def proves(self, head: bytes) -> bool:
        """As `is_proven`, by the beginning of the body."""
        claim = tolerant.sender(head)
        if claim is not None:
            self._auth.check_certificate(self._request, claim[0])
            with contextlib.suppress(WorkerGoneError):
                self._auth.authentic(*claim)
            self.worker_id = claim[0]
        return claim is not None


def _sender_of(message: WorkerStatus | DeleteRequests) -> int:
    return message.id if isinstance(message, WorkerStatus) else message.worker_id


def _reported(status: WorkerStatus, request_idxs: tuple[int, ...]) -> WorkerReported:
    return WorkerReported(
        status.id,
        status.url or "",
        bool(status.loadtime) and status.max_perf > 0,
        from_others((status.error_msg or "")[:2_000])[:2_000],
        status.max_perf,
        status.cur_load,
        request_idxs,
        status.num_requests_recieved,
        status.seq,
        status.loadtime or 0.0,
    )


def _check_url(url: str, before: str, address: str) -> None:
    """A worker's URL is what clients will be sent to: nothing but scheme, host and port, and those that are its own.

    ``address`` is where its fleet has it ("": it does not say), ``before`` the URL that it had until now.
    """
    if address and url.partition("://")[2].rstrip("/") != address:
        raise WireError("url", f"url is not where this worker's fleet has it, {address}.")
    if url == before:
        return
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port is not None
    except ValueError:
        good = False
    if any(not "!" <= character <= "~" for character in url):  # what URL readers disagree about
        good = False
    if not good or parts.username or parts.password or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise WireError("url", "url must be http(s)://host:port and nothing more.")
