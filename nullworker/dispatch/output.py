"""Writes output from a thread: a reader that stalls must not block the dispatcher, which keeps reservations alive."""

from __future__ import annotations

import contextlib
import os
import queue
import threading

#: Lines kept for a reader that stalls; further ones are dropped.
LINES_MAX = 10_000
FLUSH_S = 2.0


class OutputWriter:
    """Writes lines to a file descriptor from a thread. Use as a context manager."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._waiting: queue.Queue[bytes | None] = queue.Queue(LINES_MAX)
        # A daemon thread: a reader that stalls does not keep the process from ending.
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> OutputWriter:  # noqa: PYI034 - final
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits until all lines are written, for a short time at most."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=FLUSH_S)
        self._thread.join(FLUSH_S)

    def add(self, line: str) -> None:
        """Queues a line, and returns at once."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(line.encode(errors="replace") + b"\n")

    def _write(self) -> None:
        is_read = True
        while (line := self._waiting.get()) is not None:
            left = memoryview(line)
            try:
                while left and is_read:
                    left = left[os.write(self._to, left) :]
            except OSError:  # the reader has gone; the dispatcher goes on
                is_read = False
