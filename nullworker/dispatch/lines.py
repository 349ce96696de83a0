"""Lines for whoever reads along. A reader that stands still must not stop the work, which keeps reservations alive."""

from __future__ import annotations

import contextlib
import os
import queue
import threading

#: What a reader that stands still has missed beyond this is not told to it.
LINES_MAX = 10_000
LAST_S = 2.0


class Lines:
    """Written to a file descriptor by a thread of its own. Use as a context manager."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._waiting: queue.Queue[bytes | None] = queue.Queue(LINES_MAX)
        # A daemon: who does not read does not keep us from ending.
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Lines:  # noqa: PYI034 - final
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Waits for what is to be written still, a moment at most."""
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=LAST_S)
        self._thread.join(LAST_S)

    def add(self, line: str) -> None:
        """Returns at once."""
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(line.encode(errors="replace") + b"\n")

    def _write(self) -> None:
        is_read = True
        while (line := self._waiting.get()) is not None:
            left = memoryview(line)
            try:
                while left and is_read:
                    left = left[os.write(self._to, left) :]
            except OSError:  # whoever read has gone; the work goes on
                is_read = False
