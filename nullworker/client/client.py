"""What a program calls: ``reserve()`` for one worker, ``NullClient`` for many over one set of connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import random
import time
from typing import TYPE_CHECKING, Any

from nullworker.client.acquire import Acquisition, Ask, Attempt
from nullworker.client.engine_client import EngineClient
from nullworker.client.errors import ReleaseUnconfirmedError, ReservationLostError, WorkerUnreachableError
from nullworker.client.instances import find_instance, find_key
from nullworker.client.keepalive import KeepAlive
from nullworker.client.models import EndpointInfo, Session, WorkerInfo
from nullworker.client.recovery import Pending, ask_again
from nullworker.client.reservation import Reservation, end_session
from nullworker.client.retry import OutOfTimeError, jittered_backoff_s, within
from nullworker.client.worker_client import SessionGone, WorkerClient, WorkerSilent
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from types import TracebackType

    from typing_extensions import Self

DEFAULT_COST = 100  # what a null worker's perf is pinned to: one reservation fills one worker
DEFAULT_LIFETIME_S = 60.0  # as the vastai client's own
ADOPT_TIMEOUT_S = 10.0
CLEANUP_TIMEOUT_S = 15.0  # when closing: by then a worker has answered, or will end the session by itself

_log = logging.getLogger(__name__)


class NullClient:
    """Reservations on one engine. Use as an async context manager, or `close` it. Connects when first used.

    Closing ends no reservation: they are released by their holders, or adopted later.
    """

    def __init__(self, instance: str = "prod", api_key: str | None = None, *, rng: random.Random | None = None) -> None:
        """Nothing is asked yet.

        Args:
            instance: ``prod``, ``alpha``, ``candidate``, ``local`` or the engine's URL.
            api_key: the key; None: ``VAST_API_KEY``, else the one in a file that is kept for this engine.
            rng: for pauses.

        Raises:
            InstanceInvalidError, KeyMissingError: at once.
        """
        found = find_instance(instance)
        self._rng = rng or random.Random()
        self._engine = EngineClient(found, find_key(found, api_key), self._rng)
        self._held: set[Reservation] = set()
        self._background: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `close`."""
        await self.close()

    async def close(self) -> None:
        """Finishes what is being cleaned up (15 s at most), stops keep-alive, and disconnects."""
        try:
            if self._background:
                await asyncio.wait(set(self._background), timeout=CLEANUP_TIMEOUT_S)
        finally:
            for task in self._background:
                task.cancel()
            await asyncio.gather(*self._background, return_exceptions=True)
            await asyncio.gather(*(reservation.stop_watching() for reservation in self._held))
            await self._engine.close()

    async def open(
        self,
        endpoint: str,
        *,
        cost: float = DEFAULT_COST,
        lifetime_s: float = DEFAULT_LIFETIME_S,
        payload: dict[str, Any] | None = None,
        on_close_route: str | None = None,
        deadline_s: float | None = None,
        keep_alive: bool = True,
        check_s: float | None = None,
        on_waiting: Callable[[str], None] | None = None,
        on_creating: Callable[[dict[str, Any]], None] | None = None,
    ) -> Reservation:
        """Waits for a worker of ``endpoint`` and holds it.

        Args:
            endpoint: the endpoint's name.
            cost: what the reservation takes of the endpoint's capacity, in perf units.
            lifetime_s: for how long the worker stays held without a word from here.
            payload: what the consumer beside the worker is to know (its control port shows it); JSON.
            on_close_route: a URL to which the worker POSTs ``payload`` when the reservation ends.
            deadline_s: how long to wait, restarts of the engine included. None: without end for a worker, but an
                engine that has never answered is not waited for, and one that has is given up after 60 s of silence.
            keep_alive: extend the reservation until it is released; False: only watch it.
            check_s: the pause between two looks at the worker, by which an end is noticed; 5 s by default, and a third
                of ``lifetime_s`` at most. A worker that is removed between two looks counts as lost: look more often
                than the endpoint's ``inactivity_timeout``.
            on_waiting: called with each new reason for which the engine lets this wait.
            on_creating: called each time a worker is about to be asked to hold it: from then on it may be held. It is
                given what `recover` needs after a crash at that moment. What it raises is raised here, and the worker
                is not asked.

        Raises:
            ClientError: any of nullworker.client.errors. Nothing is held then, and after a cancellation neither.
            ValueError: an argument makes no sense.
        """
        _demand_positive(cost=cost, lifetime_s=lifetime_s, deadline_s=deadline_s, check_s=check_s)
        _demand_json(payload)
        ask = Ask(endpoint, cost, lifetime_s, payload, on_close_route)
        acquisition = Acquisition(
            self._engine,
            ask,
            deadline_s=deadline_s,
            on_waiting=on_waiting,
            on_creating=on_creating,
            abandon=self._abandon,
            rng=self._rng,
        )
        session = await acquisition.run()
        # No await from here on: a cancellation could lose the session.
        return self._hold(session, keep_alive=keep_alive, check_s=check_s)

    async def adopt(
        self,
        record: dict[str, Any],
        *,
        keep_alive: bool = True,
        check_s: float | None = None,
        timeout_s: float = ADOPT_TIMEOUT_S,
    ) -> Reservation:
        """Takes up a reservation that ``to_record`` wrote down, in this process or in one that has died.

        Asks the worker, not the engine, which may be away; except that a worker with TLS is checked by the engine's
        certificate.

        Args:
            record: what ``to_record`` gave.
            keep_alive: as for `open`.
            check_s: as for `open`.
            timeout_s: how long to wait for the worker's answer.

        Raises:
            RecordInvalidError: it is no such record.
            ReservationLostError: the worker does not hold it any more.
            WorkerUnreachableError: the worker did not answer within ``timeout_s``; it may be held still.
            ClientError: the certificate is not to be had.
        """
        _demand_positive(check_s=check_s, timeout_s=timeout_s)
        session = Session.from_record(record)
        await self._engine.reach(session.url)
        worker = self._worker_client(session)
        give_up_at = time.monotonic() + timeout_s
        failures = 0
        while True:
            try:
                await within(worker.look(), max(0.0, give_up_at - time.monotonic()))
                return self._hold(session, keep_alive=keep_alive, check_s=check_s)
            except SessionGone as gone:
                raise ReservationLostError(session.session_id, session.url, str(gone)) from gone
            except (WorkerSilent, OutOfTimeError) as silent:
                failures += 1
                pause_s = jittered_backoff_s(failures, self._rng)
                if time.monotonic() + pause_s >= give_up_at:
                    raise WorkerUnreachableError(session.url, str(silent) or "time-out") from silent
            await asyncio.sleep(pause_s)

    async def recover(
        self,
        record: dict[str, Any],
        *,
        keep_alive: bool = True,
        check_s: float | None = None,
        timeout_s: float = ADOPT_TIMEOUT_S,
    ) -> Reservation:
        """Takes up what a process that has died was asking a worker for (``on_creating`` gave the record).

        Asks the worker the same again. A null worker answers with the session that it opened then, or opens it now.

        Args:
            record: what ``on_creating`` was given.
            keep_alive: as for `open`.
            check_s: as for `open`.
            timeout_s: how long to wait for the worker's answer.

        Raises:
            RecordInvalidError: it is no such record.
            ReservationLostError: the worker does not hold it and will not.
            WorkerUnreachableError: the worker did not answer within ``timeout_s``, or cannot tell (any more).
            ClientError: the certificate is not to be had.
        """
        _demand_positive(check_s=check_s, timeout_s=timeout_s)
        pending = Pending.from_record(record)
        session = await ask_again(await self._engine.reach(pending.url), pending, timeout_s, self._rng)
        return self._hold(session, keep_alive=keep_alive, check_s=check_s)

    async def endpoints(self) -> list[EndpointInfo]:
        """The endpoints that the key may use.

        Raises:
            ClientError: the engine cannot be asked, or refuses.
        """
        return [EndpointInfo(one.id, one.name) for one in await self._engine.list_endpoints()]

    async def workers(self, endpoint: str) -> list[WorkerInfo]:
        """The workers of ``endpoint``, as the engine sees them.

        Raises:
            ClientError: the engine cannot be asked, or refuses.
        """
        return await self._engine.list_workers(endpoint)

    async def tell_queues(
        self, dispatcher: str, queues: list[dict[str, Any]], labels: list[dict[str, Any]] | None = None
    ) -> None:
        """Tells a nullworker engine what a dispatcher reads of its queues, so that ``nullworker status`` shows it.

        Args:
            dispatcher: its name.
            queues: one mapping for each, with the fields of `nullworker.wire.types.QueueReport`.
            labels: what reservations are for, with the fields of `nullworker.wire.types.LabelReport`.

        Raises:
            ClientError: the engine cannot be told, or refuses; Vast's own does.
        """
        await self._engine.tell_queues(dispatcher, queues, labels or [])

    async def tell_job(self, reservation: Reservation, job: str, queue: str = "") -> None:
        """Tells a nullworker engine what a reservation is for, so that its page and ``nullworker cost`` show it.

        Args:
            reservation: which.
            job: the job's name, or its number in a queue.
            queue: the queue's name.

        Raises:
            ClientError: the engine cannot be told, or refuses; Vast's own does.
        """
        await self._engine.tell_labels([{"request_idx": reservation.request_idx, "queue": queue, "job": job}])

    def _worker_client(self, session: Session) -> WorkerClient:
        http = self._engine.connections_for(session.url)
        return WorkerClient(http, session.url, session.session_id, session.auth_data)

    def _hold(self, session: Session, *, keep_alive: bool, check_s: float | None) -> Reservation:
        worker = self._worker_client(session)
        reservation = Reservation(session, worker, start_task=self._start, on_closed=self._held.discard, rng=self._rng)
        self._held.add(reservation)
        reservation.watch(
            KeepAlive(
                worker,
                session.lifetime_s,
                check_s=check_s,
                extend=keep_alive,
                now=time.monotonic,
                sleep=asyncio.sleep,
                rng=self._rng,
            )
        )
        return reservation

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts work that must be finished even if its caller is cancelled; `close` waits for it."""
        task = tasks.start(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    def _abandon(self, attempt: Attempt) -> None:
        tasks.observe(self._start(self._clean_up(attempt)), "Giving up a request")

    async def _clean_up(self, attempt: Attempt) -> None:
        session = await attempt.abandon()
        if session is None:
            return
        try:
            await end_session(self._worker_client(session), session, self._rng)
        except ReleaseUnconfirmedError as error:
            _log.warning("%s", error)


@contextlib.asynccontextmanager
async def reserve(
    endpoint: str,
    *,
    instance: str = "prod",
    api_key: str | None = None,
    cost: float = DEFAULT_COST,
    lifetime_s: float = DEFAULT_LIFETIME_S,
    payload: dict[str, Any] | None = None,
    on_close_route: str | None = None,
    deadline_s: float | None = None,
    keep_alive: bool = True,
    check_s: float | None = None,
    on_waiting: Callable[[str], None] | None = None,
    client: NullClient | None = None,
) -> AsyncIterator[Reservation]:
    """Holds one worker of ``endpoint`` for the length of an ``async with`` block.

    The worker may end the reservation earlier: ``await reservation.wait_closed()`` tells.

    Args:
        endpoint: the endpoint's name.
        instance: as for `NullClient`; not used where a ``client`` is given.
        api_key: likewise.
        cost: this and all that follow but ``client``: as for `NullClient.open`.
        lifetime_s: as there.
        payload: as there.
        on_close_route: as there.
        deadline_s: as there.
        keep_alive: as there.
        check_s: as there.
        on_waiting: as there.
        client: whose connections to use; None: a client for this one reservation.

    Raises:
        ClientError: no worker could be reserved. A release that is not confirmed is logged and not raised: the block
            has done its work, and the worker frees itself when the lifetime runs out.
    """
    async with contextlib.AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(NullClient(instance, api_key))
        reservation = await client.open(
            endpoint,
            cost=cost,
            lifetime_s=lifetime_s,
            payload=payload,
            on_close_route=on_close_route,
            deadline_s=deadline_s,
            keep_alive=keep_alive,
            check_s=check_s,
            on_waiting=on_waiting,
        )
        try:
            yield reservation
        finally:
            try:
                await reservation.release()
            except ReleaseUnconfirmedError as error:
                _log.warning("%s", error)


def _demand_positive(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not (0 < value < math.inf):
            raise ValueError(f"{name} must be a positive number, not {value!r}")


def _demand_json(payload: dict[str, Any] | None) -> None:
    """Refuses what could not be sent, before a worker is asked for."""
    try:
        json.dumps(payload, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"payload is no JSON: {error}") from None
