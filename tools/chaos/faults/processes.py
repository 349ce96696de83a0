"""Processes are killed, ended, or stopped for a time."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

from tools.chaos.faults.kind import fault, lasts

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from tools.chaos.world import World


@fault()
def engine_killed(world: World) -> None:
    """SIGKILL of the engine; it is started again."""
    world.kill(world.engine)
    lasts(world)
    world.start_engine()


@fault()
def engine_killed_twice(world: World) -> None:
    """The same, and once more within a second of its start."""
    engine_killed(world)
    lasts(world, 1.0)
    engine_killed(world)


@fault()
def engine_killed_at_creation(world: World) -> None:
    """SIGKILL of the engine within 80 ms of its first new worker, with none before."""
    world.within(lambda: world.is_done() and not world.worker_pids(), 30.0)
    world.enqueue_rest()
    _soon_after(lambda: bool(world.worker_pids()))
    time.sleep(world.rng.uniform(0.0, 0.08))
    engine_killed(world)


@fault()
def engine_killed_at_begin(world: World) -> None:
    """SIGKILL of the engine as a job begins, or within 80 ms."""
    _soon_after(_noted(world, "begin"))
    time.sleep(world.rng.uniform(0.0, 0.08))
    engine_killed(world)


@fault()
def engine_killed_at_end(world: World) -> None:
    """SIGKILL of the engine as a job ends, or within 80 ms."""
    _soon_after(_noted(world, "end"))
    time.sleep(world.rng.uniform(0.0, 0.08))
    engine_killed(world)


@fault()
def dispatcher_killed_at_begin(world: World) -> None:
    """SIGKILL of the dispatcher as a job begins, or within 80 ms."""
    _soon_after(_noted(world, "begin"))
    time.sleep(world.rng.uniform(0.0, 0.08))
    dispatcher_killed(world)


@fault()
def engine_terminated(world: World) -> None:
    """SIGTERM of the engine while jobs run; it is started again."""
    ended(world, world.engine, signal.SIGTERM, "the engine")
    lasts(world)
    world.start_engine()


@fault()
def engine_stopped(world: World) -> None:
    """SIGSTOP of the engine, and SIGCONT up to 8 s later."""
    _stopped(world, world.engine)


@fault()
def dispatcher_killed(world: World) -> None:
    """SIGKILL of the dispatcher; it is started again."""
    world.kill(world.dispatcher)
    lasts(world)
    world.start_dispatcher()


@fault()
def dispatcher_interrupted(world: World) -> None:
    """SIGINT of the dispatcher while jobs run; it is started again."""
    ended(world, world.dispatcher, signal.SIGINT, "the dispatcher")
    lasts(world)
    world.start_dispatcher()


@fault()
def dispatcher_stopped(world: World) -> None:
    """SIGSTOP of the dispatcher, and SIGCONT up to 8 s later."""
    _stopped(world, world.dispatcher)


@fault()
def both_killed(world: World) -> None:
    """SIGKILL of engine and dispatcher; both are started again."""
    world.kill(world.dispatcher)
    world.kill(world.engine)
    lasts(world)
    world.start_engine()
    world.start_dispatcher()


@fault()
def all_killed(world: World) -> None:
    """SIGKILL of every process at once, workers and consumers too; engine and dispatcher are started again."""
    world.history.victims.update(world.consumers())
    for process in (world.engine, world.dispatcher):
        if process is not None:
            process.kill()
    for pid in [*world.worker_pids(), *world.processes()]:
        world.history.victims.add(pid)
        _signal(pid, signal.SIGKILL)
    world.kill(world.engine)
    world.kill(world.dispatcher)
    lasts(world)
    world.start_engine()
    world.start_dispatcher()


@fault()
def all_stopped(world: World) -> None:
    """SIGSTOP of every process, and SIGCONT up to 8 s later, as when a machine is suspended."""
    pids = [process.pid for process in (world.engine, world.dispatcher, world.redis) if process is not None]
    pids += world.processes()
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    time.sleep(world.rng.uniform(0.5, 8.0))
    for pid in reversed(pids):
        _signal(pid, signal.SIGCONT)


@fault()
def worker_killed(world: World) -> None:
    """SIGKILL of a worker's first process."""
    for pid in list(world.worker_pids())[:1]:
        world.history.victims.update(world.consumers())  # its own ends with it, and it is not said which one that is
        _signal(pid, signal.SIGKILL)


@fault()
def consumer_killed(world: World) -> None:
    """SIGKILL of a program that does a job."""
    for pid in world.consumers()[:1]:
        world.history.victims.add(pid)
        _signal(pid, signal.SIGKILL)


@fault()
def worker_stopped(world: World) -> None:
    """SIGSTOP of a worker's first process, and SIGCONT up to 4 s later."""
    for pid in list(world.worker_pids())[:1]:
        _signal(pid, signal.SIGSTOP)
        lasts(world)
        _signal(pid, signal.SIGCONT)


def ended(world: World, process: subprocess.Popen[bytes] | None, signum: int, name: str) -> None:
    """Asks a process to end; that it does not is a violation."""
    if not world.kill(process, signum):
        world.history.seen.append(f"{name} did not end within 25 s of {signal.Signals(signum).name}")
        world.kill(process)


def _stopped(world: World, process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.send_signal(signal.SIGSTOP)
        lasts(world, 8.0)
        process.send_signal(signal.SIGCONT)


def _noted(world: World, what: str) -> Callable[[], bool]:
    """Whether a consumer has noted one more ``what`` since now."""

    def number() -> int:
        return world.notes.read_text().count(f"{what} ") if world.notes.exists() else 0

    before = number()
    return lambda: number() > before


def _soon_after(condition: Callable[[], bool], limit_s: float = 10.0) -> None:
    """Returns within milliseconds of a moment, or when it has not come."""
    end = time.monotonic() + limit_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.002)


def _signal(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)
