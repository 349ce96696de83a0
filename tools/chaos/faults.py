"""The kinds of fault. Each does its harm, lets it last and takes it away; what it killed itself is noted."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tools.chaos.world import World

    Fault = Callable[[World], None]

#: Debian's package faketime; without it there are no faults of clocks.
FAKETIME = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)
#: By its name; each is called at a random moment of an episode.
FAULTS: dict[str, Fault] = {}


def _fault(call: Fault) -> Fault:
    FAULTS[call.__name__] = call
    return call


def _lasts(world: World, most_s: float = 4.0) -> None:
    world.pause(world.rng.uniform(0.0, most_s))


@_fault
def engine_killed(world: World) -> None:
    world.kill(world.engine)
    _lasts(world)
    world.start_engine()


@_fault
def engine_killed_twice(world: World) -> None:
    engine_killed(world)
    _lasts(world, 1.0)
    engine_killed(world)


@_fault
def engine_terminated(world: World) -> None:
    if not world.kill(world.engine, signal.SIGTERM):
        world.history.seen.append("the engine did not end within 25 s of SIGTERM")
    _lasts(world)
    world.start_engine()


@_fault
def engine_stopped(world: World) -> None:
    _stopped(world, world.engine)


@_fault
def dispatcher_killed(world: World) -> None:
    world.kill(world.dispatcher)
    _lasts(world)
    world.start_dispatcher()


@_fault
def dispatcher_interrupted(world: World) -> None:
    if not world.kill(world.dispatcher, signal.SIGINT):
        world.history.seen.append("the dispatcher did not end within 25 s of SIGINT")
    _lasts(world)
    world.start_dispatcher()


@_fault
def dispatcher_stopped(world: World) -> None:
    _stopped(world, world.dispatcher)


@_fault
def both_killed(world: World) -> None:
    world.kill(world.dispatcher)
    world.kill(world.engine)
    _lasts(world)
    world.start_engine()
    world.start_dispatcher()


@_fault
def worker_killed(world: World) -> None:
    for pid in world.worker_pids()[:1]:
        world.history.victims.update(world.consumers())  # its own ends with it, and it is not said which one that is
        os.kill(pid, signal.SIGKILL)


@_fault
def consumer_killed(world: World) -> None:
    for pid in world.consumers()[:1]:
        world.history.victims.add(pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@_fault
def worker_stopped(world: World) -> None:
    for pid in world.worker_pids()[:1]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            _lasts(world)
            os.kill(pid, signal.SIGCONT)


@_fault
def store_lost(world: World) -> None:
    world.kill(world.engine)
    for file in world.state.glob("engine.db*"):
        file.unlink()
    world.start_engine()


@_fault
def store_log_lost(world: World) -> None:
    world.kill(world.engine)
    (world.state / "engine.db-wal").unlink(missing_ok=True)
    world.start_engine()


@_fault
def store_damaged(world: World) -> None:
    """The start is refused, and the user moves the file away, as the error says."""
    world.kill(world.engine)
    with (world.state / "engine.db").open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(3_000))
    refused = world.run("engine", "--port", "0", "--state", str(world.state))
    try:
        refused.wait(20.0)
    except subprocess.TimeoutExpired:
        world.kill(refused)  # it lives with it: what was damaged was written again from the log
    log = (world.folder / "engine.log").read_text(errors="replace")
    if "Traceback" in log:
        world.history.seen.append("a traceback in the engine's log")
    for damaged in world.state.glob("engine.db*"):
        damaged.rename(world.folder / f"moved-{damaged.name}")
    world.start_engine()


@_fault
def dispatcher_store_lost(world: World) -> None:
    """Reservations are forgotten; their sessions run out."""
    world.kill(world.dispatcher)
    for file in (world.folder / "dispatcher").glob("dispatch.db*"):
        file.unlink()
    world.start_dispatcher()


@_fault
def second_engine(world: World) -> None:
    _must_refuse(world, "engine", "--port", "0", "--state", str(world.state))


@_fault
def second_dispatcher(world: World) -> None:
    _must_refuse(world, *world.dispatch_arguments("another"))


@_fault
def engine_disk_full(world: World) -> None:
    _limited(world, world.engine, resource.RLIMIT_FSIZE, 1)


@_fault
def dispatcher_disk_full(world: World) -> None:
    _limited(world, world.dispatcher, resource.RLIMIT_FSIZE, 1)


@_fault
def engine_few_descriptors(world: World) -> None:
    _limited(world, world.engine, resource.RLIMIT_NOFILE, 24)


@_fault
def queue_locked(world: World) -> None:
    with contextlib.closing(sqlite3.connect(world.queue, timeout=10.0, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        import time  # noqa: PLC0415 - the world cannot watch meanwhile: it writes to the queue

        time.sleep(world.rng.uniform(0.5, 3.0))
        db.execute("COMMIT")


@_fault
def half_requests(world: World) -> None:
    with contextlib.ExitStack() as peers:
        for _ in range(50):
            with contextlib.suppress(OSError):
                peer = peers.enter_context(socket.create_connection(("127.0.0.1", world.port), timeout=1.0))
                peer.sendall(b"POST /route/ HTTP/1.1\r\nContent-Length: 99\r\n\r\n{"[: world.rng.randrange(50)])
        _lasts(world)


@_fault
def clients_vanish(world: World) -> None:
    """Some ask for workers, and are killed while they wait or hold."""
    where = ["--instance", f"http://127.0.0.1:{world.port}", "--endpoint", "chaos", "--hold", "60"]
    world.environ["VAST_API_KEY"] = world.key
    asking = [world.run("reserve", *where) for _ in range(2)]
    _lasts(world)
    for process in asking:
        world.kill(process)


@_fault
def upgraded(world: World) -> None:
    """The engine is ended, and started with another `max_workers`."""
    world.kill(world.engine, signal.SIGTERM)
    world.max_workers = world.history.max_workers = 4
    world.start_engine()


def _clock_step(world: World, part: str, step: str) -> None:
    """Starts the engine or the dispatcher again with a clock of its own, and sets that while it serves."""
    kill, start = {
        "engine": (world.engine, world.start_engine),
        "dispatcher": (world.dispatcher, world.start_dispatcher),
    }[part]
    world.kill(kill)
    with _own_clock(world):
        start()
        _lasts(world)
        _set_clock(world, step)
        _lasts(world)


@_fault
def dispatcher_clock_back(world: World) -> None:
    _clock_step(world, "dispatcher", "-1h")


@_fault
def dispatcher_clock_forward(world: World) -> None:
    _clock_step(world, "dispatcher", "+2d")


@_fault
def engine_clock_back(world: World) -> None:
    """The workers that it starts from then on have that clock, too; those before it have the old one."""
    _clock_step(world, "engine", "-1h")


def _set_clock(world: World, offset: str) -> None:
    (world.folder / "clock").write_text(offset)


@contextlib.contextmanager
def _own_clock(world: World) -> Iterator[None]:
    """What is started meanwhile has a wall clock that `_set_clock` steps; its monotonic clock is the machine's."""
    _set_clock(world, "+0")
    before = dict(world.environ)
    world.environ |= {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(world.folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    try:
        yield
    finally:
        world.environ = before


if FAKETIME is None:
    for name in [name for name in FAULTS if "_clock_" in name]:
        del FAULTS[name]


def _stopped(world: World, process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.send_signal(signal.SIGSTOP)
        _lasts(world, 8.0)
        process.send_signal(signal.SIGCONT)


def _limited(world: World, process: subprocess.Popen[bytes] | None, kind: int, most: int) -> None:
    if process is not None:
        before = resource.prlimit(process.pid, kind)
        resource.prlimit(process.pid, kind, (most, before[1]))
        _lasts(world, 5.0)
        resource.prlimit(process.pid, kind, before)


def _must_refuse(world: World, *arguments: str) -> None:
    second = world.run(*arguments)
    try:
        if second.wait(15.0) == 0:
            world.history.seen.append(f"a second {arguments[0]} ended as if all were well")
    except subprocess.TimeoutExpired:
        world.history.seen.append(f"a second {arguments[0]} was not refused")
        world.kill(second)
