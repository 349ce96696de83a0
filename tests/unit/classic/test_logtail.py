from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from nullworker.classic.logtail import LINE_CHARS_MAX, _Tail, follow

if TYPE_CHECKING:
    from pathlib import Path


def everything(tail: _Tail) -> None:
    while tail.read():
        pass


def test_a_log_that_is_not_there_yet_is_waited_for_and_read_from_its_start(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "infer.log"
    tail = _Tail(path, lines.append)
    everything(tail)
    path.write_text("one\ntwo\n")
    everything(tail)
    assert lines == ["one\n", "two\n"]
    tail.close()


def test_a_line_is_handed_on_when_its_end_is_written(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "infer.log"
    tail = _Tail(path, lines.append)
    with path.open("w") as log:
        log.write("model lo")
        log.flush()
        everything(tail)
        assert lines == []
        log.write("aded\n")
        log.flush()
        everything(tail)
    assert lines == ["model loaded\n"]
    tail.close()


def test_a_log_that_is_cut_short_or_replaced_is_read_from_the_start(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "infer.log"
    path.write_text("the first one\n")
    tail = _Tail(path, lines.append)
    everything(tail)
    path.write_text("cut\n")
    everything(tail)
    everything(tail)
    path.rename(tmp_path / "infer.log.1")
    everything(tail)
    path.write_text("rotated\n")
    everything(tail)
    everything(tail)
    assert lines == ["the first one\n", "cut\n", "rotated\n"]
    tail.close()


def test_a_log_without_line_ends_is_handed_on_in_pieces(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "infer.log"
    path.write_text("x" * (LINE_CHARS_MAX + 10) + "\n")
    tail = _Tail(path, lines.append)
    everything(tail)
    assert [len(line) for line in lines] == [LINE_CHARS_MAX, 11]
    tail.close()


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "infer.log"
    path.write_bytes(b"\xff\xfe progress\n")
    tail = _Tail(path, lines.append)
    everything(tail)
    assert lines[0].endswith(" progress\n")
    tail.close()


def test_following_ends_when_told(tmp_path: Path) -> None:
    stop = threading.Event()
    lines: list[str] = []
    path = tmp_path / "infer.log"
    path.write_text("one\n")

    def on_line(line: str) -> None:
        lines.append(line)
        stop.set()

    follow(path, on_line, stop)
    assert lines == ["one\n"]
