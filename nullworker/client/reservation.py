"""One worker, held: what its holder knows of it and can do with it."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from nullworker.client.errors import ReleaseUnconfirmedError, ReservationLostError, WorkerUnreachableError
from nullworker.client.keepalive import Ended
from nullworker.client.models import PlaceEnds
from nullworker.client.retry import jittered_backoff_s
from nullworker.client.worker_client import SessionGone, WorkerClient, WorkerGone, WorkerSilent
from nullworker.wire import tasks

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

    from nullworker.client.keepalive import KeepAlive
    from nullworker.client.models import Session

RELEASE_TIMEOUT_S = 10.0  # longer makes a stop tedious, and the session ends by itself

_log = logging.getLogger(__name__)


class Reservation:
    """A worker that is held until `release`, until the worker ends it, or until it is not kept alive any more.

    Made by ``NullClient.open`` and ``NullClient.adopt``, and good for as long as that client is not closed.
    """

    def __init__(
        self,
        session: Session,
        worker: WorkerClient,
        *,
        start_task: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_closed: Callable[[Reservation], None],
        rng: random.Random,
    ) -> None:
        """For ``NullClient``.

        Args:
            session: what is held.
            worker: for calls about it.
            start_task: starts work that goes on if the caller is cancelled.
            on_closed: called when it is over.
            rng: for pauses.
        """
        self._session = session
        self._worker = worker
        self._start_task = start_task
        self._on_closed = on_closed
        self._rng = rng
        self._closed = asyncio.Event()
        self._place_ends: PlaceEnds | None = None
        self._place_told = asyncio.Event()
        worker.on_place_ends = self._told_of_place
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
        return self._session.endpoint

    @property
    def session_id(self) -> str:
        """The session's id, which the worker chose."""
        return self._session.session_id

    @property
    def url(self) -> str:
        """The worker's URL."""
        return self._session.url

    @property
    def auth_data(self) -> dict[str, Any]:
        """The engine's answer by which the worker was asked, and by which it knows its holder. A secret."""
        return self._session.auth_data

    @property
    def request_idx(self) -> int:
        """The number under which the engine knows the request."""
        number = self.auth_data.get("request_idx", 0)
        return number if isinstance(number, int) else 0

    @property
    def lifetime_s(self) -> float:
        """Seconds for which the worker stays held without a word from its holder."""
        return self._session.lifetime_s

    @property
    def opened_at(self) -> datetime:
        """When the worker confirmed it, by this machine's clock (with time zone)."""
        return self._session.opened_at

    @property
    def is_closed(self) -> bool:
        """Whether it is known to be over. Sends nothing; see `is_open`."""
        return self._closed.is_set()

    @property
    def closed_because(self) -> str:
        """Why it is over: "released" by its holder, or a clause that says what ended it; empty while it is held."""
        return "" if self._ended is None else self._ended.because

    @property
    def is_lost(self) -> bool:
        """Whether it is over because its worker is gone, and not because it was ended."""
        return self._ended is not None and self._ended.lost

    def to_record(self) -> dict[str, Any]:
        """What ``NullClient.adopt`` needs after a crash, as JSON can hold it. Has the proof of ownership in it."""
        return self._session.to_record()

    async def wait_closed(self) -> str:
        """Waits until the reservation is over, for whatever reason, and returns the reason.

        An end that this holder did not bring about is noticed at the next look (see ``check_s`` of ``open``).
        """
        await self._closed.wait()
        return self.closed_because

    @property
    def place_ends(self) -> PlaceEnds | None:
        """When the worker's place ends it, as far as is known by the last look; None: nothing is known of an end."""
        return self._place_ends

    async def wait_place_ends(self) -> PlaceEnds | None:
        """Waits until it is known that the worker's place will end it: a job may save its work then.

        Returns:
            When and why; None: the reservation was over before.
        """
        told, closed = tasks.start(self._place_told.wait()), tasks.start(self._closed.wait())
        try:
            await asyncio.wait({told, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            told.cancel()
            closed.cancel()
        return self._place_ends

    async def is_open(self) -> bool:
        """Asks the worker whether it still holds this.

        Raises:
            WorkerUnreachableError: it could not be asked.
        """
        if self.is_closed:
            return False
        try:
            await self._worker.look()
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
            await self._worker.ping()
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
        self._keeper = tasks.watch(
            self._watch(keep_alive),
            "Keeping a reservation alive",
            self._lost_track,
        )

    async def stop_watching(self) -> None:
        """Ends keep-alive and nothing else: the session stays until its lifetime runs out, or is adopted."""
        keeper = self._keeper
        if keeper is not None and not keeper.done():
            keeper.cancel()
            await asyncio.wait({keeper})

    async def _watch(self, keep_alive: KeepAlive) -> None:
        self._close(await keep_alive.run())

    def _told_of_place(self, in_s: float, reason: str) -> None:
        self._place_ends = PlaceEnds(datetime.now(timezone.utc) + timedelta(seconds=in_s), reason)
        if not self._place_told.is_set():
            _log.warning("the place of session %s ends it in %.0f s: %s", self.session_id, in_s, reason)
            self._place_told.set()

    def _lost_track(self, sentence: str) -> None:
        self._close(Ended(sentence, lost=True))

    def _close(self, ended: Ended) -> None:
        if self._ended is None:
            self._ended = ended
            self._closed.set()
            if self._keeper is not None and self._keeper is not asyncio.current_task():
                self._keeper.cancel()  # it would look once more, when its client may be closed
            self._on_closed(self)

    async def _end(self) -> None:
        await self.stop_watching()
        if self.is_closed:
            return
        await end_session(self._worker, self._session, self._rng)
        self._close(Ended("released"))


async def end_session(worker: WorkerClient, session: Session, rng: random.Random) -> None:
    """Ends a session and sees to it that the worker has heard: `RELEASE_TIMEOUT_S` of tries.

    Args:
        worker: for calls about the session.
        session: what is to be ended.
        rng: for pauses.

    Raises:
        ReleaseUnconfirmedError: it may not have heard.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + RELEASE_TIMEOUT_S
    failures = 0
    while True:
        try:
            await worker.end()
        except SessionGone:
            return
        except WorkerSilent as silent:
            failures += 1
            pause_s = jittered_backoff_s(failures, rng)
            if loop.time() + pause_s > give_up_at:
                raise ReleaseUnconfirmedError(
                    session.session_id, session.url, session.lifetime_s, str(silent)
                ) from silent
            await asyncio.sleep(pause_s)
        else:
            return
