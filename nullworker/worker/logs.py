"""Logging of the worker: one handler, at the level that was asked for, with secrets taken out of every line.

The framework turns the root logger to DEBUG, logs failed signatures, and lets aiohttp log request lines, in whose query
string Vast's client sends the endpoint's key. What leaves here has none of it.
"""

from __future__ import annotations

import logging
import re

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_SECRETS = re.compile(
    r"""(?ix) \b(api_key|mtoken|master_token|signature|grant|session_auth|authorization|sig)
    (["']? \s* (?:=|:) \s* ["']? (?:bearer\s+)?) [^\s"'&,}]+"""
)
_SHORT = 6  # a token shorter than this (none, in tests) would blank out ordinary words


class _Redacting(logging.Formatter):
    def __init__(self, token: str) -> None:
        super().__init__(_FORMAT)
        self._token = token if len(token) >= _SHORT else ""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record), self._token)


def redact(line: str, token: str = "") -> str:
    """``line`` without the values of fields that hold secrets, and without ``token`` wherever it stands."""
    if token:
        line = line.replace(token, "***")
    return _SECRETS.sub(r"\1\2***", line)


def set_up(level: str, token: str) -> None:
    """Installs the handler. To be called before the framework's Worker is made, which leaves a handler as it is."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Redacting(token))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    settle(level)


def settle(level: str) -> None:
    """Sets the levels. To be called again after the framework's Worker was made, which turns the root to DEBUG."""
    logging.getLogger().setLevel(level)
    # A line for each request would be one for each status of a health checker, and holds nothing that we do not log.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(max(logging.INFO, logging.getLogger().level))
    logging.getLogger("aiohttp.server").addFilter(_is_no_strangers_fault)


def _is_no_strangers_fault(record: logging.LogRecord) -> bool:
    """False for what is not even HTTP: whoever knocks would fill the log, with what he sends in it, keys perhaps."""
    return not (record.exc_info and isinstance(record.exc_info[1], (HttpProcessingError, web.RequestPayloadError)))
