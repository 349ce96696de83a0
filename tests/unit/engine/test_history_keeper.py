"""What is kept of an engine's past, over a restart as well, and what it answers to "why at that moment"."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nullworker.core import views as core_views
from nullworker.engine.history_file import EndpointMoment, HistoryFile
from nullworker.engine.history_keeper import HistoryKeeper
from nullworker.testing.small_world import ENDPOINT
from nullworker.views.history import Change
from nullworker.views.moments import answer_at
from nullworker.views.types import DecisionRow
from tests.unit.views.worlds import BOOT_S, WatchedWorld

if TYPE_CHECKING:
    from pathlib import Path


def opened(directory: Path) -> HistoryFile:
    file = HistoryFile.open(directory / "history.db")
    assert file is not None
    return file


async def keep(world: WatchedWorld, keeper: HistoryKeeper, seconds: int) -> None:
    """Lets time pass, with a look at each second."""
    for _ in range(seconds):
        world.pass_time(1)
        await keeper.sample(world.engine)


async def kept(tmp_path: Path) -> tuple[WatchedWorld, HistoryKeeper]:
    """Worker 1 is held by request 1, and requests 2 and 3 wait for 10 s, as max_workers is 1."""
    world = WatchedWorld(max_workers=1)
    keeper = HistoryKeeper(lambda: world.wall_s, lambda: world.now, opened(tmp_path))
    keeper.history = world.history
    keeper.begin(world.engine)
    world.ask(1)
    await keep(world, keeper, int(BOOT_S) + 5)
    world.ask(2)
    await keep(world, keeper, 2)
    world.ask(3)
    await keep(world, keeper, 8)
    return world, keeper


async def test_why_an_endpoint_was_as_it_was(tmp_path: Path) -> None:
    world, keeper = await kept(tmp_path)
    then = world.wall_s - 1
    world.leave(2)
    world.leave(3)
    world.close(1)
    await keep(world, keeper, 120)
    moment = await keeper.at(world.engine, ("endpoint", ENDPOINT), then, ())
    assert moment is not None
    assert "2 wait" in moment.answer
    assert "because 1 worker is held, and max_workers is 1" in moment.answer
    assert moment.chart is not None
    assert (moment.chart.waiting, moment.chart.held) == (2, 1)
    await keeper.close()


async def test_why_a_request_waited_then(tmp_path: Path) -> None:
    world, keeper = await kept(tmp_path)
    moment = await keeper.at(world.engine, ("request", 3), world.wall_s, ())
    assert moment is not None
    assert "Request 3 waited at" in moment.answer
    assert "number 2 of 2, for 8 s by then, because 1 worker is held, and max_workers is 1." in moment.answer
    earlier = await keeper.at(world.engine, ("request", 2), world.wall_s - 9, ())
    assert earlier is not None
    assert "number 1 of 1" in earlier.answer
    assert await keeper.at(world.engine, ("request", 3), world.wall_s - 60, ()) is None
    await keeper.close()


async def test_what_a_worker_did_then_and_what_was_decided_before(tmp_path: Path) -> None:
    world, keeper = await kept(tmp_path)
    decisions = [
        DecisionRow(world.wall_s - 40, "info0", "create", ENDPOINT, 1, 0, "places", "1 urgent waiter."),
        DecisionRow(world.wall_s + 40, "info0", "destroy", ENDPOINT, 1, 0, "idle", "free for 10 s"),
    ]
    moment = await keeper.at(world.engine, ("worker", 1), world.wall_s, decisions)
    assert moment is not None
    assert "Worker 1 was held at" in moment.answer
    assert "and held request 1 for" in moment.answer
    assert moment.answer.endswith("Last decided before: create, 1 urgent waiter.")
    assert [decision.kind for decision in moment.decisions] == ["create"]
    booting = await keeper.at(world.engine, ("worker", 1), world.wall_s - 30, ())
    assert booting is not None
    assert "Worker 1 was creating" in booting.answer
    await keeper.close()


async def test_the_next_engine_has_the_lanes_and_charts_of_the_one_before(tmp_path: Path) -> None:
    world, keeper = await kept(tmp_path)
    await keeper.close()
    again = HistoryKeeper(lambda: world.wall_s, lambda: world.now, opened(tmp_path))
    again.begin(world.engine)
    assert [state for _, state in again.history.workers[1].states] == ["asked", "creating", "held"]
    assert again.history.reservations[3].stage == "waiting"
    assert again.charts[ENDPOINT][-1].waiting == 2
    await again.close()


async def test_time_in_which_no_engine_ran_is_told_as_such(tmp_path: Path) -> None:
    world, keeper = await kept(tmp_path)
    moment = await keeper.at(world.engine, ("endpoint", ENDPOINT), world.wall_s + 4000, ())
    assert moment is not None
    assert moment.answer.startswith("Nothing was written down between ")
    await keeper.close()


@pytest.mark.parametrize("content", [b"no database at all, and long enough to be seen as one" * 40, None])
def test_a_file_that_cannot_be_used_is_moved_away_and_keeps_no_engine_from_starting(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "history.db"
    if content is None:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(content)
    file = opened(tmp_path)
    file.write([Change(1.0, "worker", 1, 2, 3, "ready", 0)], [])
    assert file.last_change("worker", 1, 2.0) == Change(1.0, "worker", 1, 2, 3, "ready", 0)
    file.close()
    assert (tmp_path / "history.db.unusable").exists()
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_directory_in_its_place_means_that_none_is_kept(tmp_path: Path) -> None:
    (tmp_path / "history.db").mkdir()
    assert HistoryFile.open(tmp_path / "history.db") is None


async def test_a_disk_that_refuses_is_told_of_and_stops_nothing(tmp_path: Path) -> None:
    world, keeper = await kept(tmp_path)
    file = keeper._file
    assert file is not None
    file._db.execute("DROP TABLE moments")
    await keep(world, keeper, 61)
    assert keeper.complaint.startswith("The history cannot be written (")
    await keeper.close()


def test_what_is_older_than_a_week_goes(tmp_path: Path) -> None:
    file = opened(tmp_path)
    day_s = 86_400.0
    file.write([Change(day_s, "worker", 1, 2, 3, "ready", 0)], [EndpointMoment(day_s, 2, 0, 0, 1, 0, "", "then")])
    file.write([Change(9 * day_s, "worker", 2, 2, 3, "ready", 0)], [])
    assert [change.id for change in file.changes_since(0.0)] == [2]
    assert answer_at(file, "endpoint", 2, day_s, ()) is None
    file.close()


async def test_a_fault_of_the_history_s_own_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, keeper = await kept(tmp_path)

    def fail(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(keeper.history, "worker", fail)
    keeper.changed(world.engine, core_views.Changes([1], []))
    assert "a change is missing in the history" in caplog.text
    await keeper.close()
