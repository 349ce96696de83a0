"""Engine and dispatcher together, from their start to what becomes of jobs that run at the end."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
from typing import TYPE_CHECKING, Any

from nullworker.cli.up.screen import Screen
from nullworker.core import views
from nullworker.core.worker import WorkerState
from nullworker.dispatch.dispatcher import Dispatcher
from nullworker.engine.logs import configure
from nullworker.engine.server import Server
from nullworker.wire import tasks

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.cli.up.plan import Plan

#: How long a second Ctrl-C is waited for.
ASK_S = 5.0
LOOK_S = 0.2
#: Requests that wait are withdrawn before it is counted what runs; most are at once.
WITHDRAW_S = 1.0
#: A worker that was named to a client a moment ago may be held, and tells soon. After so long it is left as it is.
SETTLE_S = 20.0
EXIT_INTERRUPTED = 130
#: What a worker that holds something can be; in another state it may hold something that it has not told yet.
_HOLDING = (WorkerState.HELD, WorkerState.DRAINING, WorkerState.ERROR)


class AtSignal(enum.Enum):
    """What becomes of jobs that run when a signal ends the command."""

    ASK = "ask"  # a second Ctrl-C ends them
    LEAVE = "leave"
    END = "end"


class Signals:
    """SIGINT and SIGTERM, counted as they come."""

    def __init__(self) -> None:
        """Listens from now on."""
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        self.signum = 0
        for signum in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(signum, self._receive, signum)

    def _receive(self, signum: int) -> None:
        if self.first.is_set():
            self.second.set()
        else:
            self.signum = signum
            self.first.set()


async def run_until_done(plan: Plan, at_signal: AtSignal, *, until_empty: bool) -> int:
    """Serves until a signal, or with ``until_empty`` until there is nothing to do; returns the exit code.

    Args:
        plan: what is served.
        at_signal: what becomes of jobs that run then.
        until_empty: end when the queues are empty and nothing is held.

    Raises:
        ServerError, DispatchStoreError, QueueError, ClientError: it cannot begin, or go on.
    """
    signals = Signals()
    log_file = open_log(plan.engine.state)
    server = await Server.open(plan.engine, os.environ)
    ends_held = False
    try:
        with Screen(plan, server, log_file) as screen:
            looking = tasks.start(screen.run(LOOK_S))
            try:
                ends_held = await _dispatch(plan, server, screen, signals, at_signal, until_empty=until_empty)
            finally:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
    finally:
        await server.close(destroy=True, spare_held=not ends_held, hurry=signals.second)
    return EXIT_INTERRUPTED if signals.signum == signal.SIGINT else 0


def open_log(state: Path) -> Path:
    """Sends logs to a file alone, which it returns: the screen shows what matters of them."""
    configure(state, "info", open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - open as long as we run
    return state / "engine.log"


async def _dispatch(
    plan: Plan, server: Server, screen: Screen, signals: Signals, at_signal: AtSignal, *, until_empty: bool
) -> bool:
    """Dispatches until the end; returns whether jobs that run are to be ended with their workers."""
    settings = plan.dispatch
    dispatcher = Dispatcher(
        settings.bindings,
        instance=server.url,
        api_key=server.keys.account_key.reveal(),
        store_file=server.state_dir / "dispatch.db",
        shared_cap=settings.cap,
        budget=settings.budget,
        on_change=screen.queue_changed,
        say=screen.say,
    )
    async with dispatcher:
        if adopted := dispatcher.adopt():
            screen.say(f"taken over from an earlier run: {_jobs(adopted)}")
        running = tasks.start(dispatcher.run(until_empty=until_empty))
        asked = tasks.start(signals.first.wait())
        failed = server.failure
        try:
            either: set[asyncio.Future[Any]] = {running, asked, failed}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
                await _settle(server, signals)
                # What is held now, other clients hold.
                return bool(_held(server)) and await _ask(server, screen, signals, at_signal)
            if failed.done():
                screen.say(f"error: {failed.result()}")
                return False
        finally:
            for task in (running, asked):
                task.cancel()
            await asyncio.gather(running, asked, return_exceptions=True)
        draining = tasks.start(dispatcher.drain())
        await asyncio.wait({draining}, timeout=WITHDRAW_S)
        ends = await _ask(server, screen, signals, at_signal)
        with contextlib.suppress(Exception):
            await draining
        if not ends:
            await _settle(server, signals)
        return ends


async def _settle(server: Server, signals: Signals) -> None:
    """Waits until it is known of each worker whether it is held, so that none runs on for nothing."""
    engine = server.driver.engine
    loop = asyncio.get_running_loop()
    give_up_at_s = loop.time() + SETTLE_S
    while loop.time() < give_up_at_s and not signals.second.is_set():
        free = {worker.worker_id for worker in views.endable_workers(engine)}
        ours = [worker for worker in views.worker_refs(engine) if worker.owned and worker.worker_id not in free]
        if all(worker.state in _HOLDING for worker in ours):
            return
        await asyncio.sleep(LOOK_S)


def _held(server: Server) -> int:
    return len([worker for worker in views.workers(server.driver.engine) if worker.state == "held"])


async def _ask(server: Server, screen: Screen, signals: Signals, at_signal: AtSignal) -> bool:
    """Whether jobs that run are to be ended; says what becomes of them."""
    held = _held(server)
    if not held:
        screen.say("no job runs; workers are ended")
        return False
    if at_signal is AtSignal.ASK and signals.signum == signal.SIGINT:
        screen.say(f"{_run(held)}. Ctrl-C again ends them, or they go on ({ASK_S:g} s) …")
        second = tasks.start(signals.second.wait())
        await asyncio.wait({second}, timeout=ASK_S)
        second.cancel()
    if at_signal is AtSignal.END or signals.second.is_set():
        screen.say(f"ended with their workers: {_jobs(held)}")
        return True
    screen.say(f"left running: {_jobs(held)}; the next nullworker up takes over")
    return False


def _jobs(count: int) -> str:
    return f"{count} job" if count == 1 else f"{count} jobs"


def _run(count: int) -> str:
    return f"{_jobs(count)} {'runs' if count == 1 else 'run'}"
