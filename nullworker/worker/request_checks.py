"""Checks requests from outside before the framework handles them.

In this order, and before any state is touched: size, JSON and types, signature (and grant, where the engine gives
them), then whether a session can open. The framework's own handlers do the rest.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from nullworker.wire.headers import PLACE_ENDS
from nullworker.wire.timeouts import within
from nullworker.wire.worker_side.engine_trust import NotAuthenticError
from nullworker.worker import messages
from nullworker.worker.callbacks import CallbackError
from nullworker.worker.engine_auth import GrantedSessions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nullworker.wire.grant import Grant
    from nullworker.worker.callbacks import Callbacks
    from nullworker.worker.engine_auth import EngineAuth
    from nullworker.worker.framework import Framework
    from nullworker.worker.health import Health
    from nullworker.worker.place_notice import PlaceNotice
    from nullworker.worker.sessions import HeldSession, SessionTable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)

_BODY_TIMEOUT_S = 10.0
_LOG_EVERY_S = 10.0
#: For so long the answer that names a session may have been lost, and its client may ask again with a newer grant.
#: Vast's client gives an answer up after 10 s and asks the engine again within 5 s.
ANSWER_LOST_S = 30.0
HELD = "This worker is held by another reservation."
ENDING = "The consumer of the previous reservation has not ended yet."


class RefusedError(Exception):
    """A request that is answered with an error; the message is one sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RequestChecks:
    """Wraps the framework's handlers.

    Args:
        framework: the worker whose handlers are wrapped.
        engine_auth: checks what the engine has signed.
        callbacks: checks the URLs that are to be called when a session ends.
        health: a broken worker opens no session.
        place: what is known of the worker's end by its place: answers have it.
        vacant: waits until the worker can be held again, and returns whether it can.
    """

    def __init__(
        self,
        framework: Framework,
        *,
        engine_auth: EngineAuth,
        callbacks: Callbacks,
        health: Health,
        vacant: Callable[[], Awaitable[bool]],
        place: PlaceNotice,
    ) -> None:
        self._place = place
        self._framework = framework
        self._sessions: SessionTable = framework.sessions
        self._engine_auth = engine_auth
        self._grants = GrantedSessions()
        self._callbacks = callbacks
        self._health = health
        self._vacant = vacant
        self._refusal_logged_at = -_LOG_EVERY_S
        self.closed = False  # set when the worker is about to end

    def install(self) -> None:
        """Puts the checks before the framework's handlers, which it looks up when its server starts."""
        backend = self._framework.backend
        create: Handler = backend.session_create_handler
        backend.session_create_handler = self._answering(lambda request, body: self._create(request, body, create))
        for name in ("session_end_handler", "session_get_handler", "session_health_handler"):
            setattr(backend, name, self._answering(self._checked(getattr(backend, name))))
        update: Handler = backend.pyworker_update_handler
        backend.pyworker_update_handler = lambda request: self._update(request, update)
        # Read when the server starts, as the handlers above are.
        self._framework.wrap_ping(lambda ping: self._answering(lambda request, body: self._ping(request, body, ping)))

    # ------------------------------------------------------------------------------------------------------ opening

    async def _create(self, request: web.Request, body: dict[str, Any], create: Handler) -> web.StreamResponse:
        wanted = messages.create(body, signed=not self._framework.unsecured)
        grant = await self._authenticate(wanted.auth)
        if wanted.on_close_route is not None:
            await self._callbacks.check(wanted.on_close_route)
        again = self._same_session(wanted.auth, grant)
        if again is not None:
            return again
        try:
            await self._wait_for_room()
        except RefusedError:
            self._framework.count_refusal(wanted.auth.data)
            raise
        # Another request may have opened the session meanwhile; from here on nothing waits.
        again = self._same_session(wanted.auth, grant)
        if again is not None:
            return again
        with self._sessions.opening_with(body["payload"].get("on_close_payload")):
            answer = await create(request)
        session = self._sessions.of_request(wanted.auth.request_idx)
        if answer.status == 201 and session is not None:
            self._remember(grant, session)
        elif answer.status == 429:
            self._framework.notify()  # the framework has counted the refusal
            raise RefusedError(429, HELD)
        return answer

    async def _authenticate(self, auth: messages.Auth) -> Grant | None:
        """Raises NotAuthenticError unless the engine sent this client here."""
        if self._framework.unsecured:
            return None
        await self._engine_auth.check_signed(auth)
        trust = self._engine_auth.trust
        return trust.check_grant(auth.grant, auth.request_idx) if trust.issues_grants else None

    def _same_session(self, auth: messages.Auth, grant: Grant | None) -> web.Response | None:
        """The answer to a request that has its session already: the one before was lost on its way."""
        session_id = self._grants.session_of(grant) if grant is not None else None
        if session_id is not None and session_id not in self._sessions:
            raise RefusedError(410, "The session of this grant has ended; ask the engine for another worker.")
        session = self._sessions.of_request(auth.request_idx)
        if session is None:
            return None
        if session.session_id != session_id and session.auth_data != auth.data:
            # All that this one shows is the request's number, which is short enough to be guessed.
            if session.is_confirmed or session.age_s > ANSWER_LOST_S:
                raise RefusedError(409, "This request's session is its opener's, and it runs; begin a new request.")
            # The holder ends its session with the auth_data that it was given last.
            session.auth_data = auth.data
        self._remember(grant, session)
        return web.json_response({"session_id": session.session_id, "expiration": session.expiration}, status=201)

    def _remember(self, grant: Grant | None, session: HeldSession) -> None:
        if grant is not None:
            self._grants.opened(grant, session.session_id, time.monotonic())

    async def _wait_for_room(self) -> None:
        """Waits until the previous reservation and its consumer have ended.

        Raises:
            RefusedError: it has not ended, or the worker opens no sessions.
        """
        self._check_open()
        # While there is a holder the framework refuses, and counts it.
        if self._sessions.held is None and not await self._vacant():
            raise RefusedError(429, ENDING)
        self._check_open()

    def _check_open(self) -> None:
        if self.closed:
            raise RefusedError(503, "This worker is ending.")
        if self._health.error:
            raise RefusedError(503, f"This worker is broken: {self._health.error}")

    # ------------------------------------------------------------------------------------------------------ the rest

    async def _ping(self, request: web.Request, body: dict[str, Any], ping: Handler) -> web.StreamResponse:
        """Keeps a session alive. Outside a session it is a request as any, which the framework answers."""
        wanted = messages.ping(body, signed=not self._framework.unsecured)
        if wanted.session_id is None:
            await self._authenticate(wanted.auth)
            return await ping(request)
        if not self._framework.unsecured:
            await self._engine_auth.check_signed(wanted.auth)
        session = self._sessions.get(wanted.session_id)
        if session is None:
            raise RefusedError(410, "There is no such session; it has ended.")
        if session.auth_data != wanted.auth.data:
            raise NotAuthenticError("auth_data is not that of the session's holder.")
        session.is_confirmed = True
        session.extend()
        return web.json_response({"result": {"ok": True, "expiration": session.expiration}})

    def _checked(self, handler: Handler) -> Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]:
        async def checked(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
            messages.held(body)
            session = self._sessions.get(body["session_id"])
            answer = await handler(request)
            if session is not None and answer.status == HTTPStatus.OK:
                session.is_confirmed = True
            return answer

        return checked

    async def _update(self, request: web.Request, update: Handler) -> web.StreamResponse:
        """The framework compares with an empty token, too, and not in constant time."""
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = self._framework.token
        # A header's bytes, whatever they are: aiohttp makes surrogates of what is no UTF-8.
        if not token or not hmac.compare_digest(given.encode(errors="surrogateescape"), token.encode()):
            return _error(401, "The worker's token is needed to update it, and this request has none or another.")
        return await update(request)

    def _log_refusal(self, request: web.Request, error: NotAuthenticError) -> None:
        """Logs at most once every `_LOG_EVERY_S`, so that repeated bad requests do not fill the disk."""
        now_s = time.monotonic()
        if now_s - self._refusal_logged_at >= _LOG_EVERY_S:
            self._refusal_logged_at = now_s
            log.warning("%s from %s refused: %s", request.path, request.remote, error)

    def _answering(self, handle: Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]) -> Handler:
        """Reads the body within its bounds, and turns what is raised into an answer."""

        async def answering(request: web.Request) -> web.StreamResponse:
            try:
                bounded = request.clone(client_max_size=messages.BODY_BYTES_MAX)
                answer = await handle(bounded, messages.read_object(await _body(bounded)))
                if self._place.header and not answer.prepared:
                    answer.headers[PLACE_ENDS] = self._place.header
                return answer
            except (messages.BadMessageError, CallbackError) as error:
                return _error(400, str(error))
            except NotAuthenticError as error:
                self._log_refusal(request, error)
                return _error(401, str(error))
            except RefusedError as error:
                return _error(error.status, str(error))

        return answering


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > messages.BODY_BYTES_MAX:
        raise RefusedError(413, f"The body is larger than {messages.BODY_BYTES_MAX} bytes.")
    try:
        # Otherwise a client that sends half a body would be waited for without an end.
        return await within(request.read(), _BODY_TIMEOUT_S)
    except web.HTTPRequestEntityTooLarge:
        raise RefusedError(413, f"The body is larger than {messages.BODY_BYTES_MAX} bytes.") from None
    except web.RequestPayloadError:
        raise RefusedError(400, "The body is not what its Content-Encoding or Transfer-Encoding says.") from None
    except asyncio.TimeoutError:
        raise RefusedError(408, f"The body did not arrive within {_BODY_TIMEOUT_S:g} s.") from None


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": message}, status=status)
