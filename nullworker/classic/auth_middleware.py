"""WSGI middleware: checks that the engine sent the client, unwraps the client's message, and counts the request.

A request without the engine's signature is *direct*: ``curl`` on the same machine. It is accepted from programs on this
machine, and from everywhere if the operator allows it (UNSECURED, or a server without an engine on an open address).
"""

from __future__ import annotations

import io
import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response
from werkzeug.wsgi import get_path_info

from nullworker.classic import envelope as envelopes
from nullworker.classic.request_context import KEY, RequestContext
from nullworker.wire.worker_side.engine_trust import NotAuthenticError
from nullworker.wire.worker_side.local_requests import host_of, is_from_web_page, is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from nullworker.classic.in_flight import InFlightRequest, RequestStats
    from nullworker.classic.loading import Handlers
    from nullworker.classic.settings import Settings
    from nullworker.wire.worker_side.engine_trust import EngineTrust

#: With one of these a proxy on this machine passes on a request from elsewhere.
_FORWARDED = ("HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_VIA", "HTTP_X_REAL_IP")


def refusal(status: int, message: str) -> Response:
    """An answer that says what was wrong, in the form of Vast's framework."""
    return Response(json.dumps({"error": message}) + "\n", status=status, content_type="application/json")


class RefusedError(Exception):
    """The request is not accepted; ``status`` is the HTTP answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class AuthMiddleware:
    """A WSGI application around another.

    Args:
        app: the application.
        handlers: the backend's endpoints.
        settings: say which requests are accepted unsigned.
        stats: counts the signed requests.
        trust: checks signatures and grants; None without an engine.
        open_paths: paths that check their callers themselves.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        handlers: Handlers,
        settings: Settings,
        stats: RequestStats,
        trust: EngineTrust | None,
        open_paths: frozenset[str] = frozenset(),
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._settings = settings
        self._stats = stats
        self._trust = trust
        self._open_paths = open_paths

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        try:
            request = self._admit(environ)
        except (RefusedError, envelopes.EnvelopeError) as error:
            return refusal(error.status, str(error))(environ, start_response)
        except NotAuthenticError as error:
            return refusal(HTTPStatus.UNAUTHORIZED, str(error))(environ, start_response)
        context = RequestContext(self._stats, request, environ.get("waitress.client_disconnected", lambda: False))
        environ[KEY] = context
        return self._run(environ, start_response, context)

    def _run(self, environ: WSGIEnvironment, start_response: StartResponse, context: RequestContext) -> Iterable[bytes]:
        def note_status(status: str, *args: object) -> object:
            context.http_status = int(status.split(" ", 1)[0])
            return start_response(status, *args)  # type: ignore[arg-type]  # passed on as it came

        try:
            return _Body(self._app(environ, note_status), context)  # type: ignore[arg-type]  # as above
        except BaseException:
            context.verdict = "Error"
            context.close()
            raise

    def _admit(self, environ: WSGIEnvironment) -> InFlightRequest | None:
        """The counted request, or None for a direct one. Changes ``environ`` to what the handler is to see."""
        envelope = None
        if environ["REQUEST_METHOD"] == "POST" and _is_json(environ):
            body = self._body(environ)
            if len(body) > envelopes.LONG_BYTES:
                self._check_early(environ, body)
            envelope = envelopes.read(body)
        if envelope is None:
            self._check_direct(environ)
            return None
        if self._trust is not None and not self._settings.unsecured:
            self._check_sent(self._trust, envelope)
        try:
            self._unwrap(environ, envelope)
        except envelopes.EnvelopeError:
            # It is authentic: the engine must be told that it has ended.
            self._stats.end(self._stats.enter(envelope.request_idx, envelope.cost), "Error")
            raise
        return self._stats.enter(envelope.request_idx, envelope.cost)

    def _check_early(self, environ: WSGIEnvironment, body: bytes) -> None:
        """Refuses a long message of a sender that the engine did not send, before it is parsed: that takes much memory.

        Raises:
            NotAuthenticError: it is of one.
        """
        is_open = self._settings.unsecured or get_path_info(environ) in self._open_paths
        if self._trust is None or is_open or not _why_not_local(environ):
            return
        auth_data = envelopes.auth_data_of(body)
        if auth_data is None:
            raise NotAuthenticError(
                f"A body of more than {envelopes.LONG_BYTES >> 10} KiB has its auth_data in its first or last "
                f"{envelopes.LONG_BYTES >> 10} KiB, and this one has not."
            )
        self._trust.check_url(str(auth_data.get("url", "")))
        self._trust.check_signature(str(auth_data.get("url", "")), str(auth_data.get("signature", "")))

    def _check_sent(self, trust: EngineTrust, envelope: envelopes.Envelope) -> None:
        """Raises `NotAuthenticError` unless the engine sent this client to this worker."""
        trust.check_url(envelope.url)
        trust.check_signature(envelope.url, envelope.signature)
        if trust.issues_grants:
            trust.check_grant(envelope.auth_data.get("grant"), envelope.request_idx)

    def _body(self, environ: WSGIEnvironment) -> bytes:
        limit = self._settings.body_bytes_max
        body: bytes = environ["wsgi.input"].read(min(int(environ.get("CONTENT_LENGTH") or limit + 1), limit + 1))
        if len(body) > limit:
            raise RefusedError(413, f"the body is over {limit} bytes, which is the most that is accepted")
        _set_body(environ, body)
        return body

    def _check_direct(self, environ: WSGIEnvironment) -> None:
        settings = self._settings
        if settings.unsecured or get_path_info(environ) in self._open_paths:
            return
        if self._trust is None and not settings.is_loopback:
            return
        problem = _why_not_local(environ)
        if problem and self._trust is not None:
            raise RefusedError(401, f"the request is not signed by the engine, and {problem}")
        if problem:
            raise RefusedError(403, f"this server answers this machine's own programs alone, and {problem}")

    def _unwrap(self, environ: WSGIEnvironment, envelope: envelopes.Envelope) -> None:
        path = get_path_info(environ)
        method = envelopes.method_for(path.lstrip("/"), self._handlers)
        query = envelopes.without_key(environ.get("QUERY_STRING", ""))
        environ.pop("HTTP_AUTHORIZATION", None)  # the client's API key, which no handler needs
        if method == "GET":
            query = envelopes.as_query(envelope.payload)
            _set_body(environ, b"")
            environ.pop("CONTENT_TYPE", None)
        else:
            _set_body(environ, json.dumps(envelope.payload).encode())
        environ["REQUEST_METHOD"] = method
        environ["QUERY_STRING"] = query
        for raw in ("REQUEST_URI", "RAW_URI"):  # what the client really asked for, its API key included
            environ.pop(raw, None)


