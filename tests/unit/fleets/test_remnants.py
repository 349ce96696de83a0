"""A directory that could not be removed is removed at the next occasion, by each fleet that keeps one an instance."""

from __future__ import annotations

import errno
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.fleets.base import InstanceSpec
from nullworker.fleets.processes.records import Directory, Ports, Record
from nullworker.fleets.remnants import Remnants
from nullworker.fleets.slurm.instances import SlurmInstances, SlurmRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SPEC = InstanceSpec(
    worker_id=7, endpoint="gpu", workergroup_id=3, backend="null", report_addr="http://127.0.0.1:8080",
    worker_token="t0ken", consumer="", env={}, use_ssl=True,
)  # fmt: skip


def processes(folder: Path) -> tuple[Directory, Callable[[int], None]]:
    directory = Directory(str(folder), "mark")

    def add(worker_id: int) -> None:
        record = Record.of(SPEC, Ports(1001, 1002, 1003))
        record.worker_id = worker_id
        directory.add(record)

    return directory, add


def slurm(folder: Path) -> tuple[SlurmInstances, Callable[[int], None]]:
    instances = SlurmInstances(str(folder), "mark")
    return instances, lambda worker_id: instances.save(worker_id, SlurmRecord(spec={}, settings={}))


@pytest.fixture
def out_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Nothing can be removed from here on, until what this gives back is called."""
    removed = shutil.rmtree

    def refuse(path: Path) -> None:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    return lambda: monkeypatch.setattr(shutil, "rmtree", removed)


def try_to_remove(kept: Directory | SlurmInstances, worker_id: int) -> None:
    try:
        kept.remove(worker_id)
    except OSError as error:
        assert error.errno == errno.EMFILE  # noqa: PT017 - a fleet may raise it or not


@pytest.mark.parametrize("of", [processes, slurm])
def test_what_could_not_be_removed_is_with_the_next(
    of: Callable[[Path], tuple[Any, Callable[[int], None]]], tmp_path: Path, out_of_descriptors: Callable[[], None]
) -> None:
    kept, add = of(tmp_path)
    kept.prepare()
    add(7)
    add(8)
    try_to_remove(kept, 7)
    assert [path.name for path in kept.root.iterdir() if path.name.startswith(".")] == [".gone-7"]
    try_to_remove(kept, 8)
    assert len(list(kept.root.iterdir())) == 2
    out_of_descriptors()
    add(9)
    kept.remove(9)
    assert list(kept.root.iterdir()) == []


@pytest.mark.parametrize("of", [processes, slurm])
def test_what_an_earlier_engine_could_not_remove_is_at_the_start(
    of: Callable[[Path], tuple[Any, Callable[[int], None]]], tmp_path: Path, out_of_descriptors: Callable[[], None]
) -> None:
    kept, add = of(tmp_path)
    kept.prepare()
    add(7)
    try_to_remove(kept, 7)
    out_of_descriptors()
    of(tmp_path)[0].prepare()
    assert list(kept.root.iterdir()) == []


def test_what_a_creation_without_room_left_is_removed_with_the_next(
    tmp_path: Path, out_of_descriptors: Callable[[], None]
) -> None:
    directory, add = processes(tmp_path)
    directory.prepare()
    (directory.root / "7").mkdir()
    (directory.root / "7" / "other").touch()
    with pytest.raises(OSError, match="not empty"):
        add(7)
    assert (directory.root / ".new-7").exists()
    out_of_descriptors()
    add(8)
    assert sorted(path.name for path in directory.root.iterdir()) == ["7", "8"]


def test_of_many_only_some_are_tried_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be such as can never be removed, and each creation and removal tries."""
    tried: list[str] = []

    def refuse(path: Path) -> None:
        tried.append(path.name)
        raise OSError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    remnants = Remnants()
    for number in range(12):
        path = tmp_path / f"{number:02}"
        path.mkdir()
        with pytest.raises(OSError, match="not permitted"):
            remnants.remove(path)
    tried.clear()
    remnants.sweep()
    remnants.sweep()
    assert tried == [f"{number:02}" for number in [*range(12), *range(4)]]


def test_what_is_not_there_need_not_be_removed(tmp_path: Path) -> None:
    remnants = Remnants()
    remnants.remove(tmp_path / "none")
    remnants.sweep()
