"""One worker, held: what its holder knows of it and can do with it."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from nullworker.client.errors import (
    RecordInvalidError,
    ReleaseUnconfirmedError,
    ReservationLostError,
    WorkerUnreachableError,
)
from nullworker.client.keepalive import Ended
from nullworker.client.retry import backoff_s
from nullworker.client.worker_client import SessionGone, WorkerClient, WorkerGone, WorkerSilent

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

    from nullworker.client.keepalive import KeepAlive

RELEASE_TIMEOUT_S = 10.0  # longer makes a stop tedious, and the session ends by itself
RECORD_VERSION = 1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A session as the worker confirmed it. ``auth_data`` is what proves that it is ours: keep it secret."""

    endpoint: str
    session_id: str
    url: str
    auth_data: dict[str, Any]
    lifetime_s: float
    opened_at: datetime

    def to_record(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "version": RECORD_VERSION,
            "endpoint": self.endpoint,
            "session_id": self.session_id,
            "url": self.url,
            "auth_data": self.auth_data,
            "lifetime_s": self.lifetime_s,
            "opened_at": self.opened_at.isoformat(),
        }

    @classmethod
    def from_record(cls, record: object) -> Session:
        """The facts that `to_record` wrote down.

        Raises:
            RecordInvalidError: it did not write this.
        """
        if not isinstance(record, dict) or record.get("version") != RECORD_VERSION:
            raise RecordInvalidError(f"it is not of version {RECORD_VERSION}")
        try:
            texts = {name: record[name] for name in ("endpoint", "session_id", "url", "opened_at")}
            auth_data, lifetime_s = record["auth_data"], record["lifetime_s"]
        except KeyError as error:
            raise RecordInvalidError(f"{error.args[0]} is missing") from None
        for name, value in texts.items():
            if not isinstance(value, str) or not value:
                raise RecordInvalidError(f"{name} is no text")
        if not isinstance(auth_data, dict):
            raise RecordInvalidError("auth_data is no object")
        if isinstance(lifetime_s, bool) or not isinstance(lifetime_s, (int, float)) or not lifetime_s > 0:
            raise RecordInvalidError("lifetime_s is no positive number")
        try:
            opened_at = datetime.fromisoformat(texts["opened_at"])
        except ValueError:
            raise RecordInvalidError("opened_at is no time") from None
        return cls(texts["endpoint"], texts["session_id"], texts["url"], auth_data, float(lifetime_s), opened_at)


