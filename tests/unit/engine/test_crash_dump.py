"""What is left when a core fails: a journal that replays up to the failure, private and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nullworker.core import events, journal
from nullworker.core.engine import Engine
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine import crash_dump
from nullworker.engine.catalog import EndpointEntry, WorkergroupEntry
from nullworker.engine.config import WorkergroupConfig
from nullworker.engine.crash_dump import CrashDump
from nullworker.engine.store import Loaded, StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.core.events import Event

FAILING = events.WorkersUpdated(2, cancel=False)
LOADED = Loaded(
    next_worker_id=8,
    endpoints=[EndpointEntry(1, "e", TESTED_PARAMETERS, 0.0)],
    workergroups=[WorkergroupEntry(2, 1, WorkergroupConfig(), 0.0, {})],
    workers=[events.RestoredWorker(7, 2, "held", "http://w:1", 100.0)],
    reservations=[events.RestoredReservation(9, 1, 100.0, 7, confirmed=True)],
)


def raised() -> LookupError:
    return LookupError("planted\nin two lines")


class Life:
    """An engine whose events are kept for a dump."""

    def __init__(self, state_dir: Path) -> None:
        self.engine = Engine()
        self.dump = CrashDump(state_dir, self.load)
        self.now = 0.0

    def load(self) -> Loaded:
        return LOADED

    def handle(self, *several: Event) -> None:
        for event in several:
            self.now += 1.0
            self.dump.add(event, self.now, self.engine.handle(event, self.now))


def test_a_short_life_is_in_it_as_a_whole(tmp_path: Path) -> None:
    life = Life(tmp_path)
    life.handle(events.EndpointPut(1, "e", TESTED_PARAMETERS), events.TimePassed())
    path = life.dump.write(FAILING, 3.0, raised())
    assert path.parent == tmp_path
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert '# LookupError: planted\n# in two lines\n{"begin":' in text
    handled, difference, failure = journal.replay(text.splitlines())
    assert (handled, difference) == (2, None)
    assert failure is not None
    assert (failure.event, failure.recorded) == (repr(FAILING), "LookupError: planted in two lines")


def test_of_a_long_life_the_last_events_are_comments_and_the_store_is_what_replays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crash_dump, "RECENT_MAX", 3)
    life = Life(tmp_path)
    life.handle(events.EndpointPut(1, "e", TESTED_PARAMETERS), *[events.TimePassed()] * 3)
    lines = life.dump.write(FAILING, 5.0, raised()).read_text().splitlines()
    comments = [line for line in lines if line.startswith('# {"now"')]
    assert [journal.decode(line[2:])[:2] for line in comments] == [(events.TimePassed(), now) for now in (2, 3, 4)]
    handled, difference, failure = journal.replay(lines)
    assert (handled, difference) == (3, None)  # an endpoint, its workergroup, and Restored
    assert failure is not None
    assert '"Restored"' in lines[-2]
    assert '"worker_id":7' in lines[-2]


def test_a_store_that_cannot_be_read_is_said_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Loaded:
        raise StoreError("The store is damaged.")

    monkeypatch.setattr(crash_dump, "RECENT_MAX", 1)
    monkeypatch.setattr(Life, "load", lambda _: refuse())
    life = Life(tmp_path)
    life.handle(events.TimePassed(), events.TimePassed())
    text = life.dump.write(FAILING, 3.0, raised()).read_text()
    assert "The store is damaged." in text
    assert journal.replay(text.splitlines()).failure is not None


def test_the_newest_ten_are_kept(tmp_path: Path) -> None:
    paths = [Life(tmp_path).dump.write(FAILING, 1.0, raised()) for _ in range(12)]
    assert sorted(tmp_path.iterdir()) == paths[2:]


def test_a_directory_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Life(tmp_path / "gone").dump.write(FAILING, 1.0, raised())
