"""All that is known of ``vastai``: its client pointed at any engine, its progress observed, its errors understood.

``vastai`` itself is used as it is. It is the one thing here that is slow to import, so this module is imported only
when a client connects.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import json
import logging
import re
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
from vastai.serverless.client import CoroutineServerless, Endpoint, RequestStatus

from nullworker.client.errors import (
    CertificateUnavailableError,
    ClientError,
    EndpointUnknownError,
    EngineRefusedError,
    EngineUnreachableError,
    KeyRefusedError,
)
from nullworker.client.retry import within
from nullworker.wire import paths

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.client.instances import Instance

__all__ = ["Endpoint", "Progress", "Sdk", "asking_as", "understand", "when_granted", "when_numbered", "while_waiting"]

CERTIFICATE_TIMEOUT_S = 15.0  # the SDK sets none of its own
#: The pause between two calls of /route/. Vast's engine answers at once, and is polled as vastai does by default; ours
#: holds the call until there is news, so that a long pause would only be time in which a free worker is not noticed.
POLL_MAX_S = {"vast": 5.0, "own": 0.2}
NO_LIMIT = 0  # of connections: a waiting reservation holds one, and the caller decides how many of those there are

WAITING_UNEXPLAINED = "no worker is free yet"
CREATING = "In Progress"
ANSWERED = frozenset({"Polling", CREATING})  # the states that the SDK enters only after an answer of the engine

#: Who wants to know why the reservation of the present task waits.
_reasons: contextvars.ContextVar[Callable[[str], None] | None] = contextvars.ContextVar("_reasons", default=None)
#: Who wants to know, before the worker is asked, which one the engine has named to the present task.
_grants: contextvars.ContextVar[Callable[[dict[str, Any]], None] | None] = contextvars.ContextVar(
    "_grants", default=None
)

#: Who wants to know under which number the engine lets the present task wait.
_numbers: contextvars.ContextVar[Callable[[int], None] | None] = contextvars.ContextVar("_numbers", default=None)

_log = logging.getLogger("nullworker.client.vastai")


class Sdk(CoroutineServerless):  # type: ignore[misc]  # vastai ships no types
    """The ``vastai`` client for one engine. The coroutine variant, because cancelling it leaves no task behind."""

    def __init__(self, instance: Instance, api_key: str) -> None:
        addresses: dict[str, str] = {}
        if instance.url is not None:
            addresses = {"autoscaler_url": instance.url, "webserver_url": instance.url}
            self.SSL_CERT_URL = instance.url + paths.ROOT_CERTIFICATE  # in vastai, no argument sets it
        super().__init__(
            api_key,
            instance=instance.name,
            connection_limit=NO_LIMIT,
            max_poll_interval=POLL_MAX_S["vast" if instance.url is None else "own"],
            **addresses,
        )
        self._label = instance.label
        # What it logs as an error is retried or raised here, in a sentence; whoever wants it all sets the level.
        if _log.level == logging.NOTSET:
            _log.setLevel(logging.CRITICAL)
        self.logger = _log

    async def get_ssl_context(self) -> ssl.SSLContext:
        """As in ``vastai``, within a time limit and with errors that say what to do."""
        try:
            context: ssl.SSLContext = await within(super().get_ssl_context(), CERTIFICATE_TIMEOUT_S)
        except aiohttp.ClientConnectorError as error:
            raise EngineUnreachableError(self._label, _trouble(error)) from error
        except (asyncio.TimeoutError, TimeoutError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise EngineUnreachableError(self._label, str(error) or "time-out") from error
        except ssl.SSLError as error:
            raise CertificateUnavailableError(self.SSL_CERT_URL, f"what is there is none: {error.reason}") from error
        except Exception as error:
            status = _status_in(str(error), _CERTIFICATE_STATUS)
            if status is not None and status >= 500:
                raise EngineUnreachableError(self._label, f"HTTP {status}") from error
            raise CertificateUnavailableError(self.SSL_CERT_URL, str(error)) from error
        return context

    async def _get_session(self) -> aiohttp.ClientSession:
        """Adds a look at what the engine answers to a waiter: the SDK keeps the reason to itself.

        Should a later ``vastai`` make its connections elsewhere, reasons are missing and all else works.
        """
        session: aiohttp.ClientSession = await super()._get_session()
        if _TRACE not in session.trace_configs:
            session.trace_configs.append(_TRACE)
        return session


class Progress(RequestStatus):  # type: ignore[misc]  # vastai ships no types
    """What the SDK is doing for one reservation, with a call at each change."""

    def __init__(self, changed: Callable[[str], None]) -> None:
        self._changed = changed
        self._status = ""
        super().__init__()

    @property
    def status(self) -> str:
        return self._status

    @status.setter
    def status(self, value: str) -> None:
        if value != self._status:
            self._status = value
            self._changed(value)


def while_waiting(tell: Callable[[str], None] | None) -> None:
    """From here on in this task, ``tell`` is called with each new reason for which the engine lets it wait."""
    if tell is None:
        return
    last = ""

    def tell_news(reason: str) -> None:
        nonlocal last
        if reason != last:
            last = reason
            tell(reason)

    _reasons.set(tell_news)


def when_granted(tell: Callable[[dict[str, Any]], None]) -> None:
    """From here on in this task, ``tell`` is called with each answer of the engine that names a worker."""
    _grants.set(tell)


def when_numbered(tell: Callable[[int], None]) -> None:
    """From here on in this task, ``tell`` is called with the number under which the engine lets it wait."""
    _numbers.set(tell)


def asking_as(endpoint: Endpoint, request_idx: int) -> Endpoint:
    """The endpoint, for one task: its first call of /route/ is made under that number, as of one who waits already.

    The SDK begins each request as a new one, which would have to wait behind all who came since.
    """
    if not request_idx:
        return endpoint
    mine = copy.copy(endpoint)
    route = mine._route  # noqa: SLF001 - it has no other; should it go, one begins anew, as without this
    first = [request_idx]

    async def numbered(cost: float = 0.0, req_idx: int = 0, timeout: float = 60.0) -> Any:
        return await route(cost=cost, req_idx=first.pop() if first and not req_idx else req_idx, timeout=timeout)

    mine._route = numbered  # noqa: SLF001 - as above
    return mine


async def _on_chunk(_session: object, _context: object, seen: aiohttp.TraceResponseChunkReceivedParams) -> None:
    tell, tell_grant, tell_number = _reasons.get(), _grants.get(), _numbers.get()
    if (tell is None and tell_grant is None and tell_number is None) or not seen.url.path.endswith(paths.ROUTE):
        return
    try:
        body = json.loads(seen.chunk)
    except ValueError:
        return
    if not isinstance(body, dict) or "request_idx" not in body:
        return
    try:
        if "url" in body:
            if tell_grant is not None:
                tell_grant(body)
            return
        if tell_number is not None and isinstance(body["request_idx"], int):
            tell_number(body["request_idx"])
        if tell is not None:
            reason = body.get("reason")
            tell(reason if isinstance(reason, str) and reason else WAITING_UNEXPLAINED)
    except Exception:
        _log.exception("a caller's own function failed")


_TRACE = aiohttp.TraceConfig()
_TRACE.on_response_chunk_received.append(_on_chunk)
_TRACE.freeze()

_STATUS = re.compile(r"HTTP (\d{3})(?: - (.*))?", re.DOTALL)
_CERTIFICATE_STATUS = re.compile(r"SSL cert: (\d{3})")
_MEND_THEMSELVES = frozenset({408, 425, 429})  # as does every 5xx


def _status_in(text: str, pattern: re.Pattern[str]) -> int | None:
    found = pattern.search(text)
    return int(found.group(1)) if found else None


def understand(error: Exception, engine: str, endpoint: str) -> ClientError | None:
    """What an exception of the SDK means for good; None when the same call may go well a moment later.

    The SDK puts the status of an answer into its message and nowhere else.
    """
    if isinstance(error, ClientError):
        return None if isinstance(error, EngineUnreachableError) else error
    if isinstance(error, (KeyError, TypeError, AttributeError, ValueError)):
        return EngineRefusedError(engine, f"its answer is not understood: {type(error).__name__}: {error}")
    found = _STATUS.search(str(error))
    if found is None:
        return None
    status, detail = int(found.group(1)), _sentence(found.group(2) or "")
    if status >= 500 or status in _MEND_THEMSELVES:
        return None
    if status in (401, 403):
        return KeyRefusedError(engine, detail)
    if status == 404:
        return EndpointUnknownError(engine, endpoint)
    return EngineRefusedError(engine, f"HTTP {status}: {detail}" if detail else f"HTTP {status}")


def reason_of(error: Exception) -> str:
    """A transport failure in a few words, without the SDK's preamble."""
    seen: BaseException | None = error
    while seen is not None:  # the SDK wraps what aiohttp raised, once or twice
        if isinstance(seen, aiohttp.ClientConnectorError):
            return _trouble(seen)
        seen = seen.__cause__ or seen.__context__
    if isinstance(error, EngineUnreachableError) and error.__cause__ is not None:
        return str(error.__cause__) or "time-out"
    return str(error).removeprefix("Failed to route endpoint: ").removeprefix("Failed to get endpoints:\nReason=")


def _trouble(error: aiohttp.ClientConnectorError) -> str:
    """Why no connection came about, in words; asyncio has only the address for some."""
    if isinstance(error.os_error, ConnectionRefusedError):
        return "connection refused"
    return error.os_error.strerror or str(error)


def _sentence(body: str) -> str:
    """The ``msg`` of an error body, else the body itself."""
    try:
        parsed: Any = json.loads(body)
    except ValueError:
        return body
    if isinstance(parsed, dict):
        return str(parsed.get("msg") or parsed.get("error") or body)
    return body
