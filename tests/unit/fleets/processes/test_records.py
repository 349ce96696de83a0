"""An instance's directory is there complete or not at all, and a record is the old one or the new one."""

from __future__ import annotations

import errno
import stat
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.base import InstanceSpec
from nullworker.fleets.processes.proc import Process
from nullworker.fleets.processes.records import Directory, Ports, Record, safe_name

if TYPE_CHECKING:
    from pathlib import Path

SPEC = InstanceSpec(
    worker_id=7,
    endpoint="null-prod",
    workergroup_id=3,
    backend="null",
    report_addr="http://127.0.0.1:8080",
    worker_token="t0ken",
    consumer="python consumer.py",
    env={"LOG_LEVEL": "info"},
    use_ssl=True,
)


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    directory = Directory(str(tmp_path), "mark")
    directory.prepare()
    return directory


@pytest.fixture
def record() -> Record:
    return Record.of(SPEC, Ports(1001, 1002, 1003))


def test_a_record_comes_back_as_it_was_written(directory: Directory, record: Record) -> None:
    directory.add(record)
    record.set_leader(Process(123, 456))
    record.exit_detail = "exit code 1"
    directory.save(record)
    loaded = directory.load(7)
    assert loaded == record
    assert loaded is not None
    assert loaded.spec == SPEC
    assert loaded.leader == Process(123, 456)
    assert list(directory.ids()) == [7]


def test_a_leader_of_another_boot_is_none(record: Record) -> None:
    """After a restart of the machine its number means nothing."""
    record.set_leader(Process(123, 456))
    record.boot = "another"
    assert record.leader is None


def test_only_its_owner_reads_a_record(directory: Directory, record: Record) -> None:
    """It holds the worker's token. Saving it again changes nothing about that."""
    directory.add(record)
    directory.save(record)
    assert stat.S_IMODE((directory.path(7) / "instance.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.path(7).stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.root.stat().st_mode) == 0o700


def disk_full(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_directory_that_cannot_be_filled_is_not_there(
    directory: Directory, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msgspec.json.encode", disk_full)
    with pytest.raises(OSError, match="No space"):
        directory.add(record)
    assert list(directory.root.iterdir()) == []


def test_a_record_that_cannot_be_written_leaves_the_old_one(
    directory: Directory, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.add(record)
    monkeypatch.setattr("msgspec.json.encode", disk_full)
    record.stopped = True
    with pytest.raises(OSError, match="No space"):
        directory.save(record)
    loaded = directory.load(7)
    assert loaded is not None
    assert not loaded.stopped
    assert [path.name for path in directory.path(7).iterdir()] == ["instance.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"null", b"\xff\xfe", b'{"worker_id": 7}'])
def test_a_damaged_record_is_none(directory: Directory, record: Record, damage: bytes) -> None:
    directory.add(record)
    (directory.path(7) / "instance.json").write_bytes(damage)
    assert directory.load(7) is None


def test_a_record_in_another_workers_directory_is_none(directory: Directory, record: Record) -> None:
    """A copied directory is not a second instance of the same worker."""
    directory.add(record)
    directory.path(7).rename(directory.path(8))
    assert directory.load(8) is None


def test_what_is_removed_is_gone_with_all_that_is_in_it(directory: Directory, record: Record) -> None:
    """Twice is no error."""
    directory.add(record)
    (directory.path(7) / "more").mkdir()
    (directory.path(7) / "more" / "file").touch()
    directory.remove(7)
    directory.remove(7)
    assert list(directory.root.iterdir()) == []


def test_a_removal_that_was_cut_short_is_finished_by_the_next(directory: Directory, record: Record) -> None:
    (directory.root / ".gone-7").mkdir()
    (directory.root / ".gone-7" / "left").touch()
    directory.add(record)
    directory.remove(7)
    assert list(directory.root.iterdir()) == []


def test_only_names_that_are_ids_are_instances(directory: Directory) -> None:
    for name in ("3", "03", "x", "-1", ".new-4", "٣", "3.bak"):
        (directory.root / name).mkdir()
    assert list(directory.ids()) == [3]


@pytest.mark.parametrize("name", ["", ".", "..", "../up", "a/b", "a\0b", "x" * 1000, "ü", "~", "a b", ".hidden"])
def test_a_safe_name_is_one_part_of_a_path(tmp_path: Path, name: str) -> None:
    """It can be made, and is where it should be."""
    safe = safe_name(name or "-")
    path = tmp_path / safe
    path.mkdir()
    assert path.resolve().parent == tmp_path.resolve()
    assert not safe.startswith(".")


def test_safe_names_differ_when_names_do() -> None:
    names = ["a/b", "a%2Fb", "a b", "a+b", "." * 3, "%2E..", "x" * 1000, "x" * 1001, "x" * 100]
    assert len({safe_name(name) for name in names}) == len(names)


def test_ordinary_names_stay_readable() -> None:
    assert safe_name("null-prod_2.1") == "null-prod_2.1"