class Reservation:
    """A worker that is held until `release`, until the worker ends it, or until nobody keeps it alive.

    Made by ``NullClient.open`` and ``NullClient.adopt``, and good for as long as that client is not closed.
    """

    def __init__(
        self,
        facts: Session,
        line: WorkerClient,
        *,
        start_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        closed: Callable[[Reservation], None],
        rng: random.Random,
    ) -> None:
        self._facts = facts
        self._line = line
        self._start_task = start_task
        self._tell_closed = closed
        self._rng = rng
        self._closed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._release: asyncio.Task[None] | None = None
        self._ended: Ended | None = None

    def __repr__(self) -> str:
        """Without the proof of ownership."""
        state = self.closed_because or "held"
        return f"<Reservation {self.session_id} of {self.endpoint!r} on {self.url}: {state}>"

    @property
    def endpoint(self) -> str:
        """The endpoint's name."""
        return self._facts.endpoint

    @property
    def session_id(self) -> str:
        """The session's id, which the worker chose."""
        return self._facts.session_id

    @property
    def url(self) -> str:
        """The worker's URL."""
        return self._facts.url

    @property
    def auth_data(self) -> dict[str, Any]:
        """The engine's answer by which the worker was asked, and by which it knows its holder. A secret."""
        return self._facts.auth_data

    @property
    def request_idx(self) -> int:
        """The number under which the engine knows the request."""
        number = self.auth_data.get("request_idx", 0)
        return number if isinstance(number, int) else 0

    @property
    def lifetime_s(self) -> float:
        """Seconds for which the worker stays held without a word from its holder."""
        return self._facts.lifetime_s

    @property
    def opened_at(self) -> datetime:
        """When the worker confirmed it, by this machine's clock (with time zone)."""
        return self._facts.opened_at

    @property
    def is_closed(self) -> bool:
        """Whether it is known to be over. Asks nobody; see `is_open`."""
        return self._closed.is_set()

    @property
    def closed_because(self) -> str:
        """Why it is over: "released" by its holder, or a clause that says who ended it; empty while it is held."""
        return "" if self._ended is None else self._ended.because

    @property
    def is_lost(self) -> bool:
        """Whether it is over because its worker is gone, and not because somebody ended it."""
        return self._ended is not None and self._ended.lost

    def to_record(self) -> dict[str, Any]:
        """What ``NullClient.adopt`` needs after a crash, as JSON can hold it. Has the proof of ownership in it."""
        return self._facts.to_record()

    async def wait_closed(self) -> str:
        """Waits until the reservation is over, for whatever reason, and returns the reason.

        An end that this holder did not bring about is noticed at the next look (see ``check_s`` of ``open``).
        """
        await self._closed.wait()
        return self.closed_because

    async def is_open(self) -> bool:
        """Asks the worker whether it still holds this.

        Raises:
            WorkerUnreachableError: it could not be asked.
        """
        if self.is_closed:
            return False
        try:
            await self._line.look()
        except SessionGone as gone:
            self._close(Ended(str(gone), lost=isinstance(gone, WorkerGone)))
            return False
        except WorkerSilent as silent:
            raise WorkerUnreachableError(self.url, str(silent)) from silent
        return True

    async def ping(self) -> None:
        """Makes the worker hold on for one ``lifetime_s`` longer. Keep-alive does this by itself.

        Raises:
            ReservationLostError: it is over.
            WorkerUnreachableError: the worker could not be asked.
        """
        if self.is_closed:
            raise ReservationLostError(self.session_id, self.url, self.closed_because)
        try:
            await self._line.ping()
        except SessionGone as gone:
            self._close(Ended(str(gone), lost=isinstance(gone, WorkerGone)))
            raise ReservationLostError(self.session_id, self.url, str(gone)) from gone
        except WorkerSilent as silent:
            raise WorkerUnreachableError(self.url, str(silent)) from silent

    async def release(self) -> None:
        """Ends the reservation; one that is over already is left as it is. Goes on if the caller is cancelled.

        Raises:
            ReleaseUnconfirmedError: the worker did not say that it has ended; it will end by itself.
        """
        if self.is_closed:
            return
        if self._release is None or self._release.done():
            self._release = self._start_task(self._end())
        await asyncio.shield(self._release)

    def watch(self, keep_alive: KeepAlive) -> None:
        """Starts keep-alive. For ``NullClient``; once per reservation."""
        self._keeper = asyncio.ensure_future(self._watch(keep_alive))

    async def stop_watching(self) -> None:
        """Ends keep-alive and nothing else: the session stays until its lifetime runs out or someone adopts it."""
        keeper = self._keeper
        if keeper is not None and not keeper.done():
            keeper.cancel()
            await asyncio.wait({keeper})

    async def _watch(self, keep_alive: KeepAlive) -> None:
        self._close(await keep_alive.run())

    def _close(self, ended: Ended) -> None:
        if self._ended is None:
            self._ended = ended
            self._closed.set()
            self._tell_closed(self)

    async def _end(self) -> None:
        await self.stop_watching()
        if self.is_closed:
            return
        await end_session(self._line, self._facts, self._rng)
        self._close(Ended("released"))


async def end_session(line: WorkerClient, facts: Session, rng: random.Random) -> None:
    """Ends a session and sees to it that the worker has heard: `RELEASE_TIMEOUT_S` of tries.

    Raises:
        ReleaseUnconfirmedError: it may not have heard.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + RELEASE_TIMEOUT_S
    failures = 0
    while True:
        try:
            await line.end()
        except SessionGone:
            return
        except WorkerSilent as silent:
            failures += 1
            pause_s = backoff_s(failures, rng)
            if loop.time() + pause_s > give_up_at:
                raise ReleaseUnconfirmedError(facts.session_id, facts.url, facts.lifetime_s, str(silent)) from silent
            await asyncio.sleep(pause_s)
        else:
            return