class _Body:
    """The answer's body; the context ends with it. If it is closed before its end, the client has gone."""

    def __init__(self, chunks: Iterable[bytes], context: RequestContext) -> None:
        self._chunks = chunks
        self._iterator = iter(chunks)
        self._context = context
        self._is_out = False

    def __iter__(self) -> _Body:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._iterator)
        except StopIteration:
            self._is_out = True
            raise
        except BaseException:  # the status line is out already; the connection breaks, and that says it
            self._context.verdict = "Error"
            raise

    def close(self) -> None:
        if not self._is_out and self._context.verdict is None:
            self._context.verdict = "Cancelled"
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        finally:
            self._context.close()


def _is_json(environ: WSGIEnvironment) -> bool:
    kind = environ.get("CONTENT_TYPE", "").split(";", 1)[0].strip().lower()
    return bool(kind == "application/json" or kind.endswith("+json"))


def _set_body(environ: WSGIEnvironment, body: bytes) -> None:
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))


def _why_not_local(environ: WSGIEnvironment) -> str:
    """Why this is no request of a program on this machine; "" where it is one.

    A web page can make a browser on this machine send requests: such a one has an Origin, or names a foreign host.
    """
    if not is_loopback(environ.get("REMOTE_ADDR", "")):
        return "it comes from elsewhere"
    if any(name in environ for name in _FORWARDED):
        return "a proxy passed it on from elsewhere"
    if is_from_web_page(environ.get("HTTP_ORIGIN"), environ.get("HTTP_SEC_FETCH_SITE"), ("none", "same-origin")):
        return "a web page sent it"
    name = host_of(environ.get("HTTP_HOST", "localhost"))
    return "" if is_loopback(name) else f"it asks for the host {name!r}"
