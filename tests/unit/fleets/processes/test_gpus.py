"""Which worker has which GPU: never two workers on one, and a shortage is said as such."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import FleetError, InstanceSpec, Resources, ShortageError
from nullworker.fleets.processes.gpus import GpuPool, find_gpus

if TYPE_CHECKING:
    from pathlib import Path


def spec(worker_id: int, gpus: int | None = None) -> InstanceSpec:
    return InstanceSpec(worker_id, "endpoint", 1, "null", "http://127.0.0.1:9", "token", resources=Resources(gpus=gpus))


def test_no_gpu_is_given_twice() -> None:
    pool = GpuPool(["0", "1", "2"], 1)
    assert pool.take_for(spec(1)) == ["0"]
    assert pool.take_for(spec(2, 2)) == ["1", "2"]
    with pytest.raises(
        ShortageError, match=r"Worker 3 wants 1 GPU, and 0 of 3 are free \(.* workers 1, 2\)\.$"
    ) as told:
        pool.take_for(spec(3))
    assert told.value.definite
    pool.release(2)
    assert pool.take_for(spec(3)) == ["1"]


def test_more_than_there_are_is_no_shortage() -> None:
    with pytest.raises(FleetError, match="wants 4 GPUs, and the process fleet has 2: correct") as told:
        GpuPool(["0", "1"], 1).take_for(spec(1, 4))
    assert not isinstance(told.value, ShortageError)


def test_a_workergroup_says_more_than_the_settings() -> None:
    assert GpuPool(["0"], 1).take_for(spec(1, 0)) == []
    assert GpuPool(["0"], 0).take_for(spec(1)) is None
    assert GpuPool(["0"], 0).take_for(spec(1, 1)) == ["0"]


def test_a_worker_gets_again_what_it_had_where_that_is_free() -> None:
    pool = GpuPool(["0", "1", "2"], 1)
    assert pool.take_for(spec(1), liked=["2"]) == ["2"]
    assert pool.take_for(spec(2), liked=["2"]) == ["0"]


def test_what_an_engine_before_gave_is_not_given_again() -> None:
    pool = GpuPool(["0", "1"], 1)
    pool.hold(7, ["0"])
    assert pool.take_for(spec(8)) == ["1"]


def test_gpus_are_those_of_the_machine_or_those_that_the_engine_may_use(tmp_path: Path) -> None:
    for name in ("nvidia10", "nvidia0", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert find_gpus({}, tmp_path) == ["0", "2", "10"]
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "1, GPU-abc"}, tmp_path) == ["1", "GPU-abc"]
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "-1"}, tmp_path) == []
    assert find_gpus({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == []
