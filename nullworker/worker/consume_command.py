"""What ``nullworker consume -- COMMAND`` runs: the command beside a worker, for each reservation of it.

For instances on which the worker is started separately (by Vast's own start script, say). It talks to the worker's
control port alone, and does what the worker does with a NULL_CONSUMER: it starts the command when a reservation opens,
ends the command when the reservation is over, releases when the command has ended, and reports the worker as broken
when it crashed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from nullworker.wire import tasks
from nullworker.worker import supervisor_main
from nullworker.worker.consumer_process import BUSY, consumer_environment, how_ended, why_broken, why_left
from nullworker.worker.control_client import ControlGone, ControlPort, ControlSilent
from nullworker.worker.idleness import IdleWatch, tree_of
from nullworker.worker.supervisor import Order, SupervisorPool

if TYPE_CHECKING:
    import re
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from nullworker.wire.worker_side.run_as import RunAs
    from nullworker.worker.control_client import Held
    from nullworker.worker.supervisor import Supervisor

log = logging.getLogger(__name__)

WAIT_S = 30.0  # one long poll
BEAT_MIN_S = 0.5
BEAT_MAX_S = 15.0
#: A port at which nothing listens for so long is that of a worker that has ended.
GONE_AFTER_S = 3.0
PAUSE_S = 0.5
PAUSE_MAX_S = 5.0
#: The worker collects a session up to five seconds after its time.
COLLECTED_S = 10.0
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class ConsumeSettings:
    """What is to be run, and how."""

    command: tuple[str, ...]
    control_url: str = "http://127.0.0.1:18999"
    grace_s: float = 8.0
    release_when_idle_s: float | None = None
    keep_alive: bool = False
    ignored: tuple[re.Pattern[bytes], ...] = ()  # lines of output that are no sign of work
    background_s: float | None = None  # how long what the command leaves in the background may go on
    run_as: RunAs | None = None  # the user that it runs as; None: this one


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run of the command ended: its exit code, and whether it was stopped."""

    code: int
    was_stopped: bool
    last_line: str = ""  # of what it wrote to standard error
    left: tuple[str, ...] = ()  # processes that could not be ended
    is_busy: bool = False  # it was not started: another program runs a command for this worker

    @property
    def why_broken(self) -> str:
        """Why the worker is broken by it; "" if it is not."""
        if self.left:
            return why_left(self.left)
        return why_broken(self.code, self.last_line) if self.code != 0 and not self.was_stopped else ""


async def consume(settings: ConsumeSettings) -> int:
    """Runs the command for one reservation after another; returns the exit code when a signal comes or it crashes."""
    signals = _Signals()
    async with aiohttp.ClientSession() as http:
        work = tasks.start(_work(settings, ControlPort(http, settings.control_url), signals))
        waiting: set[asyncio.Future[Any]] = {work, signals.code}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        return signals.code.result()


