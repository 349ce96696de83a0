"""Logs are cut without their writers noticing, kept when a worker goes, and quoted without secrets."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from nullworker.fleets.processes import logs

if TYPE_CHECKING:
    from pathlib import Path


def test_a_log_within_half_of_what_is_allowed_stays(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_bytes(b"x" * 5000)
    assert not logs.trim(log, 10_000)
    assert log.stat().st_size == 5000


def test_a_log_over_it_keeps_its_end_beside_and_begins_again(tmp_path: Path) -> None:
    """Its writer goes on at the new beginning, and the older end is dropped."""
    log = tmp_path / "worker.log"
    older = tmp_path / "worker.log.1"
    older.write_text("older")
    writer = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(writer, b"a" * 30_000 + b"b" * 10_000)
        assert logs.trim(log, 20_000)
        os.write(writer, b"after")
    finally:
        os.close(writer)
    assert log.read_bytes() == b"after"
    mark, _, kept = older.read_bytes().partition(b"\n")
    assert mark == b"[nullworker] 30005 bytes or more were cut here"
    assert kept == b"b" * (10_000 - len(mark) - 1)
    assert older.stat().st_mode & 0o077 == 0


def test_a_hole_is_not_taken_for_content(tmp_path: Path) -> None:
    """A worker that does not append writes behind a hole, which takes no room on the disk."""
    log = tmp_path / "worker.log"
    with log.open("wb") as file:
        file.seek(1 << 30)
        file.write(b"x")
    assert not logs.trim(log, 100_000)


def test_a_log_is_emptied_even_when_its_end_cannot_be_kept(tmp_path: Path) -> None:
    """As on a full disk."""
    log = tmp_path / "worker.log"
    log.write_bytes(b"x" * 20_000)
    (tmp_path / ".worker.log.1").mkdir()
    with pytest.raises(OSError, match=r"worker\.log\.1"):
        logs.trim(log, 10_000)
    assert log.stat().st_size == 0


def test_a_kept_log_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("new\n")
    (tmp_path / "worker.log.1").write_text("old\n")
    kept = tmp_path / "logs" / "endpoint" / "worker-1.log"
    logs.keep(log, kept, 10)
    assert kept.read_text() == "old\nnew\n"


def test_a_log_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    logs.keep(tmp_path / "worker.log", tmp_path / "kept" / "worker-1.log", 10)
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_of_too_many_kept_logs_goes(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        log = tmp_path / "worker.log"
        log.write_text(f"{number}")
        os.utime(log, (number, number))
        logs.keep(log, tmp_path / "kept" / f"worker-{number}.log", 2)
    (tmp_path / "kept" / "note.txt").touch()
    assert sorted(path.name for path in (tmp_path / "kept").glob("*.log")) == ["worker-2.log", "worker-3.log"]


def test_logs_kept_at_the_same_time_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Each removes the oldest, and finds some that another has removed already."""

    def keep(number: int) -> None:
        log = tmp_path / str(number) / "worker.log"
        log.parent.mkdir()
        log.write_text(f"{number}")
        logs.keep(log, tmp_path / "kept" / f"worker-{number}.log", 3)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep, range(400)))
    assert len(list((tmp_path / "kept").iterdir())) == 3


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", ""),
        ("\n \n\t\n", ""),
        ("first\nlast\n", "last"),
        ("first\nlast, unfinished", "last, unfinished"),
        ("last\n\n\0\0\n", "last"),
        ("MASTER_TOKEN=hush-hush!\n", "MASTER_TOKEN=***!"),
        ("\x1b[31mred\x07\n", "[31mred"),
        ("x" * 5000 + "\n", "x" * 200 + "…"),
    ],
)
def test_the_last_line_is_fit_to_be_quoted(tmp_path: Path, text: str, line: str) -> None:
    """One line, printable, short, and without the secret."""
    log = tmp_path / "worker.log"
    log.write_text(text)
    quoted = logs.last_line(log, 0, "hush-hush")
    assert quoted == line


def test_no_end_of_the_secret_is_quoted(tmp_path: Path) -> None:
    """Wherever in it the part that is read begins."""
    secret = "0123456789abcdef"
    log = tmp_path / "worker.log"
    for tail in range(4070, 4100):
        log.write_text("z" * 10_000 + secret + "y" * tail)
        quoted = logs.last_line(log, 0, secret)
        assert not set(quoted) & set(secret)


def test_lines_of_an_earlier_run_are_not_quoted(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("earlier\n")
    assert logs.last_line(log, 8, "") == ""
    with log.open("a") as file:
        file.write("now\n")
    assert logs.last_line(log, 8, "") == "now"


def test_a_log_that_was_cut_since_is_quoted_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    log.write_text("now\n")
    assert logs.last_line(log, 1000, "") == "now"


def test_a_log_that_is_gone_has_no_last_line(tmp_path: Path) -> None:
    assert logs.last_line(tmp_path / "worker.log", 0, "") == ""
