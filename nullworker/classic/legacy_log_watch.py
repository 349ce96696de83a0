"""The paths to which a classic log watch POSTs, as the old framework's own log watch did.

Such a log watch gets this server as its "control server", so that only this server reports to the engine. The paths are
accepted from this machine, with the worker's token in the body (``mtoken``), and answered as the old framework did.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

import flask

from nullworker.classic.auth_middleware import refusal
from nullworker.classic.hooks import learn
from nullworker.classic.loading import BackendError
from nullworker.wire.paths import WORKER_STATUS
from nullworker.wire.worker_side.local_requests import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from werkzeug.wrappers import Response

    from nullworker.classic.app import BackendSlot
    from nullworker.classic.loading import Handlers
    from nullworker.classic.readiness import Readiness

#: Path to the facts that it implies besides its body.
PATHS: dict[str, dict[str, object]] = {
    "/report_loading": {"loading": True},
    "/report_loaded": {"loaded": True},
    "/report_capacity": {},
    "/report_done": {},
    "/report_error": {},
    WORKER_STATUS: {},
}


def add(app: flask.Flask, handlers: Handlers, slot: BackendSlot, readiness: Readiness, token: str) -> frozenset[str]:
    """Adds the paths to an application.

    Args:
        app: the application.
        handlers: the backend's own endpoints.
        slot: has the backend's metrics.
        readiness: takes what is reported of the model.
        token: the worker's, which the callers must show.

    Returns:
        The paths.

    Raises:
        BackendError: the backend has an endpoint of such a name.
    """
    for method, named in handlers.items():
        for path in PATHS:
            if path.strip("/") in named:
                raise BackendError(
                    f"{method} {path} is the log watch's own: give the endpoint in flask_dict another name"
                )
    for path, says in PATHS.items():
        app.add_url_rule(path, f"log watch {path}", _view(says, slot, readiness, token), methods=["POST"])
    return frozenset(PATHS)


def _view(says: dict[str, object], slot: BackendSlot, readiness: Readiness, token: str) -> Callable[[], Response]:
    def view() -> Response:
        body = flask.request.json
        given = body.pop("mtoken", None) if isinstance(body, dict) else None
        if not _is_same(given, token) or not is_loopback(flask.request.remote_addr or ""):
            return refusal(401, f"{flask.request.path} is for this worker's own log watch, which knows its token")
        facts = {**body, **says}
        if slot.metrics is None:
            readiness.learn(facts)
        else:
            learn(facts, readiness, slot.metrics)
        return flask.make_response("heard\n")

    return view


def _is_same(given: object, token: str) -> bool:
    """In constant time, and whatever JSON may make of a text (a lone surrogate, say)."""
    return isinstance(given, str) and hmac.compare_digest(given.encode(errors="replace"), token.encode())
