"""The framework's table of sessions, observed: listeners are called the moment a session opens or closes.

`worker.backend.sessions` is a plain dict that the framework writes to when a session opens and pops from when it
closes, for whatever reason. `SessionTable` replaces it, calls its listeners at once, and keeps each session's time to
live on the monotonic clock, so that setting the wall clock ends no reservation.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any

from vastai.serverless.server.lib.data_types import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


class HeldSession(Session):  # type: ignore[misc]  # vastai has no type information
    """A session of the framework whose ``expiration`` (Unix time) follows the monotonic clock."""

    auth_data: dict[str, Any]
    created_at: float
    lifetime: float
    request_idx: int
    session_id: str
    on_close_route: str | None
    on_close_payload: Any
    _opened_at: float
    _ends_at: float
    _max_age_s: float
    #: When the consumer itself last sent a heartbeat, in Unix time; None: never.
    heard_at: float | None
    #: Whether its holder has shown that it knows its id: from then on nothing else proves a holder.
    is_confirmed: bool

    @classmethod
    def of(cls, session: Any, *, max_lifetime_s: float, max_age_s: float) -> HeldSession:
        """Copies a session that the framework has just made.

        Args:
            session: the framework's.
            max_lifetime_s: the longest lifetime, whatever the client asked for.
            max_age_s: the greatest age, however often it is extended.
        """
        held = cls(**{field.name: getattr(session, field.name) for field in dataclasses.fields(session)})
        held._opened_at = time.monotonic()
        held.lifetime = min(max(1.0, float(held.lifetime)), max_lifetime_s, max_age_s)
        held._ends_at = held._opened_at + held.lifetime
        held._max_age_s = max_age_s
        held.is_confirmed = False
        held.heard_at = None
        return held

    @property
    def expiration(self) -> float:
        """When it ends unless it is extended, as Unix time."""
        return time.time() + (self._ends_at - time.monotonic())  # noqa: TID251 - the wire speaks Unix time

    @expiration.setter
    def expiration(self, value: float) -> None:
        self._ends_at = time.monotonic() + (value - time.time())  # noqa: TID251 - as above

    def extend(self) -> None:
        """Lets it live its lifetime from now on, but never past the greatest age; repeated calls do not add up."""
        ends_at = max(self._ends_at, time.monotonic() + self.lifetime)
        self._ends_at = min(ends_at, self._opened_at + self._max_age_s)

    def extend_for(self, seconds: float) -> float:
        """Lets it live for so long from now on at least, never past the greatest age; returns for how long it will."""
        ends_at = max(self._ends_at, time.monotonic() + seconds)
        self._ends_at = min(ends_at, self._opened_at + self._max_age_s)
        return self._ends_at - time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since it opened."""
        return time.monotonic() - self._opened_at


class SessionTable(dict[str, Any]):
    """The framework's sessions by id; at most one, as ``max_sessions`` is 1.

    ``on_open`` and ``on_close`` are called inside the framework's own steps: they return at once and raise nothing.
    """

    def __init__(self, max_lifetime_s: float, max_age_s: float) -> None:
        super().__init__()
        self._max_lifetime_s = max_lifetime_s
        self._max_age_s = max_age_s
        self._payload: Any = None
        self.on_open: list[Callable[[HeldSession], None]] = []
        self.on_close: list[Callable[[HeldSession], None]] = []

    @property
    def held(self) -> HeldSession | None:
        """The one session that is open, or None."""
        return next(iter(self.all_open()), None)

    def all_open(self) -> Iterator[HeldSession]:
        """All sessions that are open."""
        yield from list(self.values())

    def of_request(self, request_idx: int) -> HeldSession | None:
        """The open session of a request."""
        return next((session for session in self.all_open() if session.request_idx == request_idx), None)

    @contextlib.contextmanager
    def opening_with(self, payload: Any) -> Iterator[None]:
        """Gives the session that opens within this context its ``on_close_payload``.

        The framework keeps it only where there is an ``on_close_route``, and the consumer is to have it always.
        """
        self._payload = payload
        try:
            yield
        finally:
            self._payload = None

    def __setitem__(self, session_id: str, session: Any) -> None:
        """Called by the framework when a session opens."""
        held = HeldSession.of(session, max_lifetime_s=self._max_lifetime_s, max_age_s=self._max_age_s)
        held.on_close_payload = self._payload
        super().__setitem__(session_id, held)
        log.info("session opened for request %s, for %g s", held.request_idx, held.lifetime)
        for listener in self.on_open:
            listener(held)

    def pop(self, session_id: str, *default: Any) -> Any:
        """Called by the framework when a session closes."""
        session = super().pop(session_id, *default)
        if isinstance(session, HeldSession):
            log.info("session of request %s closed after %.1f s", session.request_idx, session.age_s)
            for listener in self.on_close:
                listener(session)
        return session
