"""From asking to holding. The engine may be restarted, the caller may be cancelled, and nothing may be left behind.

An *attempt* asks the engine until it names a worker, and that worker for a session; if the worker does not take it, the
engine again. It runs in a task of its own, because a session that is being created must be waited for, even when its
caller has been cancelled, in order to be ended. An *acquisition* is as many attempts as the caller has patience for: an
attempt ends with the first failure of the engine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from nullworker.client.errors import (
    ClientError,
    EndpointUnknownError,
    EngineRefusedError,
    EngineUnreachableError,
    KeyRefusedError,
    NoWorkerInTimeError,
    WorkerRefusedError,
)
from nullworker.client.models import RouteAnswer, Session
from nullworker.client.recovery import pending_record
from nullworker.client.retry import OutOfTimeError, Patience, jittered_backoff_s, poll_pause_s, steady_backoff_s, within
from nullworker.client.worker_client import SessionGone, WorkerSilent, create_session
from nullworker.wire import tasks

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from nullworker.client.engine_client import EngineClient
    from nullworker.client.models import Endpoint

ABANDON_TIMEOUT_S = 15.0  # the call that creates a session has its own limit, which is shorter
#: A worker that answers so may have been right then (a grant that ran out on the way, a session that ended since), and
#: another one, or another grant, may do. After so many in a row it is no accident.
REFUSED_IN_PASSING = frozenset({401, 409, 410})
REFUSALS_MAX = 3
#: A worker that answers so, or any 5xx, does not take the session now; the engine is asked for another one.
NOT_TAKEN_STATUSES = frozenset({408, 429})
#: An answer is on its way for so long at most, or comes after the caller's patience has ended.
ANSWER_S = 0.5
SILENCE_MAX_S = 60.0  # by then the engine has forgotten every request that was waiting (replay_timeout)
NOT_TAKEN = "the worker that was named did not take it"
WAITING_UNEXPLAINED = "no worker is free yet"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ask:
    """What is wanted: a worker of ``endpoint`` for ``cost`` perf units, held ``lifetime_s`` after each sign of life."""

    endpoint: str
    cost: float
    lifetime_s: float
    payload: dict[str, Any] | None
    on_close_route: str | None

    def to_worker(self) -> dict[str, Any]:
        """As the worker's /session/create wants it."""
        return {
            "lifetime": self.lifetime_s,
            "on_close_route": self.on_close_route,
            "on_close_payload": self.payload,
        }


class _AbandonedError(Exception):
    """The worker did not take the session, and its caller has been cancelled."""


