"""What belongs to one request while it is answered: its entry in the statistics, and what ends with its last byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.classic.in_flight import InFlightRequest, RequestStats, Status

#: Where the WSGI environment has it.
KEY = "nullworker.request_context"


class RequestContext:
    """Made by the middleware, used by the application, closed when the answer has been sent or its client has gone.

    Args:
        stats: count the request.
        request: its entry in the statistics, None for a direct request.
        is_gone: whether the client has hung up.
    """

    def __init__(self, stats: RequestStats, request: InFlightRequest | None, is_gone: Callable[[], bool]) -> None:
        self._stats = stats
        self._request = request  # None for a direct request, which is not counted
        self._at_end: list[Callable[[], None]] = []
        self._is_closed = False
        self.is_gone = is_gone
        #: The HTTP status of the answer; 0 while there is none.
        self.http_status = 0
        #: The outcome that is reported to the engine, where the HTTP status does not determine it.
        self.verdict: Status | None = None

    def started(self) -> None:
        """The handler begins."""
        if self._request is not None:
            self._stats.start(self._request)

    def at_end(self, call: Callable[[], None]) -> None:
        """Calls ``call`` when the answer is out, the last one first."""
        self._at_end.append(call)

    @property
    def is_ok(self) -> bool:
        """Whether the answer is a success."""
        return self.verdict in (None, "Success") and 0 < self.http_status < 400

    def close(self) -> None:
        """The answer has been sent, or its client has gone."""
        if self._is_closed:
            return
        self._is_closed = True
        while self._at_end:
            self._at_end.pop()()
        if self._request is not None:
            self._stats.end(self._request, self.verdict or ("Success" if self.is_ok else "Error"))