class _Signals:
    """The signals that end this program. ``code`` is the exit code, once one has come; a second kills the command."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.code: asyncio.Future[int] = loop.create_future()
        self.running: Run | None = None
        loop.add_signal_handler(signal.SIGTERM, self._received, 143)
        loop.add_signal_handler(signal.SIGINT, self._received, 130)

    def _received(self, code: int) -> None:
        if not self.code.done():
            self.code.set_result(code)
        elif self.running is not None:
            self.running.hurry()


async def _work(settings: ConsumeSettings, port: ControlPort, signals: _Signals) -> int:
    supervisors = SupervisorPool(counts_output=settings.release_when_idle_s is not None, ignored=settings.ignored)
    served: str | None = None
    try:
        while True:
            supervisors.prepare()
            held = await _until_held(port, served)
            served = held.session_id
            run = signals.running = Run(settings, port, held, supervisors)
            ended = await run.to_its_end()
            signals.running = None
            if ended.is_busy or ended.why_broken:
                log.error("%s", ended.why_broken or BUSY)
                return 1
    finally:
        await supervisors.close()


async def _until_held(port: ControlPort, served: str | None) -> Held:
    """Waits for a reservation other than the one ``served``, and for a worker that is not there yet."""
    failures = 0
    while True:
        try:
            held = await port.held(other_than=served, wait_s=WAIT_S)
        except (ControlGone, ControlSilent) as error:
            if failures == 0:
                log.warning("the worker's control port at %s does not answer (%s); it is waited for", port.url, error)
            failures += 1
            await asyncio.sleep(min(PAUSE_MAX_S, PAUSE_S * failures))
        else:
            if failures:
                log.info("the worker's control port answers")
            failures = 0
            if held is None:
                served = None
            elif held.session_id != served:
                return held


class Run:
    """The command during one reservation.

    Args:
        settings: have the command.
        port: the worker's control port.
        held: the reservation.
        supervisors: give the process that runs the command.
    """

    def __init__(self, settings: ConsumeSettings, port: ControlPort, held: Held, supervisors: SupervisorPool) -> None:
        self._settings = settings
        self._port = port
        self._held = held
        self._supervisors = supervisors
        self._supervisor: Supervisor | None = None
        self._over_at_s = time.monotonic() + held.left_s + COLLECTED_S  # until the worker reports another time

    def hurry(self) -> None:
        """Kills the command, instead of waiting for it to end."""
        if self._supervisor is not None:
            self._supervisor.hurry()

    async def to_its_end(self) -> Ended:
        """Starts the command; the command ends with the reservation, and the reservation with the command."""
        env = consumer_environment(
            self._held.session_id, self._held.request_idx, self._held.payload, self._port.url, self._settings.run_as
        )
        try:
            supervisor = self._supervisor = await self._supervisors.take()
            supervisor.start(self._order(env))
            log.info("held (session %s): started under process %d", self._held.session_id, supervisor.pid)
            was_stopped = await self._watch(supervisor)
        except asyncio.CancelledError:  # this program is ending
            left = self._supervisor.left if self._supervisor is not None else ()
            await self._let_go(Ended(0, was_stopped=True, left=left))
            raise
        except OSError as error:
            ended = Ended(supervisor_main.NOT_STARTED, was_stopped=False, last_line=str(error.strerror or error))
        else:
            last_line, left = supervisor.last_line(), supervisor.left
            ended = Ended(supervisor.ended.result(), was_stopped, last_line, left, supervisor.is_busy)
        await self._let_go(ended)
        log.info("the command ended with %s", how_ended(ended.code))
        return ended

    def _order(self, env: dict[str, str]) -> Order:
        run = self._settings
        # An earlier program beside this worker may have been killed, and its command may be ending still.
        return Order(
            run.command, self._held.session_id, env, "", run.grace_s, run.background_s, run.run_as, self._port.url
        )

    async def _watch(self, supervisor: Supervisor) -> bool:
        """Returns when the command has ended; whether it was stopped."""
        ended = supervisor.ended
        over = tasks.start(self._until_over())
        beats = tasks.watch(self._keep_alive(), "Keeping the reservation alive") if self._settings.keep_alive else None
        try:
            async with self._idle_watch(supervisor) as idle:
                waiting: set[asyncio.Future[Any]] = {ended, over}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():  # by itself, unless it was stopped, by us or by what it has read at the control port
                return idle.asked or over.done() or (ended.result() != 0 and await self._is_over())
            log.info("the reservation is over: the command is stopped")
            return True
        finally:
            if not ended.done():
                await supervisor.end()
            beside = [task for task in (beats, over) if task is not None]
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await supervisor.finish_output()

    async def _let_go(self, ended: Ended) -> None:
        """The command has ended: releases the worker, after reporting it as broken if the command crashed."""
        if ended.is_busy:
            return  # the reservation is the other's
        if ended.why_broken:
            await self._insist(lambda: self._port.fail(ended.why_broken))
        if not await self._insist(lambda: self._port.release(self._held.session_id)):
            await self._insist(lambda: self._port.fail("Its consumer has ended, and it cannot be released."))

    @staticmethod
    async def _insist(call: Callable[[], Awaitable[None]]) -> bool:
        """Makes a call to the worker, again if there is no answer; whether it was answered. A worker that has ended
        needs no call.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await call()
            except ControlGone:
                break
            except ControlSilent as error:
                log.warning("the worker did not confirm a call (%s)", error)
                if attempt == ATTEMPTS:
                    return False
                await asyncio.sleep(PAUSE_S * attempt)
            else:
                break
        return True

    async def _is_over(self) -> bool:
        """Whether the worker is no longer held by this session; False if that is not known."""
        try:
            held = await self._port.held()
        except ControlGone:
            return True
        except ControlSilent:
            return False
        return held is None or held.session_id != self._held.session_id

    # ---------------------------------------------------------------------------------------------- while it is running

    async def _keep_alive(self) -> None:
        """Sends heartbeats, so that the worker stays held even if the client is away."""
        pause_s = BEAT_MIN_S
        while True:
            with contextlib.suppress(ControlGone, ControlSilent):
                await self._port.heartbeat()
                held = await self._port.held()
                if held is not None and held.session_id == self._held.session_id:
                    self._heard(held)
                    pause_s = min(BEAT_MAX_S, max(BEAT_MIN_S, held.left_s / 4))
            await asyncio.sleep(pause_s)

    def _heard(self, held: Held) -> None:
        self._over_at_s = time.monotonic() + held.left_s + COLLECTED_S

    async def _until_over(self) -> None:
        """Returns when the worker is not held by this session any more, or is gone."""
        gone_since_s: float | None = None
        while True:
            try:
                held = await self._port.held(other_than=self._held.session_id, wait_s=WAIT_S)
            except ControlGone:
                now_s = time.monotonic()
                gone_since_s = gone_since_s or now_s
                if now_s - gone_since_s >= GONE_AFTER_S:
                    log.warning("the worker has ended, and its reservation with it")
                    return
            except ControlSilent:
                gone_since_s = None
                if time.monotonic() >= self._over_at_s:
                    log.warning("the worker has been silent for longer than its reservation lasts")
                    return
            else:
                gone_since_s = None
                if held is None or held.session_id != self._held.session_id:
                    return
                self._heard(held)
                continue
            await asyncio.sleep(PAUSE_S)

    def _idle_watch(self, supervisor: Supervisor) -> IdleWatch:
        return IdleWatch(
            self._settings.release_when_idle_s,
            lambda: tree_of(supervisor.pid, self._held.session_id),
            lambda: self._signs(supervisor),
            supervisor.ask,
        )

    async def _signs(self, supervisor: Supervisor) -> object:
        """Signs of work: the command's output and its last heartbeat; None: they cannot be read."""
        try:
            held = await self._port.held()
        except (ControlGone, ControlSilent):
            return None
        return tuple(output.count for output in supervisor.outputs), held.heard_at if held is not None else None


def run(settings: ConsumeSettings) -> int:
    """As `consume`, from a program that has no event loop."""
    work: Coroutine[Any, Any, int] = consume(settings)
    return asyncio.run(work)
