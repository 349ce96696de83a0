"""The audit log: every act of an operator, from the page, a command or a program: by which key, when, what, and why.

One line of JSON for each in ``audit.log`` of the state directory, written before the act is answered.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import msgspec

from nullworker.wire.redaction import redacted

if TYPE_CHECKING:
    from pathlib import Path

AUDIT_FILE = "audit.log"
#: The file is begun again at this size; so many before it are kept.
FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_KEPT = 9
#: Values longer than this are cut short.
VALUE_CHARACTERS_MAX = 500

log = logging.getLogger(__name__)


class AuditEntry(msgspec.Struct, frozen=True):
    """One act."""

    at_s: float  # Unix time
    who: str  # the key that it was done with
    via: str  # "page", or the program that called
    remote: str  # the address that it was done from
    what: str
    subject: str  # the path: what it was done to
    detail: dict[str, Any]  # the values that were given
    why: str  # as the operator said; "": nothing was said
    outcome: str  # "done", or the refusal


class AuditLog:
    """The audit log of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / AUDIT_FILE
        #: Why it could not be written last; "": it was.
        self.error = ""

    def add(self, entry: AuditEntry) -> None:
        """Writes an act down; a disk that refuses is told of in the log, and undoes nothing."""
        line = msgspec.json.encode(entry) + b"\n"
        try:
            self._rotate(len(line))
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, line)
            finally:
                os.close(fd)
            self.error = ""
        except OSError as error:
            self.error = error.strerror or str(error)
            log.error("the audit log %s cannot be written (%s): %s", self._path, self.error, line.decode())  # noqa: TRY400 - the cause is the disk

    def _rotate(self, more_bytes: int) -> None:
        if not self._path.exists() or self._path.stat().st_size + more_bytes <= FILE_BYTES_MAX:
            return
        for number in range(FILES_KEPT, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._numbered(FILES_KEPT + 1).unlink(missing_ok=True)
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{AUDIT_FILE}.{number}")

    def tail(self, count: int) -> list[AuditEntry]:
        """The latest acts, oldest first."""
        found: list[AuditEntry] = []
        for path in (self._path, *map(self._numbered, range(1, FILES_KEPT + 1))):
            try:
                lines = path.read_bytes().splitlines()
            except FileNotFoundError:
                break
            found = [*filter(None, map(_entry, lines[len(lines) - min(len(lines), count - len(found)) :])), *found]
            if len(found) >= count:
                break
        return found


def _entry(line: bytes) -> AuditEntry | None:
    try:
        return msgspec.json.decode(line, type=AuditEntry)
    except msgspec.DecodeError:
        return None  # torn by a kill


def detail_of(body: bytes) -> dict[str, Any]:
    """The values of a request's body, without keys and cut to a readable length; empty where it has none."""
    try:
        values = msgspec.json.decode(body) if body else {}
    except msgspec.DecodeError:
        return {}
    if not isinstance(values, dict):
        return {}
    return {
        name: value[:VALUE_CHARACTERS_MAX] if isinstance(value, str) else value
        for name, value in ((name, redacted(value, name)) for name, value in values.items())
        if name not in ("api_key", "key", "client_id") and value is not None
    }
