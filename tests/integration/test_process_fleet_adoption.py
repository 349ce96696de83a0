"""Engines come and go, are killed, and leave records torn: workers stay, and the next engine finds them all."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import FleetError, InstanceState
from tests.integration.process_fleets import MARK, PATIENCE_S, Place, alive, kill, place_in, spec, states
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


RUNNING, STOPPED, EXITED = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.EXITED


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in(tmp_path) as place:
        yield place


ENGINE = """
import asyncio, json, sys
from nullworker.fleets.processes import ProcessFleet
from tests.integration.process_fleets import spec

async def main():
    fleet = await ProcessFleet.open(json.loads(sys.argv[1]), sys.argv[2], print)
    for worker_id, backend in enumerate(sys.argv[3:], 1):
        await fleet.create(spec(worker_id, backend))
    print("ready", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def kill_engine(place: Place, *backends: str) -> None:
    """An engine in a process of its own that creates workers, and is killed without a chance to say goodbye."""
    settings = json.dumps({**place.settings, "state_dir": str(place.settings["state_dir"])})
    engine = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", ENGINE, settings, MARK, *backends),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert engine.stdout is not None
    try:
        assert await asyncio.wait_for(engine.stdout.readline(), PATIENCE_S) == b"ready\n"
    finally:
        engine.kill()
        await engine.wait()


async def test_workers_outlive_an_engine_that_is_killed_and_are_adopted(place: Place) -> None:
    """The next engine sees them running, is told when they end, and can stop, start and destroy them."""
    await kill_engine(place, "idle", "idle", "family")
    pids = [place.pid(worker_id) for worker_id in (1, 2, 3)]
    assert all(map(alive, pids))
    fleet = await place.open()
    assert fleet._ports._held == {port for each in (1, 2, 3) for port in place.record(each)["ports"].values()}
    assert await states(fleet) == {1: RUNNING, 2: RUNNING, 3: RUNNING}
    await fleet.create(spec(1))
    assert place.pid(1) == pids[0]
    await kill(pids[0])
    await until(lambda: place.exits)
    ((worker_id, detail),) = place.exits
    assert worker_id == 1
    assert "exit code is not known" in detail
    await fleet.stop(2)
    assert not alive(pids[1])
    await fleet.start(2)
    assert place.pid(2) != pids[1]
    await until((place.directory(3) / "pids").exists)
    family = [int(pid) for pid in (place.directory(3) / "pids").read_text().split()]
    await fleet.destroy(3)
    assert not any(map(alive, family))
    assert await states(fleet) == {1: EXITED, 2: RUNNING}


async def test_a_worker_whose_number_was_not_noted_yet_is_found(place: Place) -> None:
    """An engine that dies between starting a process and writing that down loses nothing."""
    await kill_engine(place, "idle")
    record, pid = place.record(1), place.pid(1)
    record.update(pid=None, start_ticks=0, boot="")
    (place.directory(1) / "instance.json").write_text(json.dumps(record))
    fleet = await place.open()
    assert await states(fleet) == {1: RUNNING}
    await fleet.destroy(1)
    assert not alive(pid)


@pytest.mark.parametrize("damage", ["", '{"worker_id": 1, "endp', "null", '{"worker_id": 2}'])
async def test_an_instance_whose_record_is_torn_can_be_destroyed(place: Place, damage: str) -> None:
    """What runs of it is found by its environment."""
    await kill_engine(place, "idle")
    pid = place.pid(1)
    (place.directory(1) / "instance.json").write_text(damage)
    fleet = await place.open()
    (instance,) = await fleet.list()
    assert (instance.worker_id, instance.state, instance.detail) == (1, EXITED, "its record is unreadable")
    for verb in (fleet.start, fleet.stop):
        with pytest.raises(FleetError, match="its record is unreadable; destroy it"):
            await verb(1)
    await fleet.destroy(1)
    assert not alive(pid)
    assert await fleet.list() == []


async def test_an_instance_whose_directory_was_removed_can_be_destroyed(place: Place) -> None:
    await kill_engine(place, "open_book")
    pid = place.pid(1)
    await place.about(1)
    shutil.rmtree(place.directory(1))
    fleet = await place.open()
    assert await states(fleet) == {1: EXITED}
    await fleet.destroy(1)
    assert not alive(pid)
    assert await fleet.list() == []


async def test_a_process_that_has_the_number_of_an_ended_worker_is_not_mistaken_for_it(place: Place) -> None:
    """Same number, other start: it is neither listed as running nor ended."""
    await kill_engine(place, "idle")
    record = place.record(1)
    await kill(place.pid(1))
    other_process = await asyncio.create_subprocess_exec("sleep", "3600", start_new_session=True)
    try:
        record["pid"] = other_process.pid
        (place.directory(1) / "instance.json").write_text(json.dumps(record))
        fleet = await place.open()
        assert await states(fleet) == {1: EXITED}
        await fleet.destroy(1)
        assert alive(other_process.pid)
    finally:
        other_process.kill()
        await other_process.wait()


async def test_after_the_machine_restarted_everything_has_ended(place: Place) -> None:
    """Process numbers are used again, so that even number and start may be those of another process."""
    await kill_engine(place, "idle")
    record, pid = place.record(1), place.pid(1)
    (place.directory(1) / "instance.json").write_text(json.dumps({**record, "boot": "another"}))
    fleet = await place.open()
    assert await states(fleet) == {1: EXITED}
    assert alive(pid)


async def test_what_a_crash_left_half_made_or_half_removed_is_cleared_away(place: Place) -> None:
    root = place.directory(1).parent
    for name in (".new-1", ".gone-2"):
        (root / name).mkdir(parents=True)
        (root / name / "instance.json").write_text("{")
    fleet = await place.open()
    assert await fleet.list() == []
    assert list(root.iterdir()) == []


async def test_a_worker_told_to_stop_by_an_engine_that_died_over_it_is_stopped(place: Place) -> None:
    """The next engine does not take it for a crash."""
    await kill_engine(place, "idle")
    record, pid = place.record(1), place.pid(1)
    (place.directory(1) / "instance.json").write_text(json.dumps({**record, "stopped": True}))
    fleet = await place.open()
    assert await states(fleet) == {1: RUNNING}
    await kill(pid)
    assert await states(fleet) == {1: STOPPED}
    await fleet.start(1)
    assert place.exits == []
