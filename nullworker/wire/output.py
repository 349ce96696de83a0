"""Lines written from a thread: a reader that stalls must not stop a program that keeps reservations alive meanwhile."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import sys
import threading
import time

#: Lines kept for a reader that stalls; further ones are dropped.
LINES_MAX = 10_000
FLUSH_S = 2.0
_FLUSH_LOOK_S = 0.005


class OutputWriter:
    """Writes lines to a file descriptor. As a context manager it writes what is left at the end."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._lines: queue.Queue[bytes] = queue.Queue(LINES_MAX)
        # A daemon thread: a reader that stalls does not keep the process from ending.
        threading.Thread(target=self._write, daemon=True).start()

    def __enter__(self) -> OutputWriter:  # noqa: PYI034 - final
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, line: str) -> None:
        """Queues a line, and returns at once. A line for which there is no room is dropped."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line.encode(errors="replace") + b"\n")

    def flush(self) -> None:
        """Waits until all lines are written, for a short time at most."""
        give_up_at_s = time.monotonic() + FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < give_up_at_s:
            time.sleep(_FLUSH_LOOK_S)

    def _write(self) -> None:
        is_read = True
        while True:
            left = memoryview(self._lines.get())
            try:
                while left and is_read:
                    left = left[os.write(self._to, left) :]
            except OSError:  # the reader has gone; the program goes on
                is_read = False
            self._lines.task_done()


class ThreadHandler(logging.Handler):
    """Writes log lines to standard error by an `OutputWriter`."""

    def __init__(self) -> None:
        super().__init__()
        self._output = OutputWriter(sys.stderr.fileno())

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`: returns at once."""
        self._output.add(self.format(record))

    def flush(self) -> None:
        """Called by `logging` at the end."""
        self._output.flush()


def log_to_stderr(line: str = "%(message)s", *, at: str | None = None) -> None:
    """Has all log lines of this program written to standard error by a thread.

    Args:
        line: the format, as `logging.Formatter` takes it.
        at: the format of ``%(asctime)s``, as `time.strftime` takes it; None: date, time and milliseconds.
    """
    logging.basicConfig(level=logging.INFO, format=line, datefmt=at, handlers=[ThreadHandler()])  # noqa: TID251 - this is the place
