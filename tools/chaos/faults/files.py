"""Files of state are lost or damaged, disks are full or cannot be written, and no more files can be opened."""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tools.chaos.faults.kind import fault, lasts, must_be_refused, run

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tools.chaos.world import World

#: Much more than the state of an episode takes, and little enough to be filled at once.
DISK_BYTES = 32 << 20


@fault()
def store_lost(world: World) -> None:
    """The engine's database is removed while it is down."""
    world.kill(world.engine)
    for file in world.state.glob("engine.db*"):
        file.unlink()
    world.start_engine()


@fault()
def store_log_lost(world: World) -> None:
    """The write-ahead log of the engine's database is removed while it is down."""
    world.kill(world.engine)
    (world.state / "engine.db-wal").unlink(missing_ok=True)
    world.start_engine()


@fault()
def store_damaged(world: World) -> None:
    """The engine's database is overwritten while it is down: the start is refused, and the file is moved away."""
    world.kill(world.engine)
    _damage(world, world.state / "engine.db")
    # It may live with it: what was damaged is written again from the log.
    must_be_refused(world, *world.engine_arguments(0), what="an engine on a damaged database", may_live=True)
    for damaged in world.state.glob("engine.db*"):
        damaged.rename(world.folder / f"moved-{damaged.name}")
    world.start_engine()


@fault()
def dispatcher_store_lost(world: World) -> None:
    """The dispatcher's database is removed while it is down: its reservations run out."""
    world.dispatcher_serves()
    world.kill(world.dispatcher)
    for file in (world.folder / "dispatcher").glob("dispatch.db*"):
        file.unlink()
    world.start_dispatcher()


@fault()
def dispatcher_store_damaged(world: World) -> None:
    """The dispatcher's database is overwritten while it is down: as the engine's."""
    world.dispatcher_serves()
    world.kill(world.dispatcher)
    _damage(world, world.folder / "dispatcher" / "dispatch.db")
    what = "a dispatcher on a damaged database"
    must_be_refused(world, *world.dispatch_arguments("dispatcher"), what=what, may_live=True)
    for damaged in (world.folder / "dispatcher").glob("dispatch.db*"):
        damaged.rename(world.folder / f"moved-{damaged.name}")
    world.start_dispatcher()


@fault()
def engine_files_limited(world: World) -> None:
    """No file of the engine can grow (RLIMIT_FSIZE), for up to 5 s."""
    _limited(world, world.engine, resource.RLIMIT_FSIZE, 1)


@fault()
def dispatcher_files_limited(world: World) -> None:
    """No file of the dispatcher can grow (RLIMIT_FSIZE), for up to 5 s."""
    world.dispatcher_serves()
    _limited(world, world.dispatcher, resource.RLIMIT_FSIZE, 1)


@fault()
def engine_few_descriptors(world: World) -> None:
    """The engine can open no more files and connections (RLIMIT_NOFILE), for up to 5 s."""
    _limited(world, world.engine, resource.RLIMIT_NOFILE, 24)


@fault()
def dispatcher_few_descriptors(world: World) -> None:
    """The dispatcher can open no more files and connections (RLIMIT_NOFILE), for up to 5 s."""
    world.dispatcher_serves()
    _limited(world, world.dispatcher, resource.RLIMIT_NOFILE, 16)


def _disk_of_engine(world: World) -> None:
    _mount_disk(world.state)


def _disk_of_dispatcher(world: World) -> None:
    _mount_disk(world.folder / "dispatcher")


@fault(_disk_of_engine, needs=("namespaces",))
def engine_disk_full(world: World) -> None:
    """The file system of the engine's state is full, for up to 6 s; workers and their logs are on it, too."""
    _filled(world, world.state)


@fault(_disk_of_dispatcher, needs=("namespaces",))
def dispatcher_disk_full(world: World) -> None:
    """The file system of the dispatcher's state is full, for up to 6 s."""
    world.dispatcher_serves()
    _filled(world, world.folder / "dispatcher")


@fault(needs=("namespaces",))
def engine_read_only(world: World) -> None:
    """The engine's directory is read-only for what is opened from then on, for up to 6 s."""
    with _read_only(world.state):
        lasts(world, 6.0)


@fault(needs=("namespaces",))
def dispatcher_read_only(world: World) -> None:
    """The dispatcher's directory is read-only for what is opened from then on, for up to 6 s."""
    world.dispatcher_serves()
    with _read_only(world.folder / "dispatcher"):
        lasts(world, 6.0)


@fault(needs=("namespaces",))
def engine_starts_read_only(world: World) -> None:
    """The engine is started on a read-only directory, and refuses; then on one that can be written."""
    world.kill(world.engine)
    with _read_only(world.state):
        must_be_refused(world, *world.engine_arguments(0), what="an engine on a read-only directory")
    world.start_engine()


@fault(needs=("namespaces",))
def dispatcher_starts_read_only(world: World) -> None:
    """The dispatcher is started on a read-only directory, and refuses; then on one that can be written."""
    world.dispatcher_serves()
    world.kill(world.dispatcher)
    with _read_only(world.folder / "dispatcher"):
        words = world.dispatch_arguments("dispatcher")
        must_be_refused(world, *words, what="a dispatcher on a read-only directory")
    world.start_dispatcher()


def _damage(world: World, file: Path) -> None:
    if file.exists():
        with file.open("r+b") as written:
            written.seek(100)
            written.write(world.rng.randbytes(3_000))


def _mount_disk(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "none", str(folder))


def _filled(world: World, folder: Path) -> None:
    ballast = folder / "ballast"
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    with contextlib.suppress(OSError):
        while True:
            os.write(file, bytes(1 << 16))
    with contextlib.suppress(OSError):
        while True:
            os.write(file, bytes(512))
    os.close(file)
    lasts(world, 6.0)
    ballast.unlink()


@contextlib.contextmanager
def _read_only(folder: Path) -> Iterator[None]:
    """A second mount over a directory: what is open stays on the first, whatever is opened now is on the second.

    It is made read-only elsewhere, as it cannot be while anything on it is open for writing, and moved there at once.
    """
    elsewhere = Path(tempfile.mkdtemp())
    run("mount", "--bind", str(folder), str(elsewhere))
    run("mount", "-o", "remount,bind,ro", str(elsewhere))
    run("mount", "--move", str(elsewhere), str(folder))
    elsewhere.rmdir()
    try:
        yield
    finally:
        run("umount", "--lazy", str(folder))


def _limited(world: World, process: subprocess.Popen[bytes] | None, kind: int, most: int) -> None:
    if process is not None:
        before = resource.prlimit(process.pid, kind)
        resource.prlimit(process.pid, kind, (most, before[1]))
        lasts(world, 5.0)
        resource.prlimit(process.pid, kind, before)
