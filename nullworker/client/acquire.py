"""From asking to holding. The engine may be restarted, the caller may lose interest, and nothing may be left behind.

An *attempt* is one pass of the SDK through /route/ and /session/create. It runs in a task of its own, because a session
that is being created must be waited for, even when nobody wants it any more, in order to be ended. An *opening* is as
many attempts as the caller has patience for.
"""

from __future__ import annotations

import asyncio
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
from nullworker.client.recovery import pending_record
from nullworker.client.reservation import Session
from nullworker.client.retry import OutOfTimeError, Patience, backoff_s, within
from nullworker.client.sdk import (
    ANSWERED,
    CREATING,
    Progress,
    asking_as,
    reason_of,
    understand,
    when_granted,
    when_numbered,
    while_waiting,
)
from nullworker.wire import paths

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from nullworker.client.engine_client import EngineClient
    from nullworker.client.sdk import Endpoint, Sdk

CREATE_TIMEOUT_S = 10.0  # as the SDK's own session() has it
ABANDON_TIMEOUT_S = 15.0  # a create that takes longer has been given up by the SDK
#: A worker that answers so may have been right then (a grant that ran out on the way, a session that ended since), and
#: another one, or another grant, may do. After so many in a row it is no accident.
REFUSED_IN_PASSING = frozenset({401, 409, 410})
REFUSALS_MAX = 3
SILENCE_MAX_S = 60.0  # by then the engine has forgotten whoever waited (replay_timeout)
NOT_TAKEN = "the worker that was named did not take it"


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


