"""Follows a log that another program writes, from its first line; it may be absent, truncated or rotated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

POLL_S = 0.1
#: A longer line is handed on in pieces, so that a log without line ends does not fill the memory.
LINE_CHARS_MAX = 64 * 1024


def follow(path: Path, on_line: Callable[[str], None], stop: threading.Event) -> None:
    """Calls a function with each line of a log, its line end included, until it is stopped.

    Args:
        path: the log, which need not exist yet; bytes that are not UTF-8 are replaced.
        on_line: the function.
        stop: set to stop.
    """
    tail = _Tail(path, on_line)
    try:
        while not stop.is_set():
            if not tail.read():
                stop.wait(POLL_S)
    finally:
        tail.close()


class _Tail:
    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._on_line = on_line
        self._file: TextIO | None = None
        self._begun = ""  # a line whose end is not written yet

    def read(self) -> bool:
        """Reads what is new; False when there is nothing."""
        if self._file is None and not self._open():
            return False
        assert self._file is not None
        text = self._file.readline(LINE_CHARS_MAX)
        if not text:
            if self._is_replaced():
                self.close()
            return False
        self._begun += text
        if self._begun.endswith("\n") or len(self._begun) >= LINE_CHARS_MAX:
            line, self._begun = self._begun, ""
            self._on_line(line)
        return True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._begun = ""

    def _open(self) -> bool:
        try:
            self._file = self._path.open(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return True

    def _is_replaced(self) -> bool:
        """Whether the path names another file now, or this one was cut short."""
        assert self._file is not None
        try:
            now = self._path.stat()
        except OSError:
            return False  # being rotated; what was open is read until there is a new one
        mine = os.fstat(self._file.fileno())
        return (now.st_dev, now.st_ino) != (mine.st_dev, mine.st_ino) or now.st_size < self._file.tell()
