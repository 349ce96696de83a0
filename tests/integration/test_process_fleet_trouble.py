"""Full disks, too many files, processes that do not end: one sentence each, and nothing left half-done."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import FleetError, InstanceState
from nullworker.fleets.processes import ending, proc
from tests.integration.process_fleets import PATIENCE_S, Place, kill, make_workers, place_in, spec, states
from tests.kit.waiting import until

if TYPE_CHECKING:
    import signal
    from collections.abc import AsyncIterator


RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in(tmp_path) as place:
        yield place


async def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    """On a real file system of 64 KB, in a mount namespace of the test's own."""
    script = tmp_path / "full.py"
    script.write_text(FULL_DISK)
    make_workers(tmp_path / "root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=64k none {disk} && exec {sys.executable} {script} {disk} {tmp_path / 'root'}"
    process = await asyncio.create_subprocess_exec(
        *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    if b"unshare" in err or b"mount:" in err:
        pytest.skip(f"this machine does not let its users mount: {err.decode().strip()}")
    assert out.decode().splitlines() == ["definite", "1 listed", "0 left over"], err.decode()


FULL_DISK = """
import asyncio, os, sys
from nullworker.fleets.base import FleetError
from nullworker.fleets.processes import ProcessFleet
from tests.integration.process_fleets import spec

async def main():
    disk, root = sys.argv[1:]
    fleet = await ProcessFleet.open({"state_dir": disk, "workers_path": root}, "mark", print)
    await fleet.create(spec(1))
    try:
        with open(disk + "/ballast", "wb", buffering=0) as file:
            while file.write(b"x" * 4096):
                pass
    except OSError:
        pass
    try:
        await fleet.create(spec(2))
    except FleetError as error:
        assert "the disk is full" in str(error) and "free some space" in str(error), error
        print("definite" if error.definite else "not definite")
    print(len(await fleet.list()), "listed")
    print(len(os.listdir(disk + "/fleets/processes/mark")) - 1, "left over")
    await fleet.close(destroy=True)

asyncio.run(main())
"""


FEW_FILES = """
import asyncio, os, resource, sys
from nullworker.fleets.base import FleetError
from nullworker.fleets.processes import ProcessFleet
from tests.integration.process_fleets import spec

async def main():
    state, root = sys.argv[1:]
    fleet = await ProcessFleet.open({"state_dir": state, "workers_path": root}, "mark", print)
    await fleet.create(spec(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) - 1, hard))
    for verb in (fleet.create(spec(2)), fleet.list()):
        try:
            await verb
        except FleetError as error:
            print(error)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    print(len(await fleet.list()), "listed")
    await fleet.close(destroy=True)

asyncio.run(main())
"""


async def test_too_many_open_files_are_one_sentence_and_leave_nothing(place: Place) -> None:
    """When there is room again, the fleet goes on."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FEW_FILES, str(place.path / "few"), str(place.settings["workers_path"])),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    out, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    create, listed, count = out.decode().splitlines()
    assert "many" in create
    assert "open" in create
    assert listed == "The process fleet cannot be listed: too many files are open: raise the limit (ulimit -n)."
    assert count == "1 listed"


async def test_a_state_directory_that_cannot_be_used_is_one_sentence(place: Place) -> None:
    (place.path / "file").touch()
    with pytest.raises(FleetError, match=f"cannot be opened: .*{place.path}/file"):
        await place.open(state_dir=place.path / "file")


async def test_a_fleet_without_a_mark_is_refused(place: Place) -> None:
    """It could not tell its instances from others'."""
    with pytest.raises(FleetError, match="mark"):
        await place.open("")


async def test_an_instance_that_was_removed_by_hand_can_be_made_again(place: Place) -> None:
    """One that is stopped, and whose directory goes, is no longer listed."""
    fleet = await place.open()
    await fleet.create(spec(1))
    await fleet.stop(1)
    shutil.rmtree(place.directory(1))
    assert await fleet.list() == []
    with pytest.raises(FleetError, match=r"Worker 1 was not started: No such file or directory"):
        await fleet.start(1)
    await fleet.create(spec(1))
    assert await states(fleet) == {1: RUNNING}


async def test_a_file_that_cannot_be_removed_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance is gone all the same, and destroying it again clears up the rest."""
    fleet = await place.open()
    await fleet.create(spec(1))

    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        with pytest.raises(
            FleetError, match=r"has ended, but what it left cannot be removed: .*not permitted"
        ) as raised:
            await fleet.destroy(1)
    assert not raised.value.definite
    assert place.running() == []
    assert await fleet.list() == []
    await fleet.destroy(1)
    assert list(place.directory(1).parent.iterdir()) == []


async def test_a_worker_that_cannot_be_stopped_goes_on_as_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is listed as running, and should it end after all, that is news."""
    fleet = await place.open(grace_s=0.05)
    await fleet.create(spec(1))

    def refuse(_process: proc.Process, _number: signal.Signals) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(proc, "send_signal", refuse)
        patched.setattr(ending, "KILL_PATIENCE_S", 0.05)
        with pytest.raises(FleetError, match=r"Worker 1 did not end: process \d+ survived SIGKILL") as raised:
            await fleet.stop(1)
    assert not raised.value.definite
    assert await states(fleet) == {1: RUNNING}
    await kill(place.pid(1))
    await until(lambda: place.exits)
    assert await states(fleet) == {1: EXITED}


async def test_closing_says_what_could_not_be_destroyed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = await place.open()
    await fleet.create(spec(1))
    await fleet.create(spec(2))

    def refuse(path: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        with pytest.raises(FleetError, match=r"2 of 2 workers could not be destroyed: Worker \d has ended, but"):
            await fleet.close(destroy=True)
    assert place.running() == []


async def test_a_hundred_creates_at_once_are_started_a_few_at_a_time(place: Place) -> None:
    """And a stop does not wait behind them."""
    fleet = await place.open(start_limit=2)
    under_way, most = 0, 0
    launch_now = fleet._launch_now

    def counted(*args: object, **kwargs: object) -> object:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return launch_now(*args, **kwargs)  # type: ignore[arg-type] # passed on as they came
        finally:
            under_way -= 1

    fleet._launch_now = counted  # type: ignore[assignment,method-assign] # watched, not changed
    await asyncio.gather(*(fleet.create(spec(worker_id)) for worker_id in range(1, 101)))
    assert most == 2
    assert list((await states(fleet)).values()) == [RUNNING] * 100
    await asyncio.gather(*(fleet.destroy(worker_id) for worker_id in range(1, 101)))
    assert await fleet.list() == []
    assert place.exits == []


async def test_creates_that_still_wait_when_the_fleet_closes_are_not_done(place: Place) -> None:
    """Each of those who asked is told; nothing is left running that was not listed."""
    fleet = await place.open(start_limit=1)
    creates = [asyncio.create_task(fleet.create(spec(worker_id))) for worker_id in range(1, 31)]
    await until(lambda: place.directory(1).exists())
    await fleet.close(destroy=True)
    results = await asyncio.gather(*creates, return_exceptions=True)
    assert all(result is None or isinstance(result, FleetError) for result in results)
    assert any(isinstance(result, FleetError) and "closing" in str(result) for result in results)
    assert place.running() == []


async def test_marks_that_look_like_paths_stay_in_their_place(place: Place) -> None:
    """So do endpoints' names, and very long ones."""
    for mark in ("../../escape", "..", "/tmp/x", "m" * 300, "ü/ß"):
        fleet = await place.open(mark)
        await fleet.create(spec(1, endpoint=mark))
        assert await states(fleet) == {1: RUNNING}
        await fleet.close(destroy=True)
    assert sorted(path.name for path in place.path.iterdir()) == ["root", "state"]
    assert sorted(path.name for path in (place.path / "state").iterdir()) == ["fleets", "logs"]
    assert len(list((place.path / "state" / "logs").iterdir())) == 5
