"""The Flask application that ``flask_dict`` describes: each handler is called as ``handler(backend, request)``.

An error in one request is that request's answer, in JSON with one sentence; the server goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NoReturn

import flask
from werkzeug.exceptions import (
    BadRequest,
    BadRequestKeyError,
    HTTPException,
    MethodNotAllowed,
    NotFound,
    UnsupportedMediaType,
)

from nullworker.classic.auth_middleware import refusal
from nullworker.classic.fair_lock import ClientGoneError, ClosedError, FairLock
from nullworker.classic.request_context import KEY, RequestContext

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

    from nullworker.classic.hooks import Metrics
    from nullworker.classic.loading import Handler, LoadedBackend

log = logging.getLogger(__name__)

CLIENT_CLOSED = 499  # as the framework; the client has hung up and does not see it


class BackendSlot:
    """Holds the backend object once it is made; before that, requests are answered with 503."""

    def __init__(self, handler_lock: FairLock) -> None:
        self.handler_lock = handler_lock
        self.backend: Any = None
        self.metrics: Metrics | None = None  # set with the backend

    def enter(self, backend: object, metrics: Metrics) -> None:
        """The backend is made: requests go through from now on."""
        self.metrics = metrics
        self.backend = backend


class ClassicRequest(flask.Request):
    """Flask's request, with errors that say what was wrong with the body."""

    def on_json_loading_failed(self, e: ValueError | None) -> NoReturn:
        """What ``request.json`` does with a body that is none."""
        if e is None:
            raise UnsupportedMediaType(
                f"the body of {self.method} {self.path} is not declared as JSON: send Content-Type: application/json"
            )
        raise BadRequest(f"the body of {self.method} {self.path} is not JSON: {e}")


def build(loaded: LoadedBackend, slot: BackendSlot, body_bytes_max: int) -> flask.Flask:
    """Makes the application; it expects `auth_middleware` before it.

    Args:
        loaded: the backend's folder, imported.
        slot: where the backend object will be.
        body_bytes_max: the largest body that is accepted.
    """
    app = flask.Flask(loaded.name, root_path=str(loaded.folder), static_folder=None)
    app.request_class = ClassicRequest
    app.config["MAX_CONTENT_LENGTH"] = body_bytes_max
    app.config["MAX_FORM_MEMORY_SIZE"] = body_bytes_max
    for method, named in loaded.handlers.items():
        for name, handler in named.items():
            label = f"{method} /{name}"
            app.add_url_rule(f"/{name}", label, _view(app, label, handler, slot), methods=[method])
    app.register_error_handler(HTTPException, _explainer(loaded))
    return app


def _view(app: flask.Flask, label: str, handler: Handler, slot: BackendSlot) -> Callable[[], Response]:
    def view() -> Response:
        context: RequestContext = flask.request.environ[KEY]
        if slot.backend is None or slot.metrics is None:
            context.verdict = "Rejected"
            return refusal(503, "the backend is still loading: ask again soon")
        try:
            release = slot.handler_lock.acquire(context.is_gone)
        except ClientGoneError:
            context.verdict = "Cancelled"
            return refusal(CLIENT_CLOSED, "the client hung up while it waited")
        except ClosedError:
            context.verdict = "Rejected"
            return refusal(503, "the server ends: ask the engine for another worker")
        context.at_end(release)
        context.started()
        measured = slot.metrics.begin(flask.request.get_json(silent=True) if flask.request.is_json else None)
        context.at_end(lambda: measured.end(ok=context.is_ok))
        response = _call(app, label, handler, slot.backend)
        if not response.is_streamed:
            # The handler has returned. A client that reads slowly must not delay the next request.
            context.http_status = response.status_code
            measured.end(ok=context.is_ok)
            release()
        return response

    return view


def _call(app: flask.Flask, label: str, handler: Handler, backend: object) -> Response:
    """The handler's answer as a response, or one that says how it failed."""
    request = flask.request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask documents it: a handler may hand it to a thread
    try:
        return app.make_response(handler(backend, request))
    except HTTPException:
        raise  # abort(), or a body that is not what the handler asked for
    except (Exception, SystemExit) as error:
        log.exception("the handler of %s raised; the others go on", label)
        kind = "returned what is no answer" if _is_bad_return(error) else f"raised {type(error).__name__}"
        return refusal(500, f"the handler of {label} {kind}; the server's log has the details")


def _is_bad_return(error: BaseException) -> bool:
    """Flask raises a TypeError of its own for a handler's None, number and the like."""
    return isinstance(error, TypeError) and "view function" in str(error)


def _explainer(loaded: LoadedBackend) -> Callable[[HTTPException], Response]:
    def explain(error: HTTPException) -> Response:
        if error.response is not None:
            return flask.make_response(error.response)  # abort(response): the handler's own
        request = flask.request
        message = error.description or error.name
        if isinstance(error, NotFound) and request.url_rule is None:
            message = f"there is no endpoint {request.path}: {loaded.name} has {loaded.endpoints}"
            if request.path.startswith("/session/"):
                message = f"there is no endpoint {request.path}: a classic backend offers no sessions, only requests"
        elif isinstance(error, MethodNotAllowed):
            takes = [m for m, named in loaded.handlers.items() if request.path.lstrip("/") in named]
            message = f"{request.path} takes {' and '.join(takes)}, not {request.method}"
        elif isinstance(error, BadRequestKeyError) and error.args:
            message = f"{request.method} {request.path} lacks {error.args[0]!r}"
        answer = refusal(error.code or 500, message)
        for name, value in error.get_headers(request.environ):
            if name not in ("Content-Type", "Content-Length"):
                answer.headers[name] = value
        return answer

    return explain
