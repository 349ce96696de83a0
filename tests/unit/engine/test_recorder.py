"""What the recorder writes down, and when: while a commit or its answers wait, the rest waits, in its order."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nullworker.core.engine import Engine
from nullworker.engine.decisions import Decisions
from nullworker.engine.journal_file import JournalFile
from nullworker.engine.recorder import Recorder
from nullworker.engine.store import Loaded, Store
from tests.unit.core.harness import Scene

if TYPE_CHECKING:
    from pathlib import Path

    from nullworker.core.commands import Command
    from nullworker.core.events import Event


class _Recorded(Scene):
    """Keeps the events and when they were."""

    def __init__(self) -> None:
        self.sent: list[tuple[Event, float]] = []
        super().__init__()

    def send(self, event: Event) -> list[Command]:
        self.sent.append((event, self.now))
        return super().send(event)


def _a_life() -> list[tuple[Event, float]]:
    """Workers are created, granted, handed on, and end."""
    scene = _Recorded()
    scene.serve(3)
    scene.ask(4)
    scene.finishes(1, 1)
    scene.finishes(2, 2)
    scene.report(2)
    scene.live(120.0)
    return scene.sent


def _written(events: list[tuple[Event, float]], turn: int, directory: Path) -> tuple[Loaded, list[str]]:
    """What store and journal have of ``events``, ``turn`` of which come in each turn of the event loop."""
    directory.mkdir()
    engine = Engine()
    with closing(Store.open(directory / "db")) as store, closing(JournalFile.open(directory / "journal")) as journal:
        recorder = Recorder(Decisions(lambda _: 1), lambda: 0.0, store, journal)
        for first in range(0, len(events), turn):
            for event, now in events[first : first + turn]:
                commands = engine.handle(event, now)
                recorder.decided(event, now, commands)
                recorder.handled(engine, event, now, list(commands))
            recorder.commit(engine)
            recorder.answered(engine)
        store.flush()
        loaded = store.load()
    return loaded, (directory / "journal").read_text().splitlines()


@pytest.mark.parametrize("turn", [2, 3, 7, 1_000])
def test_events_that_share_a_turn_leave_what_they_leave_one_by_one(tmp_path: Path, turn: int) -> None:
    events = _a_life()
    assert _written(events, turn, tmp_path / "shared") == _written(events, 1, tmp_path / "single")


def test_a_grant_is_in_the_store_once_it_is_committed_and_its_decision_once_it_is_answered(tmp_path: Path) -> None:
    *before, asked = _a_grant()
    engine = Engine()
    with closing(Store.open(tmp_path / "db")) as store:
        recorder = Recorder(Decisions(lambda _: 1), lambda: 0.0, store)
        for event, now in before:
            engine.handle(event, now)
        commands = engine.handle(*asked)
        recorder.decided(*asked, commands)
        recorder.handled(engine, *asked, commands)
        recorder.commit(engine)
        committed = store.load()
        recorder.answered(engine)
        store.flush()
        written = store.load()
    assert [r.request_idx for r in committed.reservations] == [r.request_idx for r in written.reservations] == [2]
    # With it its worker, which says what its ends are that were told: one told again is none of this grant's.
    assert [(w.worker_id, w.ends_told) for w in committed.workers] == [(1, ((1, False, asked[1]),))]
    assert committed.workers == written.workers
    assert written.next_worker_id == 2  # of a worker that is committed already, its number is left to be written
    assert [d.kind for d in committed.decisions] == []
    assert "grant" in [d.kind for d in written.decisions]


def _a_grant() -> list[tuple[Event, float]]:
    """The last event has a free worker granted."""
    scene = _Recorded()
    scene.serve(1)
    scene.finishes(1, 1)
    scene.report(1)
    scene.ask(2)
    return scene.sent
