"""The engine's HTTP surface: one table of paths, and one way in which every refusal is answered.

It is served by aiohttp's low-level server, without its router: paths are looked up in a table, which takes a tenth of
the time of a report less.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from typing import TYPE_CHECKING

from aiohttp import web

from nullworker.engine.api.http import KEEPS_BODY, refusal, reply
from nullworker.engine.api.listening import note_refusal, prove
from nullworker.engine.auth.account import bearer
from nullworker.wire.errors import ForbiddenError, NotFoundError, TooManyError, UnauthorizedError, WireError
from nullworker.wire.headers import CALLBACK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nullworker.engine.api.openapi import Route
    from nullworker.engine.api.refusals import Refusals

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    #: Writes an act down: the request, what it is, and the refusal that it met (None: it was done).
    Auditor = Callable[[web.BaseRequest, str, WireError | None], None]

#: What is written {id} takes digits alone, few enough for a number of 53 bits.
_ID_PATTERN = r"[0-9]{1,15}"

#: An address that has sent too many wrong keys is answered so late: each of its connections costs little then.
WRONG_KEY_WAIT_S = 1.0

log = logging.getLogger(__name__)


class MethodError(WireError):
    """The path is known, the method is not one of its own."""

    status = 405
    error = "method_not_allowed"


class App:
    """Serves each route by the handler of its name; all else is refused in the same shape."""

    def __init__(
        self,
        routes: Iterable[Route],
        handlers: dict[str, Handler],
        audit: Auditor | None = None,
        refused: Counter[str] | None = None,
        refusals: Refusals | None = None,
        is_operators: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """Takes what it serves.

        Args:
            routes: all paths.
            handlers: what serves each, by the name that its route gives.
            audit: writes acts down; None: nothing does.
            refused: counts calls that are refused, by the code of the refusal.
            refusals: counts and bounds wrong keys; None: nothing does.
            is_operators: whether a key that a call has beside its body may be good for an operator's route.
        """
        self._refused: Counter[str] = Counter() if refused is None else refused
        self._refusals = refusals
        self._exact: dict[str, dict[str, Handler]] = {}
        patterns: dict[str, dict[str, Handler]] = {}
        for route in routes:
            table = patterns if "{id}" in route.path else self._exact
            handler = handlers[route.handler]
            if route.auth in ("account", "operator", "reader"):
                handler = _with_key(handler, is_operators)
            if route.act and audit is not None:
                handler = _audited(handler, route.act, audit)
            table.setdefault(route.path, {})[route.method] = handler
        self._patterns = [
            (re.compile(re.escape(path).replace(r"\{id\}", _ID_PATTERN)), methods) for path, methods in patterns.items()
        ]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request."""
        try:
            methods = self._methods(request)
            handler = methods.get(request.method)
            if handler is None:
                return self._wrong_method(request, methods)
            return await handler(request)
        except UnauthorizedError as error:
            counted = self._counted(request, error)
            if counted is not error:
                await asyncio.sleep(WRONG_KEY_WAIT_S)
            return self._refusal(request, counted)
        except WireError as error:
            return self._refusal(request, error)
        except web.HTTPException:
            raise
        except Exception:
            log.exception("a fault of the engine's own at %s %s", request.method, request.path)
            return reply(
                {"success": False, "error": "internal", "msg": "The engine failed at this; its log has more."}, 500
            )

    def _counted(self, request: web.BaseRequest, error: WireError) -> WireError:
        """What a wrong key is answered."""
        try:
            if self._refusals is not None:
                self._refusals.wrong_key(request.remote or "")
        except TooManyError as too_many:
            return too_many
        return error

    def _methods(self, request: web.BaseRequest) -> dict[str, Handler]:
        """What serves the request's path, by method."""
        if CALLBACK in request.headers:
            raise ForbiddenError("The engine does not answer callbacks of workers.")
        return self._exact.get(request.rel_url.raw_path) or self._with_id(request)

    def _refusal(self, request: web.BaseRequest, error: WireError) -> web.Response:
        self._refused[error.error] += 1
        note_refusal(request)
        return refusal(error)

    def _wrong_method(self, request: web.BaseRequest, known: dict[str, Handler]) -> web.Response:
        allowed = ", ".join(sorted(known))
        answer = self._refusal(
            request, MethodError("", f"{request.method} is not for {request.path}; it takes {allowed}.")
        )
        answer.headers["Allow"] = allowed
        return answer

    def _with_id(self, request: web.BaseRequest) -> dict[str, Handler]:
        for pattern, methods in self._patterns:
            if pattern.fullmatch(request.rel_url.raw_path):
                return methods
        raise NotFoundError(f"There is nothing at {request.path[:200]}; /openapi.json lists what there is.")


def _audited(handler: Handler, act: str, audit: Auditor) -> Handler:
    """A handler whose calls are written down before they are answered."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        request[KEEPS_BODY] = True
        try:
            answer = await handler(request)
        except WireError as error:
            audit(request, act, error)
            raise
        audit(request, act, None)
        return answer

    return handle


def _with_key(handler: Handler, is_operators: Callable[[str], bool]) -> Handler:
    """An operator's handler: it is asked for nothing with a wrong key, and its answer shows that the key was good."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        key = bearer(request)
        if key:  # before the body is read
            if not is_operators(key):
                raise UnauthorizedError("The API key is none of this engine's for operators, or has ended.")
            prove(request, "account")
        answer = await handler(request)
        prove(request, "account")
        return answer

    return handle