class Attempt:
    """One try to get a session, in a task that begins at once."""

    def __init__(
        self,
        engine: EngineClient,
        endpoint: Endpoint,
        ask: Ask,
        *,
        on_waiting: Callable[[str], None],
        on_creating: Callable[[dict[str, Any]], None] | None = None,
        left_s: Callable[[], float | None] = lambda: None,
        request_idx: int = 0,
        rng: random.Random,
    ) -> None:
        """Begins the attempt.

        Args:
            engine: the engine, connected.
            endpoint: whose worker is wanted.
            ask: what is wanted.
            on_waiting: called with each new reason for which there is no worker yet.
            on_creating: called before each worker is asked, with what `recovery.ask_again` needs.
            left_s: for how many seconds it is waited for; None: without end.
            request_idx: under which number an attempt before this one waited; 0: under none.
            rng: for pauses.
        """
        #: The number under which the engine lets this wait; 0 before it has said so, and while a worker is asked.
        self.request_idx = request_idx
        self.answered = False  # whether the engine has answered at all
        self._engine = engine
        self._endpoint = endpoint
        self._ask = ask
        self._on_waiting = on_waiting
        self._on_creating = on_creating
        self._left_s = left_s
        self._rng = rng
        self._reason = ""
        self._abandoned = False
        self._creating = False
        self.task: asyncio.Task[Session] = tasks.start(self._run())

    async def _run(self) -> Session:
        request_idx, not_taken = self.request_idx, 0
        while True:
            answer = await self._wait_for_worker(request_idx)
            # With the same number as before, so that the engine learns that its word was not taken up.
            request_idx = answer.request_idx or request_idx
            assert answer.auth_data is not None
            not_taken += 1
            self.request_idx = 0  # from here on it does not wait
            self._creating = True
            try:
                session = await self._create(answer.auth_data)
                pause_s = steady_backoff_s(not_taken, self._engine.poll_max_s, self._rng)
            except (SessionGone, WorkerSilent) as error:
                _log.debug("the worker at %s was not reached: %s", answer.auth_data["url"], error)
                session, pause_s = None, jittered_backoff_s(not_taken, self._rng)
            finally:
                self._creating = False
            if session is not None:
                return session
            if self._abandoned:
                raise _AbandonedError
            self._reason = ""  # it waits again, even if for the same reason
            self._on_waiting(NOT_TAKEN)
            await asyncio.sleep(pause_s)

    async def _wait_for_worker(self, request_idx: int) -> RouteAnswer:
        """Asks the engine until it names a worker."""
        polls = 0
        while True:
            left_s = self._left_s()
            hold_at_most_s = None if left_s is None else max(0.0, left_s - ANSWER_S)
            answer = await self._engine.route(self._endpoint, self._ask.cost, request_idx, hold_at_most_s)
            self.answered = True
            if answer.auth_data is not None:
                return answer
            request_idx = answer.request_idx or request_idx
            self.request_idx = request_idx
            reason = answer.reason or WAITING_UNEXPLAINED
            if reason != self._reason:
                self._reason = reason
                self._on_waiting(reason)
            await asyncio.sleep(poll_pause_s(polls, self._engine.poll_max_s, self._rng))
            polls += 1

    async def _create(self, auth_data: dict[str, Any]) -> Session | None:
        """Asks the worker that the engine has named; None if it cannot take the session now.

        Raises:
            WorkerRefusedError: it will not take it.
            SessionGone, WorkerSilent: it does not answer.
        """
        question, url = self._ask.to_worker(), str(auth_data["url"])
        if self._on_creating is not None:
            self._on_creating(pending_record(self._ask.endpoint, auth_data, question))
        created = await create_session(self._engine.connections_for(url), auth_data, question)
        if created.status >= 500 or created.status in NOT_TAKEN_STATUSES:
            return None
        if not created.ok:
            raise WorkerRefusedError(url, created.status, created.sentence)
        if created.session_id is None:
            raise WorkerRefusedError(url, created.status, "its answer names no session")
        return Session(
            self._ask.endpoint, created.session_id, url, auth_data, self._ask.lifetime_s, datetime.now(timezone.utc)
        )

    async def abandon(self) -> Session | None:
        """Stops the attempt: at once while it waits for the engine, else when the worker has answered.

        Returns the session that came of it all the same, which must be ended. Never raises what the attempt raised.
        """
        self._abandoned = True
        if not self._creating:
            self.task.cancel()
        try:
            await asyncio.wait({self.task}, timeout=ABANDON_TIMEOUT_S)
        finally:
            self.task.cancel()
        await asyncio.wait({self.task})
        if self.task.cancelled() or self.task.exception() is not None:
            return None
        return self.task.result()


