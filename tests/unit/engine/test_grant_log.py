from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nullworker.engine import grant_log
from nullworker.engine.grant_log import GrantLine, GrantLog
from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def log(tmp_path: Path) -> Iterator[GrantLog]:
    log = GrantLog(tmp_path)
    yield log
    log.close()


def reread(directory: Path) -> list[GrantLine]:
    log = GrantLog(directory)
    try:
        return log.read()
    finally:
        log.close()


def test_a_line_is_in_the_file_when_append_returns(log: GrantLog, tmp_path: Path) -> None:
    """Nothing is closed or flushed in between: another process would find it now."""
    assert log.append(7, 1, 3, 100.0) == 1
    assert log.append(8, 1, 4, 50.0) == 2
    assert reread(tmp_path) == [GrantLine(1, 7, 1, 3, 100.0), GrantLine(2, 8, 1, 4, 50.0)]
    assert (tmp_path / "grants-1.log").stat().st_mode & 0o777 == 0o600


def test_numbers_go_on_where_the_log_before_ended(log: GrantLog, tmp_path: Path) -> None:
    log.append(7, 1, 3, 100.0)
    later = GrantLog(tmp_path)
    later.read()
    assert later.append(8, 1, 4, 100.0) == 2
    later.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 60))
def test_a_torn_last_line_is_left_out_and_the_rest_is_read(tmp_path: Path, cut: int) -> None:
    whole = b"[1,7,1,3,100.0]\n[2,8,1,4,100.0]\n[3,9,1,5,100.0]\n"
    (tmp_path / "grants-9.log").write_bytes(whole[:cut])
    lines = reread(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    assert [line.request_idx for line in lines] == [7, 8, 9][: len(lines)]
    # The newline belongs to the next line: without it, the one before is whole all the same.
    assert len(lines) == whole[:cut].count(b"]")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=100).filter(lambda text: b"[" not in text))
def test_damage_in_the_middle_costs_no_other_line(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "grants-1.log").write_bytes(b"[1,7,1,3,100.0]\n" + junk + b"\n[2,8,1,4,100.0]\n")
    lines = reread(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    assert [line.request_idx for line in lines] == [7, 8]


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "grants-10.log").write_bytes(b"[2,8,1,4,100.0]\n")
    (tmp_path / "grants-9.log").write_bytes(b"[1,7,1,3,100.0]\n")
    (tmp_path / "grants-x.log").write_bytes(b"[9,9,9,9,9.0]\n")
    assert [line.seq for line in reread(tmp_path)] == [1, 2]


def test_a_full_file_is_followed_by_a_new_one(log: GrantLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(grant_log, "FILE_BYTES_MAX", 30)
    log.append(7, 1, 3, 100.0)
    assert not log.is_full
    log.append(8, 1, 3, 100.0)
    assert log.is_full
    (old,) = log.turn_over()
    assert not log.is_full
    log.append(9, 1, 3, 100.0)
    old.unlink()
    assert [line.request_idx for line in reread(tmp_path)] == [9]


def test_a_disk_that_refuses_is_an_error_to_show_and_no_exception(log: GrantLog, tmp_path: Path) -> None:
    """The grant stands: an engine that stopped granting because of its log would help nobody."""
    full = os.open("/dev/full", os.O_WRONLY)
    real, log._fd = log._fd, full
    assert log.append(7, 1, 3, 100.0) == 1
    assert "No space left" in log.error
    log._fd = real
    os.close(full)
    log.append(8, 1, 3, 100.0)
    assert log.error == ""
    assert [line.request_idx for line in reread(tmp_path)] == [8]


HALF_A_LINE = """
import pathlib, resource, sys
from nullworker.engine.grant_log import GrantLog

_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
log = GrantLog(pathlib.Path(sys.argv[1]))
log.append(7, 1, 3, 100.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (25, most))
log.append(8, 1, 3, 100.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
log.append(9, 1, 3, 100.0)
"""


def test_half_a_line_costs_the_next_one_nothing(tmp_path: Path) -> None:
    """The kernel takes half a line (a limit on the file's size, in a process of its own), and the next one whole."""
    subprocess.run([sys.executable, "-c", HALF_A_LINE, str(tmp_path)], check=True, timeout=60)
    assert (tmp_path / "grants-1.log").read_bytes() == b"[1,7,1,3,100.0]\n[2,8,1,3,\n[3,9,1,3,100.0]\n"
    assert [line.request_idx for line in reread(tmp_path)] == [7, 9]


def test_a_new_file_that_cannot_be_made_leaves_the_old_one_in_use(log: GrantLog, tmp_path: Path) -> None:
    log.append(7, 1, 3, 100.0)
    (tmp_path / "grants-2.log").mkdir()
    assert log.turn_over() == []
    log.append(8, 1, 3, 100.0)
    (tmp_path / "grants-2.log").rmdir()
    assert [line.request_idx for line in reread(tmp_path)] == [7, 8]


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"grants-1\.log cannot be written \(no such file or directory\)"):
        GrantLog(tmp_path / "nowhere")
