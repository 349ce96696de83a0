"""The consumer: the user's program, started when a reservation opens and ended when it closes.

It runs under a `supervisor` process, which ends it and its children if this process is killed. When it ends, the
reservation ends; if it ends by itself with a non-zero code, the worker is reported as broken. At most one runs: a new
reservation waits until the previous consumer has ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING

from nullworker.wire import tasks
from nullworker.wire.redaction import from_others
from nullworker.wire.worker_side.environment import ORIGINAL_VARIABLES
from nullworker.worker import supervisor_main
from nullworker.worker.idleness import IdleWatch, tree_of
from nullworker.worker.release import ReleaseError
from nullworker.worker.supervisor import Order, SupervisorPool, without_credential

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from typing import Any

    from nullworker.wire.worker_side.run_as import RunAs
    from nullworker.worker.health import Health
    from nullworker.worker.sessions import HeldSession
    from nullworker.worker.settings import Settings
    from nullworker.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

BUSY = (
    "Another program already runs a command for this worker's reservations; end it, or leave out one of NULL_CONSUMER"
    " and nullworker consume."
)
_LOGGED_CHARACTERS_MAX = 500
_PAYLOAD_BYTES_MAX = 100_000  # Linux takes 128 KiB for one variable


class Consumer:
    """Runs the command of the settings for one session after another.

    Args:
        settings: have the command.
        health: set to broken when the command fails.
        release: ends the reservation of a session; called when the command has ended by itself.
    """

    def __init__(self, settings: Settings, health: Health, release: Callable[[HeldSession], Awaitable[object]]) -> None:
        self._settings = settings
        self._health = health
        self._release = release
        # The worker may change its directory; the consumer starts in the configured one, or where the worker started.
        self._directory = settings.consumer_dir or os.getcwd()  # noqa: PTH109 - as text
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()
        self._closing = False
        self._supervisors = SupervisorPool(counts_output=settings.consumer_idle_s is not None)
        self._supervisor: Supervisor | None = None
        self._has_cleared = False

    def prepare(self) -> None:
        """Starts a spare supervisor before a reservation opens."""
        if self._settings.consumer and not self._closing and (self._task is None or self._task.done()):
            self._supervisors.prepare()

    def session_opened(self, session: HeldSession) -> None:
        """Starts the command for a session."""
        if self._settings.consumer:
            self._stop = asyncio.Event()
            self._task = tasks.watch(
                self._run(session, self._stop),
                "Running the consumer",
                lambda sentence: self._lost_track(session, sentence),
            )

    def session_closed(self, _session: HeldSession) -> None:
        """Stops the command."""
        self._stop.set()

    async def vacant(self) -> bool:
        """Whether the command has ended; waits for that as long as a new reservation may wait."""
        if self._task is not None and not self._task.done():
            await asyncio.wait({self._task}, timeout=self._settings.create_wait_s)
        return self._task is None or self._task.done()

    async def close(self) -> None:
        """Ends the command; returns when it is gone."""
        self._closing = True
        self._stop.set()
        if self._task is not None:
            await asyncio.wait({self._task})
        await self._supervisors.close()

    def hurry(self) -> None:
        """Kills the command, instead of waiting for it to end."""
        if self._supervisor is not None:
            self._supervisor.hurry()

    async def _run(self, session: HeldSession, stop: asyncio.Event) -> None:
        try:
            supervisor = self._supervisor = await self._supervisors.take()
        except OSError as error:
            self._health.fail(f"The consumer could not be started: {error.strerror or error}.")
            await self._let_go(session)
            return
        supervisor.start(self._order(session))
        log.info(
            "consumer started under process %d for request %s%s",
            supervisor.pid,
            session.request_idx,
            _with_payload(session.on_close_payload),
        )
        stopped = tasks.start(stop.wait())
        either: set[asyncio.Future[Any]] = {supervisor.ended, stopped}
        async with self._idle_watch(session, supervisor) as idle:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if stop.is_set():
            log.info("consumer stopped, and ended with %s", how_ended(await supervisor.end()))
            self._check_gone(supervisor)
        else:
            code = supervisor.ended.result()
            log.info("consumer of request %s ended with %s", session.request_idx, how_ended(code))
            self._check_gone(supervisor)
            if code != 0 and not idle.asked:
                self._health.fail(why_broken(code, supervisor.last_line()))
            await self._let_go(session)
        await supervisor.finish_output()
        if not self._closing:
            self._supervisors.prepare()

    def _idle_watch(self, session: HeldSession, supervisor: Supervisor) -> IdleWatch:
        async def signs() -> object:
            return tuple(output.count for output in supervisor.outputs), session.heard_at

        return IdleWatch(
            self._settings.consumer_idle_s,
            lambda: tree_of(supervisor.pid, session.session_id),
            signs,
            supervisor.ask,
        )

    def _lost_track(self, session: HeldSession, sentence: str) -> None:
        self._health.fail(sentence)
        if not self._closing:
            self._task = tasks.watch(self._let_go(session), "Releasing the worker")

    async def _let_go(self, session: HeldSession) -> None:
        try:
            await self._release(session)
        except ReleaseError as error:
            self._health.fail(str(error))

    def _check_gone(self, supervisor: Supervisor) -> None:
        """A worker beside which something of a consumer goes on is broken: the next would share its GPU with that."""
        if supervisor.is_busy:
            self._health.fail(BUSY)
        if supervisor.left:
            self._health.fail(why_left(supervisor.left))

    def _order(self, session: HeldSession) -> Order:
        read, url = self._settings, self._settings.control_url
        # An earlier worker on this port may have been killed together with what watched its consumer.
        place, self._has_cleared = "" if self._has_cleared else url, True
        return Order(
            read.consumer,
            session.session_id,
            consumer_environment(session.session_id, session.request_idx, session.on_close_payload, url, read.run_as),
            self._directory,
            read.consumer_grace_s,
            read.consumer_background_s,
            read.run_as,
            place,
        )


def _with_payload(payload: object) -> str:
    """The payload for the log, by which `nullworker logs` finds a consumer's output; what looks secret is masked."""
    if payload in (None, {}, ""):
        return ""
    text = from_others(json.dumps(payload, ensure_ascii=False))
    return f" with payload {text[:_LOGGED_CHARACTERS_MAX]}"


