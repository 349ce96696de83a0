"""The file that ``--journal`` names: every event and what it led to, for `nullworker replay`.

Each start of an engine goes on at its end. A line is with the kernel, and so outlives our being killed, before the next
event is handled, but for reports and the passing of time that led to nothing: those go with the next line that counts.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import version
from typing import TYPE_CHECKING

from nullworker.core import journal
from nullworker.core.events import ReportRefused, TimePassed, WorkerReported
from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nullworker.core.commands import Command
    from nullworker.core.events import Event

#: Lines that may wait for one that counts, in bytes.
BUFFER_BYTES = 64 * 1024

_LITTLE = (TimePassed, WorkerReported, ReportRefused)

log = logging.getLogger(__name__)


class JournalFile:
    """An open journal."""

    def __init__(self, fd: int, path: Path) -> None:
        """Takes what `open` opened."""
        self._fd = fd
        self._path = path
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        #: Why it was given up; "": it was not. A journal with a hole would replay to nonsense.
        self.error = ""

    @classmethod
    def open(cls, path: Path) -> JournalFile:
        """Opens ``path``, made where it is missing (mode 0600), and notes in it that an engine begins.

        Raises:
            StateError: it cannot be written.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            end = os.lseek(fd, 0, os.SEEK_END)
            torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
            os.write(fd, (b"\n" if torn else b"") + journal.begin(version("nullworker")).encode() + b"\n")
        except OSError as error:
            raise StateError(f"The journal {path} cannot be written ({(error.strerror or '').lower()}).") from None
        return cls(fd, path)

    def write(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        """Adds an event, handled at ``now``, and the commands that it led to.

        Args:
            event: what was handled.
            now: the core's time then.
            commands: what it led to, in order.
        """
        if self.error:
            return
        line = journal.encode(event, now, list(commands)).encode() + b"\n"
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        if commands or not isinstance(event, _LITTLE) or self._waiting_bytes >= BUFFER_BYTES:
            self._flush()

    def write_failed(self, event: Event, now: float, error: Exception) -> None:
        """Adds the event at which the core failed.

        Args:
            event: at which the core failed.
            now: the core's time then.
            error: what it raised.
        """
        if not self.error:
            self._waiting.append(journal.encode_failed(event, now, error).encode() + b"\n")
            self._flush()

    def _flush(self) -> None:
        text = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        try:
            while text:
                text = text[os.write(self._fd, text) :]
        except OSError as error:
            self.error = f"the journal {self._path} cannot be written: {error.strerror}"
            log.error("%s; it ends here", self.error, extra={"action": "journal_failed"})  # noqa: TRY400 - the cause is the disk, and where we are is no news

    def close(self) -> None:
        """Writes what waits and closes the file; once more is no error."""
        if self._fd >= 0:
            if not self.error:
                self._flush()
            os.close(self._fd)
            self._fd = -1
