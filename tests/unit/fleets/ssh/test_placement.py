"""Which host has room, and why another has none; where workers are is kept over a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nullworker.fleets.base import InstanceSpec, Resources
from nullworker.fleets.ssh.placement import Placement, Placements, is_full, lacks, slots_of
from nullworker.fleets.ssh.settings import HostSettings

if TYPE_CHECKING:
    from pathlib import Path


def spec(**resources: Any) -> InstanceSpec:
    return InstanceSpec(1, "endpoint", 1, "null", "http://127.0.0.1:9", "token", resources=Resources(**resources))


def test_a_host_has_a_slot_for_each_worker_that_its_gpus_are_enough_for() -> None:
    assert slots_of(HostSettings(host="a", slots=3), gpus=8, gpus_per_worker=1) == 3
    assert slots_of(HostSettings(host="a"), gpus=8, gpus_per_worker=2) == 4
    assert slots_of(HostSettings(host="a"), gpus=8, gpus_per_worker=0) == 8
    assert slots_of(HostSettings(host="a"), gpus=0, gpus_per_worker=0) == 1


def test_what_a_host_lacks_is_named() -> None:
    host = HostSettings(host="a", cpus=4, labels={"disk": "fast"})
    assert lacks(host, Resources(cpus=4, labels={"disk": "fast"})) == ""
    assert lacks(host, Resources(labels={"disk": "slow"})) == "is not labelled disk = slow"
    assert lacks(host, Resources(cpus=5)) == "has cpus = 4, and 5 are wanted"
    assert lacks(host, Resources(memory_gb=1)) == "has no memory_gb in [fleet.ssh]"


def test_a_host_is_full_by_its_slots_or_by_what_is_in_use() -> None:
    host = HostSettings(host="a", cpus=4)
    placed = [Placement(host="a", cpus=3)]
    assert is_full(host, 2, placed, spec(cpus=1)) == ""
    assert is_full(host, 2, placed, spec(cpus=2)) == "has 3 of cpus = 4 in use, and 2 are wanted"
    assert is_full(host, 1, placed, spec()) == "has 1 worker in 1 slot"
    assert is_full(host, 2, placed * 2, spec()) == "has 2 workers in 2 slots"


def test_where_workers_are_is_kept(tmp_path: Path) -> None:
    first = Placements(str(tmp_path), "a/mark")
    first.load()
    first.put(3, Placement(host="a", endpoint="e", workergroup_id=2, address="a:1", is_sure=True))
    first.put(4, Placement(host="b"))
    first.save()
    second = Placements(str(tmp_path), "a/mark")
    second.load()
    assert second.ids() == [3, 4]
    assert second.get(3) == first.get(3)
    assert [worker_id for worker_id, _ in second.on("b")] == [4]
    other = Placements(str(tmp_path), "another")
    other.load()
    assert other.ids() == []


def test_a_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "fleets/ssh").mkdir(parents=True)
    (tmp_path / "fleets/ssh/mark.json").write_text("{")
    placements = Placements(str(tmp_path), "mark")
    placements.load()
    assert placements.ids() == []
