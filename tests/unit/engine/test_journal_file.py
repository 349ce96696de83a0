"""The journal on disk: what is in it at any moment, and what becomes of it when the disk refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nullworker.core import events, journal
from nullworker.core.engine import Engine
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine.journal_file import JournalFile
from nullworker.engine.state_dir import StateError

if TYPE_CHECKING:
    from nullworker.core.events import Event

REPORT = events.WorkerReported(9, "", True, "", 100.0, 0.0, ())


class Life:
    """An engine that writes a journal."""

    def __init__(self, path: Path) -> None:
        self.engine = Engine()
        self.file = JournalFile.open(path)
        self.now = 0.0

    def handle(self, *several: Event) -> None:
        for event in several:
            self.now += 1.0
            self.file.write(event, self.now, self.engine.handle(event, self.now))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_line_that_counts_is_there_at_once_and_takes_along_what_waited(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    life = Life(path)
    assert len(lines(path)) == 1
    life.handle(REPORT, events.TimePassed())
    assert len(lines(path)) == 1, "what led to nothing waits"
    life.handle(events.EndpointPut(1, "e", TESTED_PARAMETERS))
    assert len(lines(path)) == 4
    life.handle(REPORT)
    life.file.close()
    life.file.close()
    assert len(lines(path)) == 5
    assert journal.replay(lines(path)) == (4, None, None)
    assert path.stat().st_mode & 0o777 == 0o600


def test_many_that_lead_to_nothing_do_not_wait_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Life(path).handle(*[REPORT] * 1_000)
    assert len(lines(path)) > 500


def test_the_next_engine_goes_on_at_the_end_even_of_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    Life(path).handle(events.EndpointPut(1, "e", TESTED_PARAMETERS))
    with path.open("a") as file:
        file.write('{"now":2.0,"eve')  # its writer was killed
    life = Life(path)
    life.handle(events.EndpointPut(1, "e", TESTED_PARAMETERS))
    life.file.close()
    assert journal.replay(lines(path)) == (2, None, None)
    assert sum(journal.begun_by(line) is not None for line in lines(path)) == 2


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be written"):
        JournalFile.open(tmp_path / "no" / "such")


def test_a_disk_that_refuses_ends_the_journal_and_not_the_engine() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    file = JournalFile(os.open(full, os.O_WRONLY), full)
    engine = Engine()
    for now in (1.0, 2.0):
        put = events.EndpointPut(1, "e", TESTED_PARAMETERS)
        file.write(put, now, engine.handle(put, now))
    assert "No space left" in file.error
    file.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """Else who may write in the directory chooses a file that the engine appends to."""
    (tmp_path / "other").write_text("another's")
    (tmp_path / "journal").symlink_to(tmp_path / "other")
    with pytest.raises(StateError, match="cannot be written"):
        JournalFile.open(tmp_path / "journal")
    assert (tmp_path / "other").read_text() == "another's"