class Attempt:
    """One try to get a session."""

    def __init__(
        self,
        sdk: Sdk,
        endpoint: Endpoint,
        ask: Ask,
        on_waiting: Callable[[str], None],
        on_creating: Callable[[dict[str, Any] | None], None] | None = None,
        request_idx: int = 0,
    ) -> None:
        """``request_idx``: under which number an attempt before this one waited; 0: under none."""
        self._ask = ask
        self._on_waiting = on_waiting
        self._on_creating = on_creating
        self.request_idx = request_idx
        self._granted: dict[str, Any] | None = None
        self._abandoned = False
        self._creating = False
        self.answered = False  # whether the engine has answered at all
        self._progress = Progress(self._changed)
        self.task: asyncio.Task[Session] = asyncio.ensure_future(self._run(sdk, endpoint, on_waiting))

    async def _run(self, sdk: Sdk, endpoint: Endpoint, on_waiting: Callable[[str], None]) -> Session:
        while_waiting(on_waiting)
        when_granted(self._engine_named)
        when_numbered(self._waits_as)
        result = await sdk.queue_endpoint_request(
            asking_as(endpoint, self.request_idx),
            paths.SESSION_CREATE,
            self._ask.to_worker(),
            serverless_request=self._progress,
            cost=self._ask.cost,
            worker_timeout=CREATE_TIMEOUT_S,
        )
        return self._facts(result, sdk.autoscaler_url)

    def _facts(self, result: dict[str, Any], engine: str) -> Session:
        url, answer, auth_data = result.get("url"), result.get("response"), result.get("auth_data")
        status = int(result.get("status") or 0)
        if not result.get("ok"):
            raise WorkerRefusedError(str(url), status, str(result.get("text") or ""))
        session_id = answer.get("session_id") if isinstance(answer, dict) else None
        if not isinstance(session_id, str) or not session_id:
            raise WorkerRefusedError(str(url), status, "its answer names no session")
        if not isinstance(url, str) or not isinstance(auth_data, dict):
            raise EngineRefusedError(engine, "its answer names no worker")
        return Session(self._ask.endpoint, session_id, url, auth_data, self._ask.lifetime_s, datetime.now(timezone.utc))

    def _changed(self, status: str) -> None:
        """The SDK has moved on. A create that failed, and that nobody waits for, is not tried again."""
        self.answered = self.answered or status in ANSWERED
        was_creating, self._creating = self._creating, status == CREATING
        if self._creating and self._on_creating is not None:
            self._on_creating(self._granted)
        if was_creating and status == "Retrying":
            if self._abandoned:
                self.task.cancel()
            else:
                self._on_waiting(NOT_TAKEN)

    def _waits_as(self, request_idx: int) -> None:
        self.request_idx = request_idx

    def _engine_named(self, auth_data: dict[str, Any]) -> None:
        self.request_idx = 0  # what comes now is a grant's fate, and no longer waiting
        self._granted = pending_record(self._ask.endpoint, auth_data, self._ask.to_worker())

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
    """As many attempts as it takes, one after the other.

    ``abandon`` is given an attempt whose outcome nobody waits for any more, and must see to it that nothing stays.
    """

    def __init__(
        self,
        line: EngineClient,
        ask: Ask,
        *,
        deadline_s: float | None,
        on_waiting: Callable[[str], None] | None,
        on_creating: Callable[[dict[str, Any] | None], None] | None = None,
        abandon: Callable[[Attempt], None],
        rng: random.Random,
    ) -> None:
        self._line = line
        self._ask = ask
        self._deadline_s = deadline_s
        self._on_waiting = on_waiting
        self._on_creating = on_creating
        self._abandon = abandon
        self._rng = rng
        self._patience = Patience(time.monotonic(), deadline_s, SILENCE_MAX_S)
        self._reason = ""
        self._failure = ""
        self._refusals = 0
        self._request_idx = 0  # the number under which the last attempt waited, if it did

    async def run(self) -> Session:
        """Returns the session.

        Raises:
            ClientError: there is none, for that reason.
        """
        looked_up_anew = False
        while True:
            from_memory = self._line.knows(self._ask.endpoint)
            try:
                return await self._try_once()
            except OutOfTimeError:
                raise self._out_of_time() from None
            except Exception as error:
                understood = understand(error, self._line.label, self._ask.endpoint)
                if isinstance(understood, EngineRefusedError) and self._request_idx:
                    self._request_idx = 0  # an engine that does not know that number any more: one begins anew
                    continue
                if isinstance(understood, (EndpointUnknownError, KeyRefusedError)) and from_memory:
                    self._line.forget(self._ask.endpoint)
                    if not looked_up_anew:  # it may have been made anew, with another key: the list will say
                        looked_up_anew = True
                        continue
                if understood is not None and not self._is_passing(understood):
                    raise understood from error
                await self._wait_after(error, understood)

    def _is_passing(self, error: ClientError) -> bool:
        """Whether another worker may take what this one has refused."""
        if not isinstance(error, WorkerRefusedError) or error.status not in REFUSED_IN_PASSING:
            return False
        self._refusals += 1
        return self._refusals < REFUSALS_MAX

    async def _try_once(self) -> Session:
        endpoint = await within(self._line.find(self._ask.endpoint), self._left_s())
        sdk = await within(self._line.connect(), self._left_s())
        attempt = Attempt(sdk, endpoint, self._ask, self._waiting, self._on_creating, self._request_idx)
        try:
            await asyncio.wait({attempt.task}, timeout=self._left_s())
        except BaseException:
            self._abandon(attempt)  # also if it has just gone well: nobody will ever learn of it
            raise
        self._request_idx = attempt.request_idx
        if attempt.answered:
            self._patience.heard()
        if not attempt.task.done():
            self._abandon(attempt)
            raise OutOfTimeError
        return attempt.task.result()

    async def _wait_after(self, error: Exception, understood: ClientError | None) -> None:
        """Pauses until the next attempt, or gives up for ``error``, which means what is ``understood``."""
        self._failure = reason_of(error)
        now = time.monotonic()
        self._patience.failed(now)
        if self._patience.is_over(now, ever_heard=self._line.heard):
            silent_s = self._patience.silent_s(now)
            raise understood or EngineUnreachableError(self._line.label, self._failure, silent_s=silent_s) from error
        pause_s = backoff_s(self._patience.failures, self._rng)
        left_s = self._left_s()
        await asyncio.sleep(pause_s if left_s is None else min(pause_s, left_s))

    def _out_of_time(self) -> EngineUnreachableError | NoWorkerInTimeError:
        if self._patience.failures:
            silent_s = self._patience.silent_s(time.monotonic())
            return EngineUnreachableError(self._line.label, self._failure, silent_s=silent_s)
        return NoWorkerInTimeError(self._ask.endpoint, self._deadline_s or 0.0, self._reason)

    def _waiting(self, reason: str) -> None:
        self._reason = reason
        if self._on_waiting is not None:
            self._on_waiting(reason)

    def _left_s(self) -> float | None:
        return self._patience.left_s(time.monotonic())