def consumer_environment(
    session_id: str, request_idx: int, payload: object, control_url: str, run_as: RunAs | None = None
) -> dict[str, str]:
    """The environment of a consumer: the worker's, without its credential and its interpreter's, and the reservation.

    Args:
        session_id: the session that holds the worker.
        request_idx: the request that opened it.
        payload: what the reservation was made with.
        control_url: where the worker's control port is.
        run_as: the user that it runs as; None: the worker's own.
    """
    env = without_interpreter(without_credential(os.environ))
    if run_as is not None:
        env.update(run_as.variables)
    env["NULL_SESSION_ID"] = session_id
    env["NULL_REQUEST_IDX"] = str(request_idx)
    env["NULL_CONTROL_URL"] = control_url
    text = json.dumps(payload, ensure_ascii=False)
    if len(text.encode()) <= _PAYLOAD_BYTES_MAX:
        env["NULL_PAYLOAD"] = text
    else:
        log.warning("the payload is too large for NULL_PAYLOAD; the consumer can GET /reservation")
    return env


def without_interpreter(env: Mapping[str, str]) -> dict[str, str]:
    """Without what a fleet set for the worker's own Python: a consumer may run on another, which that would break."""
    kept = {name: value for name, value in env.items() if name != ORIGINAL_VARIABLES}
    try:
        own = json.loads(env.get(ORIGINAL_VARIABLES, "{}"))
    except ValueError:
        own = {}
    for name, value in own.items() if isinstance(own, dict) else ():
        kept.pop(name, None)
        if isinstance(value, str):
            kept[name] = value
    return kept


def why_broken(code: int, last_line: str) -> str:
    """Why a worker is broken whose consumer ended with this code: one sentence, with the last line that it wrote."""
    said = f": {last_line}" if last_line else "."
    return f"The consumer ended with {how_ended(code)} while its reservation was open{said}"


def why_left(left: tuple[str, ...]) -> str:
    """Why a worker is broken beside which something of its consumer goes on.

    Args:
        left: the processes, in words.
    """
    return (
        f"The consumer left {', '.join(left)}, which could not be ended; end it by hand: no other consumer starts"
        " beside it."
    )


def how_ended(code: int) -> str:
    """A supervisor's exit code in words."""
    if code == supervisor_main.NOT_STARTED:
        return f"exit code {code} (a command was not found)"
    if code > 128:
        return f"exit code {code} (signal {code - 128})"
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
