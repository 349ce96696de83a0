"""The wall clock of one program is stepped (libfaketime); its monotonic clock is the machine's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tools.chaos.faults.kind import fault, lasts

if TYPE_CHECKING:
    from tools.chaos.world import World

STEPS = ("3m", "1h", "2d")


def library() -> Path | None:
    """Debian's package faketime."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def _clock(world: World) -> dict[str, str]:
    """Variables that give a program a clock which `_step` sets; it is right at first."""
    (world.folder / "clock").write_text("+0")
    return {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(world.folder / "clock"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def _of_engine(world: World) -> None:
    world.environ["engine"] = _clock(world)


def _of_dispatcher(world: World) -> None:
    world.environ["dispatch"] = _clock(world)


def _of_workers(world: World) -> None:
    world.worker_environ = _clock(world)


def _step(world: World, sign: str) -> None:
    (world.folder / "clock").write_text(sign + world.rng.choice(STEPS))
    lasts(world)


@fault(_of_engine, needs=("faketime",))
def engine_clock_back(world: World) -> None:
    """The engine's wall clock falls back by three minutes, an hour or two days, and stays there."""
    _step(world, "-")


@fault(_of_engine, needs=("faketime",))
def engine_clock_forward(world: World) -> None:
    """The engine's wall clock steps forward by as much, and stays there."""
    _step(world, "+")


@fault(_of_engine, needs=("faketime",))
def engine_clock_to_and_fro(world: World) -> None:
    """The engine's wall clock steps forward, and back again up to 4 s later; the engine may be killed in between."""
    _step(world, "+")
    if world.rng.random() < 0.5:
        world.kill(world.engine)
        world.start_engine()
    (world.folder / "clock").write_text("+0")


@fault(_of_dispatcher, needs=("faketime",))
def dispatcher_clock_back(world: World) -> None:
    """The dispatcher's wall clock falls back by as much, and stays there."""
    _step(world, "-")


@fault(_of_dispatcher, needs=("faketime",))
def dispatcher_clock_forward(world: World) -> None:
    """The dispatcher's wall clock steps forward by as much, and stays there."""
    _step(world, "+")


@fault(_of_workers, needs=("faketime",))
def workers_clocks_back(world: World) -> None:
    """The wall clocks of all workers fall back by as much, and stay there."""
    _step(world, "-")


@fault(_of_workers, needs=("faketime",))
def workers_clocks_forward(world: World) -> None:
    """The wall clocks of all workers step forward by as much, and stay there."""
    _step(world, "+")
