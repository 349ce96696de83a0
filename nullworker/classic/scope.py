"""What belongs to one request while it is answered: its work in the books, and what ends with its last byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.classic.work import Ledger, Status, Work

#: Where the WSGI environment has it.
KEY = "nullworker.scope"


class Scope:
    """Made by the gate, used by the application, closed when the answer's last byte is out (or nobody wants it)."""

    def __init__(self, ledger: Ledger, work: Work | None, is_gone: Callable[[], bool]) -> None:
        self._ledger = ledger
        self._work = work  # None for a direct request, which is in no books
        self._at_end: list[Callable[[], None]] = []
        self._is_closed = False
        self.is_gone = is_gone
        #: The HTTP status of the answer; 0 while there is none.
        self.http_status = 0
        #: How the engine is told that it ended, where the HTTP status does not say it.
        self.verdict: Status | None = None

    def started(self) -> None:
        """The handler begins."""
        if self._work is not None:
            self._ledger.start(self._work)

    def at_end(self, call: Callable[[], None]) -> None:
        """Calls ``call`` when the answer is out, the last one first."""
        self._at_end.append(call)

    @property
    def is_ok(self) -> bool:
        """Whether it went well, as far as the answer says."""
        return self.verdict in (None, "Success") and 0 < self.http_status < 400

    def close(self) -> None:
        """The answer is out, or nobody wants it."""
        if self._is_closed:
            return
        self._is_closed = True
        while self._at_end:
            self._at_end.pop()()
        if self._work is not None:
            self._ledger.end(self._work, self.verdict or ("Success" if self.is_ok else "Error"))
