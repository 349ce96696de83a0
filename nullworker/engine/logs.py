"""The engine's log: lines of JSON in ``engine.log``, one line for people on a terminal, and no secret in either.

A log call gives a sentence and, in ``extra``, a machine word ``action`` with its subject (``worker_id``, …).
Writing happens on a thread of its own, so that a slow disk or terminal holds nothing else up; what it cannot keep up
with is dropped and counted.
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import json
import logging
import logging.handlers
import math
import os
import queue
import sys
from typing import IO, TYPE_CHECKING

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from nullworker.engine.state_dir import StateError, open_state_dir
from nullworker.wire.printable import printable
from nullworker.wire.redaction import redact, redacted

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path

LOG_FILE = "engine.log"
FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_KEPT = 5  # beside the one that is written
LINES_WAITING_MAX = 20_000

#: What every record has; anything else on it came by ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON: ``at``, ``level``, ``logger``, ``message``, the extras, and ``error``."""

    def format(self, record: logging.LogRecord) -> str:
        """Never raises: a value that JSON cannot express becomes text."""
        line: dict[str, object] = {
            "at": _at(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                line[name] = _finite(redacted(value, name))
        error = _error(record)
        if error:
            line["error"] = error
        return json.dumps(line, ensure_ascii=True, allow_nan=False)


class LineFormatter(logging.Formatter):
    """One record as a line for people: the time, the level where it matters, the sentence."""

    def format(self, record: logging.LogRecord) -> str:
        """Newlines and other control characters in the sentence are shown, not obeyed."""
        level = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        text = printable(redact(f"{_subject(record)}{record.getMessage()}"))
        line = f"{_at(record).astimezone():%H:%M:%S} {level}{text}"
        error = _error(record)
        if error:
            line += "".join(f"\n    {printable(part)}" for part in error.splitlines())
        return line


def _subject(record: logging.LogRecord) -> str:
    """What a decision is about, and what was decided: "worker 7 of null-prod: grant: "; else nothing."""
    about = vars(record)
    if "cause" not in about:  # no decision, whose sentence says it by itself
        return ""
    worker, endpoint, request = about.get("worker_id"), about.get("endpoint", ""), about.get("request_idx")
    words = [f"worker {worker}" if worker else f"request {request}" if request else "", str(endpoint or "")]
    subject = " of ".join(word for word in words if word)
    return f"{subject}: {str(about.get('action', '')).replace('_', ' ')}: " if subject else ""


def configure(state_dir: Path, level: str = "info", stream: IO[str] | None = None) -> None:
    """Sends every log of this process to ``engine.log`` in ``state_dir`` and to ``stream``, and nowhere else.

    On a terminal the stream gets lines for people, else lines of JSON. A state directory that cannot be used is left
    alone here; the engine itself reports what is wrong with it.

    Args:
        state_dir: made where it is missing.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        stream: None: the standard error.
    """
    close()
    stream = stream or sys.stderr
    shown = logging.StreamHandler(stream)  # noqa: TID251 - behind a queue
    shown.setFormatter(LineFormatter() if stream.isatty() else JsonFormatter())
    handlers: list[logging.Handler] = [shown]
    with contextlib.suppress(StateError):
        handlers.append(_File(open_state_dir(state_dir) / LOG_FILE))
    waiting: queue.Queue[logging.LogRecord] = queue.Queue(LINES_WAITING_MAX)
    listener = _Writer(waiting, *handlers)
    queue_input = _QueueInput(waiting, listener, handlers)
    listener.start()
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.addHandler(queue_input)
    logging.getLogger("asyncio").setLevel(max(root.level, logging.INFO))
    logging.getLogger("aiohttp.server").addFilter(_is_not_a_clients_error)


def close() -> None:
    """Writes what is left and takes down what `configure` set up; without that, does nothing."""
    for handler in list(logging.getLogger().handlers):
        if isinstance(handler, _QueueInput):
            logging.getLogger().removeHandler(handler)
            handler.close()


def _is_not_a_clients_error(record: logging.LogRecord) -> bool:
    """False for what is not HTTP: any client could fill the log with what it sends, perhaps with keys in it."""
    return not (record.exc_info and isinstance(record.exc_info[1], (HttpProcessingError, web.RequestPayloadError)))


class _Writer(logging.handlers.QueueListener):
    """Its thread writes what is queued."""

    def enqueue_sentinel(self) -> None:
        """Has the thread end after what is queued; where the queue is full, waits for a place in it."""
        self.queue.put(self._sentinel)  # type: ignore[attr-defined]  # logging's own, which its types leave out


class _QueueInput(logging.handlers.QueueHandler):
    """Queues records for the listener's thread, which writes them."""

    def __init__(
        self,
        waiting: queue.Queue[logging.LogRecord],
        listener: logging.handlers.QueueListener,
        handlers: list[logging.Handler],
    ) -> None:
        super().__init__(waiting)
        self._writer = listener
        self._handlers = handlers
        self._dropped = 0

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Formats the sentence now, on the caller's thread; its extras and its traceback stay beside it."""
        record = copy.copy(record)
        record.msg, record.args = record.getMessage(), None
        if record.exc_info:
            record.exc_text = record.exc_text or logging.Formatter().formatException(record.exc_info)
            record.exc_info = None
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        """Drops the record where the writer is too far behind; how many were dropped is logged once there is room."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self._dropped += 1
            return
        if self._dropped:
            text = f"{self._dropped} lines of the log were dropped: disk or terminal do not keep up"
            note = logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, None, None)
            note.action = "log_dropped"
            try:
                self.queue.put_nowait(note)
                self._dropped = 0
            except queue.Full:
                pass

    def close(self) -> None:
        """Writes what waits, and closes the file; at the end of the process `logging` itself sees to that."""
        self._writer.stop()
        for handler in self._handlers:
            handler.close()
        super().close()


class _File(logging.handlers.RotatingFileHandler):
    """The log file, its owner's alone, opened when there is something to write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=FILE_BYTES_MAX, backupCount=FILES_KEPT, encoding="utf-8", delay=True)
        self.setFormatter(JsonFormatter())
        self._failed = False

    def _open(self) -> TextIOWrapper:
        fd = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        return os.fdopen(fd, "a", encoding="utf-8")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002 - logging's name
        """A disk that refuses is reported once; the terminal still has the lines."""
        if not self._failed:
            self._failed = True
            print(f"The log file {self.baseFilename} cannot be written: {sys.exc_info()[1]}.", file=sys.stderr)  # noqa: T201 - the log itself is what failed


def _at(record: logging.LogRecord) -> dt.datetime:
    return dt.datetime.fromtimestamp(record.created, dt.timezone.utc)


def _error(record: logging.LogRecord) -> str:
    """The traceback that a record carries."""
    text = record.exc_text or ""
    if record.exc_info and not text:
        text = logging.Formatter().formatException(record.exc_info)
    if record.stack_info:
        text = f"{text}\n{record.stack_info}".strip()
    return redact(text)


def _finite(value: object) -> object:
    """JSON has no NaN and no infinities."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
