"""A program is ended, and goes on with other settings, or as an earlier version of nullworker on the same state."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tools.chaos.faults.kind import fault, lasts
from tools.chaos.faults.processes import ended
from tools.chaos.world import ROOT

if TYPE_CHECKING:
    from tools.chaos.world import World


@fault()
def engine_reconfigured(world: World) -> None:
    """The engine is ended, and started with a larger `max_workers`."""
    ended(world, world.engine, signal.SIGTERM, "the engine")
    world.max_workers += 1
    world.history.max_workers = dict.fromkeys(world.endpoints, world.max_workers)
    world.start_engine()


def _old_engine(world: World) -> None:
    world.code["engine"] = world.old


def _old_dispatcher(world: World) -> None:
    world.code["dispatch"] = world.old


@fault(_old_engine, needs=("old",))
def engine_upgraded(world: World) -> None:
    """The engine was an earlier version; it is ended or killed, and the present one goes on with its workers."""
    _end_engine(world)
    world.code["engine"] = ROOT
    world.start_engine()


@fault(needs=("old",))
def engine_downgraded(world: World) -> None:
    """An earlier version of the engine is started on the state, and refuses or serves for up to 4 s; then back."""
    _end_engine(world)
    world.code["engine"] = world.old
    log = world.log("engine")
    begin = log.stat().st_size
    world.engine = old = world.run(*world.engine_arguments())
    world.within(lambda: world.serves() or old.poll() is not None, 30.0)
    if old.poll() is None:
        lasts(world)
        ended(world, old, signal.SIGTERM, "the earlier version")
    elif old.returncode == 0 or b"Traceback" in log.read_bytes()[begin:]:
        world.history.seen.append(f"the earlier version ended with exit code {old.returncode}, see {log.name}")
    world.code["engine"] = ROOT
    world.start_engine()


@fault(_old_dispatcher, needs=("old",))
def dispatcher_upgraded(world: World) -> None:
    """The dispatcher was an earlier version; it is ended, and the present one goes on with its reservations."""
    ended(world, world.dispatcher, signal.SIGTERM, "the earlier version")
    world.code["dispatch"] = ROOT
    world.start_dispatcher()


@fault(needs=("old",))
def dispatcher_downgraded(world: World) -> None:
    """An earlier version of the dispatcher goes on for up to 4 s; then the present one does."""
    ended(world, world.dispatcher, signal.SIGTERM, "the dispatcher")
    world.code["dispatch"] = world.old
    world.start_dispatcher()
    world.pause(1.0)
    lasts(world)
    ended(world, world.dispatcher, signal.SIGTERM, "the earlier version")
    world.code["dispatch"] = ROOT
    world.start_dispatcher()


def _end_engine(world: World) -> None:
    if world.rng.random() < 0.5:
        world.kill(world.engine)
    else:
        ended(world, world.engine, signal.SIGTERM, "the engine")
