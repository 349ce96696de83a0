"""One handler at a time, first come, first served.

Backends of the classic guide were written without a thought for threads: ``backend.count += amount`` loses counts when
two handlers run at once. So they run one after another, unless the backend says that it is ``thread_safe``.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: How often someone who waits looks whether its client is still there.
CHECK_S = 0.25


class ClientGoneError(Exception):
    """The client hung up while its request waited; nobody would read the answer."""


class ClosedError(Exception):
    """The server ends, and what still waits is not begun."""


class Turns:
    """Hands out turns. With ``parallel`` everyone has one at once."""

    def __init__(self, *, parallel: bool = False) -> None:
        self._parallel = parallel
        self._changed = threading.Condition()
        self._line: deque[object] = deque()  # the first one has the turn
        self._closed = False

    def take(self, is_gone: Callable[[], bool]) -> Callable[[], None]:
        """Waits for the turn; returns what gives it back (once; calling it again does nothing).

        Raises `ClientGoneError` when ``is_gone()`` says so meanwhile, and `ClosedError` once `close` was called.
        """
        ticket = object()
        with self._changed:
            if self._closed:
                raise ClosedError
            if self._parallel:
                return _nothing
            self._line.append(ticket)
            try:
                self._wait(ticket, is_gone)
            except BaseException:
                self._leave(ticket)
                raise
        return lambda: self._give_back(ticket)

    def close(self) -> None:
        """From now on nobody gets a turn; those who have one keep it."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _wait(self, ticket: object, is_gone: Callable[[], bool]) -> None:
        while self._line[0] is not ticket:
            self._changed.wait(CHECK_S)
            if self._closed:
                raise ClosedError
            if is_gone():
                raise ClientGoneError

    def _give_back(self, ticket: object) -> None:
        with self._changed:
            self._leave(ticket)

    def _leave(self, ticket: object) -> None:
        if ticket in self._line:
            self._line.remove(ticket)
            self._changed.notify_all()


def _nothing() -> None:
    """Gives back a turn that nobody waits for."""
