"""GPUs of the process fleet, with real processes: each worker sees its own ones and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import FleetError, InstanceState, Resources, ShortageError
from tests.integration.process_fleets import Place, kill, place_in, spec, states
from tests.kit.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with place_in(tmp_path) as place:
        yield place


async def visible(place: Place, worker_id: int) -> str | None:
    about = await place.about(worker_id)
    (place.directory(worker_id) / "about.json").unlink()
    seen: str | None = about["env"].get("CUDA_VISIBLE_DEVICES")
    return seen


async def test_each_worker_has_its_own_until_nothing_of_it_runs(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-7")
    fleet = await place.open(gpus_per_worker=1)
    await fleet.create(spec(1, "open_book", env={"CUDA_VISIBLE_DEVICES": "4,GPU-7"}))
    await fleet.create(spec(2, "open_book"))
    assert {await visible(place, 1), await visible(place, 2)} == {"4", "GPU-7"}
    with pytest.raises(ShortageError, match="Worker 3 wants 1 GPU, and 0 of 2 are free"):
        await fleet.create(spec(3))
    assert sorted(await states(fleet)) == [1, 2], "what was refused is not there"
    await fleet.create(spec(4, "open_book", resources=Resources(gpus=0)))
    assert await visible(place, 4) == ""
    await kill(place.pid(2))
    await until(lambda: place.exits)
    with pytest.raises(ShortageError):  # what it started may run on until it is destroyed
        await fleet.create(spec(3))
    await fleet.stop(1)
    await fleet.create(spec(3, "open_book"))
    assert await visible(place, 3) == "4"
    with pytest.raises(ShortageError):
        await fleet.start(1)
    await fleet.destroy(2)
    await fleet.start(1)
    assert await visible(place, 1) == "GPU-7"


async def test_the_next_engine_does_not_give_them_again(place: Place) -> None:
    first = await place.open(gpus=["0", "1"], gpus_per_worker=1)
    await first.create(spec(1))
    await first.create(spec(2))
    await first.stop(2)
    await first.close()
    second = await place.open(gpus=["0", "1"], gpus_per_worker=1)
    await second.create(spec(3, "open_book"))
    assert await visible(place, 3) == "1"
    with pytest.raises(ShortageError):
        await second.start(2)
    assert await states(second) == {1: InstanceState.RUNNING, 2: InstanceState.STOPPED, 3: InstanceState.RUNNING}


async def test_without_gpus_per_worker_all_workers_have_what_the_engine_has(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    fleet = await place.open()
    await fleet.create(spec(1, "open_book"))
    assert await visible(place, 1) == "4,5"


async def test_a_worker_that_could_not_be_started_has_no_gpu(place: Place) -> None:
    fleet = await place.open(gpus=1, gpus_per_worker=1)
    with pytest.raises(FleetError, match="no backend"):
        await fleet.create(spec(1, "absent"))
    await fleet.create(spec(2))


async def test_what_a_machine_cannot_place_by_is_refused(place: Place) -> None:
    fleet = await place.open()
    with pytest.raises(FleetError, match="places workers by GPUs alone; leave cpus and labels out of its workergroup"):
        await fleet.create(spec(1, resources=Resources(cpus=2, labels={"disk": "fast"})))
    assert await fleet.list() == []


async def test_one_gpu_twice_is_refused(place: Place) -> None:
    with pytest.raises(FleetError, match="name one GPU twice"):
        await place.open(gpus=["0", 0])


async def test_a_log_is_read_through_the_fleet_also_after_the_worker(place: Place) -> None:
    fleet = await place.open()
    await fleet.create(spec(1, "brief"))
    await until(lambda: place.exits)
    whole = (place.directory(1) / "worker.log").read_bytes()
    assert whole.startswith(b"first words")
    assert await fleet.read_log(1, 1000) == whole[-1000:]
    assert await fleet.read_log(1, 5) == whole[-5:]
    await fleet.destroy(1)
    assert await fleet.read_log(1, 1000) == whole[-1000:]
    assert await fleet.read_log(9, 1000) == b""
