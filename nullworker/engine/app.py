"""The engine's HTTP surface: one table of paths, and one way in which every refusal is answered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from aiohttp import web

from nullworker.engine.http import BODY_BYTES_MAX, refusal, reply
from nullworker.wire.errors import NotFoundError, WireError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nullworker.engine.openapi import Route

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger(__name__)


class MethodError(WireError):
    """The path is known, the method is not one of its own."""

    status = 405
    error = "method_not_allowed"


def build_app(routes: Iterable[Route], handlers: dict[str, Handler]) -> web.Application:
    """An application that serves each route by the handler of its name; all else is refused in the same shape."""
    app = web.Application(client_max_size=BODY_BYTES_MAX)
    methods: dict[str, set[str]] = {}
    for route in routes:
        # What is written {id} takes digits alone, few enough for a number of 53 bits.
        path = route.path.replace("{id}", r"{id:[0-9]{1,15}}")
        app.router.add_route(route.method, path, _guarded(handlers[route.handler]))
        methods.setdefault(path, set()).add(route.method)
    for path, known in methods.items():
        app.router.add_route("*", path, _guarded(_refuse_method(known)))
    app.router.add_route("*", "/{anything:.*}", _guarded(_nowhere))
    return app


def _guarded(handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except WireError as error:
            return refusal(error)
        except web.HTTPException:
            raise
        except Exception:
            log.exception("a fault of the engine's own at %s %s", request.method, request.path)
            return reply(
                {"success": False, "error": "internal", "msg": "The engine failed at this; its log has more."}, 500
            )

    return guarded


def _refuse_method(known: set[str]) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        allowed = ", ".join(sorted(known))
        answer = refusal(MethodError("", f"{request.method} is not for {request.path}; it takes {allowed}."))
        answer.headers["Allow"] = allowed
        return answer

    return refuse


async def _nowhere(request: web.Request) -> web.StreamResponse:
    raise NotFoundError(f"There is nothing at {request.path[:200]}; /openapi.json lists what there is.")
