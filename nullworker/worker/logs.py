"""Logging of the worker: one handler, at the level of LOG_LEVEL, with secrets masked in every line.

The framework sets the root logger to DEBUG, logs failed signatures, and lets aiohttp log request lines, in whose query
string Vast's client sends the endpoint's key.
"""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nullworker.wire.output import ThreadHandler
from nullworker.wire.printable import printable
from nullworker.wire.redaction import hide, redact
from nullworker.wire.secret import Secret

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Redacting(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        """The line itself; a traceback has lines of its own."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def set_up(level: str, token: str) -> None:
    """Installs the handler. To be called before the framework's Worker is made, which leaves a handler as it is."""
    handler = ThreadHandler()
    hide(Secret(token))
    handler.setFormatter(_Redacting(_FORMAT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    settle(level)


def settle(level: str) -> None:
    """Sets the levels. To be called again after the framework's Worker was made, which turns the root to DEBUG."""
    logging.getLogger().setLevel(level)
    # One line for each request is one for each health check, and says nothing that is not logged elsewhere.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(max(logging.INFO, logging.getLogger().level))
    logging.getLogger("aiohttp.server").addFilter(_is_not_bad_http)


def _is_not_bad_http(record: logging.LogRecord) -> bool:
    """False for errors in a peer's HTTP: port scans would fill the log, with what was sent in it, which may be keys."""
    return not (record.exc_info and isinstance(record.exc_info[1], (HttpProcessingError, web.RequestPayloadError)))
