"""A lock that is granted in the order of arrival: one handler runs at a time.

Backends of the classic guide were written without threads in view: ``backend.count += amount`` loses counts when two
handlers run at once. So they run one after another, unless the backend declares itself ``thread_safe``.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: How often a waiting request checks whether its client is still connected.
CHECK_S = 0.25


class ClientGoneError(Exception):
    """The client hung up while its request waited."""


class ClosedError(Exception):
    """The server is ending, and waiting requests are not started."""


class FairLock:
    """The lock. With ``parallel``, all hold it at once."""

    def __init__(self, *, parallel: bool = False) -> None:
        self._parallel = parallel
        self._changed = threading.Condition()
        self._queue: deque[object] = deque()  # the first one holds the lock
        self._closed = False

    def acquire(self, is_gone: Callable[[], bool]) -> Callable[[], None]:
        """Waits for the lock; returns a function that releases it (a second call does nothing).

        Raises `ClientGoneError` when ``is_gone()`` says so meanwhile, and `ClosedError` once `close` was called.
        """
        ticket = object()
        with self._changed:
            if self._closed:
                raise ClosedError
            if self._parallel:
                return _nothing
            self._queue.append(ticket)
            try:
                self._wait(ticket, is_gone)
            except BaseException:
                self._leave(ticket)
                raise
        return lambda: self._release(ticket)

    def close(self) -> None:
        """Refuses all further requests for the lock; the current holder keeps it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait(self, ticket: object, is_gone: Callable[[], bool]) -> None:
        while self._queue[0] is not ticket:
            self._changed.wait(CHECK_S)
            if self._closed:
                raise ClosedError
            if is_gone():
                raise ClientGoneError

    def _release(self, ticket: object) -> None:
        with self._changed:
            self._leave(ticket)

    def _leave(self, ticket: object) -> None:
        if ticket in self._queue:
            self._queue.remove(ticket)
            self._changed.notify_all()


def _nothing() -> None:
    """Releases nothing: with ``parallel`` there is nothing to wait for."""