class Acquisition:
    """As many attempts as it takes, one after the other."""

    def __init__(
        self,
        engine: EngineClient,
        ask: Ask,
        *,
        deadline_s: float | None,
        on_waiting: Callable[[str], None] | None,
        on_creating: Callable[[dict[str, Any]], None] | None = None,
        abandon: Callable[[Attempt], None],
        rng: random.Random,
    ) -> None:
        """Nothing is asked yet.

        Args:
            engine: the engine.
            ask: what is wanted.
            deadline_s: how long to go on; None: see `Patience`.
            on_waiting: as for `Attempt`; what it raises is logged.
            on_creating: as for `Attempt`; what it raises ends the acquisition, before the worker is asked.
            abandon: given an attempt whose outcome is not waited for any more; must see to it that nothing stays.
            rng: for pauses.
        """
        self._engine = engine
        self._ask = ask
        self._deadline_s = deadline_s
        self._on_waiting = on_waiting
        self._on_creating = on_creating
        self._abandon = abandon
        self._rng = rng
        self._patience = Patience(time.monotonic(), deadline_s, SILENCE_MAX_S)
        self._reason = ""
        self._failure: ClientError | None = None
        self._refusals = 0
        self._request_idx = 0  # the number under which the last attempt waited, if it did

    async def run(self) -> Session:
        """Returns the session.

        Raises:
            ClientError: there is none, for that reason.
        """
        looked_up_again = False
        while True:
            from_memory = self._engine.knows(self._ask.endpoint)
            try:
                return await self._try_once()
            except OutOfTimeError:
                raise self._out_of_time() from None
            except (EndpointUnknownError, KeyRefusedError):
                if not from_memory:
                    raise
                self._engine.forget(self._ask.endpoint)
                if looked_up_again:
                    raise
                looked_up_again = True  # it may have been made again, with another key: the list will say
            except EngineRefusedError:
                if not self._request_idx:
                    raise
                self._request_idx = 0  # an engine that does not know that number any more: as a new request
            except (EngineUnreachableError, WorkerRefusedError) as error:
                if isinstance(error, WorkerRefusedError) and not self._is_passing(error):
                    raise
                await self._wait_after(error)

    def _is_passing(self, error: WorkerRefusedError) -> bool:
        """Whether another worker may take what this one has refused."""
        if error.status not in REFUSED_IN_PASSING:
            return False
        self._refusals += 1
        return self._refusals < REFUSALS_MAX

    async def _try_once(self) -> Session:
        endpoint = await within(self._engine.find(self._ask.endpoint), self._left_s())
        await within(self._engine.connect(), self._left_s())
        attempt = Attempt(
            self._engine,
            endpoint,
            self._ask,
            on_waiting=self._waiting,
            on_creating=self._on_creating,
            left_s=self._left_s,
            request_idx=self._request_idx,
            rng=self._rng,
        )
        try:
            await asyncio.wait({attempt.task}, timeout=self._left_s())
        except BaseException:
            self._abandon(attempt)  # also if it has just gone well: the caller will not get the session
            raise
        self._request_idx = attempt.request_idx
        if attempt.answered:
            self._patience.heard()
        if not attempt.task.done():
            self._abandon(attempt)
            raise OutOfTimeError
        return attempt.task.result()

    async def _wait_after(self, error: EngineUnreachableError | WorkerRefusedError) -> None:
        """Pauses until the next attempt, or gives up for ``error``."""
        self._failure = error
        now = time.monotonic()
        self._patience.failed(now)
        if self._patience.is_over(now, ever_heard=self._engine.heard):
            raise self._with_silence(error) from error
        pause_s = jittered_backoff_s(self._patience.failures, self._rng)
        left_s = self._left_s()
        await asyncio.sleep(pause_s if left_s is None else min(pause_s, left_s))

    def _out_of_time(self) -> ClientError:
        if self._patience.failures and self._failure is not None:
            return self._with_silence(self._failure)
        return NoWorkerInTimeError(self._ask.endpoint, self._deadline_s or 0.0, self._reason)

    def _with_silence(self, error: ClientError) -> ClientError:
        """The error, which says for how long the engine has been failing."""
        if not isinstance(error, EngineUnreachableError):
            return error
        silent_s = self._patience.silent_s(time.monotonic())
        return EngineUnreachableError(self._engine.label, error.detail, silent_s=silent_s)

    def _waiting(self, reason: str) -> None:
        self._reason = reason
        if self._on_waiting is None:
            return
        try:
            self._on_waiting(reason)
        except Exception:
            _log.exception("on_waiting, a function of the caller's, failed")

    def _left_s(self) -> float | None:
        return self._patience.left_s(time.monotonic())
