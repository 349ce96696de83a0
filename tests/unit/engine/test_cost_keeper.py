"""What is kept of an engine's costs, over a restart, a kill and a disk that refuses as well."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from nullworker.engine import cost_file
from nullworker.engine.cost_file import CostFile, Label
from nullworker.engine.cost_keeper import FRESH_S, CostKeeper
from nullworker.views.billing import Price
from nullworker.views.cost_ledger import Entry, Taken
from nullworker.views.cost_tables import BYS
from nullworker.views.costs import HELD, KINDS, UNITS, US
from tests.unit.views.worlds import BOOT_S, WatchedWorld

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

HOUR_S = 3_600.0
BEGAN_S = 1_000.0  # the time of a small world when it begins
PRICE = Price(3.6, 0.36)  # 0.001 a second, and 0.0001 for storage


def opened(directory: Path) -> CostFile:
    file = CostFile.open(directory / "costs.db")
    assert file is not None
    return file


def keeper_of(world: WatchedWorld, file: CostFile | None) -> CostKeeper:
    keeper = CostKeeper(lambda: world.wall_s, lambda: world.now, lambda _worker, _group: PRICE, file)
    keeper.begin(world.engine)
    world.history.on_change = lambda change: keeper.changed(world.engine.state.now, change)
    return keeper


async def keep(world: WatchedWorld, keeper: CostKeeper, seconds: int) -> None:
    for _ in range(seconds):
        world.pass_time(1)
        await keeper.pass_time(world.engine)


async def total(keeper: CostKeeper, by: str = "endpoint") -> Decimal:
    keeper._made.clear()
    view = await keeper.costs(by, 0.0, lambda _: "null")
    assert sum(Decimal(row.total) for row in view.rows) == Decimal(view.whole.total)
    return Decimal(view.whole.total)


def lived_s(world: WatchedWorld) -> float:
    """For how long worker 1 has been there: it is asked for at the world's beginning."""
    return round(world.now - BEGAN_S, 6)


async def one_job(tmp_path: Path) -> tuple[WatchedWorld, CostKeeper]:
    """Request 1 waits for the start of worker 1, and holds it for a while."""
    world = WatchedWorld(max_workers=1)
    keeper = keeper_of(world, opened(tmp_path))
    world.ask(1)
    await keep(world, keeper, int(BOOT_S) + 20)
    return world, keeper


async def test_a_job_s_start_hold_tail_and_storage_are_apart(tmp_path: Path) -> None:
    world, keeper = await one_job(tmp_path)
    world.close(1)
    await keep(world, keeper, 30)
    await keeper.label([Label(1, "rq://jobs", "mandelbrot-17")])
    row = (await keeper.costs("job", 0.0, lambda _: "null")).rows[0]
    assert row.name == "mandelbrot-17"
    assert Decimal("0.039") < Decimal(row.boot) < Decimal("0.042")
    assert Decimal("0.017") < Decimal(row.held) < Decimal("0.022")
    assert Decimal("0.009") < Decimal(row.idle) < Decimal("0.013")
    assert Decimal("0.006") < Decimal(row.storage) < Decimal("0.0075")
    assert [each.name for each in (await keeper.costs("queue", 0.0, lambda _: "null")).rows] == ["rq://jobs"]
    (worker,) = (await keeper.costs("worker", 0.0, lambda _: "null")).rows
    assert (worker.name, worker.total) == ("worker 1", row.total)
    of = await keeper.of(("job", 1))
    assert of is not None
    assert of.total == row.total
    assert await keeper.of(("worker", 99)) is None
    assert len({await total(keeper, by) for by in BYS}) == 1
    await keeper.close()


async def test_the_next_engine_goes_on_to_count(tmp_path: Path) -> None:
    world, keeper = await one_job(tmp_path)
    await keeper.label([Label(1, "rq://jobs", "")])
    await keeper.close()
    world.pass_time(100)  # no engine is there
    again = keeper_of(world, opened(tmp_path))
    assert again.labels[1].queue == "rq://jobs"
    await keep(world, again, 20)
    row = await again.of(("job", 1))
    assert row is not None
    assert row.worker_s == lived_s(world)  # every second since its creation
    await again.close()


async def test_a_worker_that_was_gone_before_the_next_engine_came_costs_nothing_after_the_first(tmp_path: Path) -> None:
    world = WatchedWorld(min_load=100.0)
    keeper = keeper_of(world, opened(tmp_path))
    await keep(world, keeper, int(BOOT_S) + 20)
    await keeper.close()
    lived = lived_s(world)
    for box in world.boxes.values():
        box.mute = True
    world.pass_time(5)
    again = keeper_of(world, opened(tmp_path))
    await keep(world, again, 60)
    assert 1 not in again.ledger.open
    row = await again.of(("worker", 1))
    assert row is not None
    assert row.worker_s == lived
    await again.close()


async def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    world, keeper = await one_job(tmp_path)
    world.pass_time(0.9)
    world.close(1)
    world.pass_time(0.5)  # killed before this is written
    again = keeper_of(world, opened(tmp_path))
    await keep(world, again, 7)
    row = await again.of(("worker", 1))
    assert row is not None
    assert row.worker_s == lived_s(world)
    assert row.held_s < 21  # from its start to the last time that was written: its end came after that
    assert Decimal(row.idle) > Decimal("0.005")
    keeper._pool.shutdown()
    await again.close()


async def test_what_a_disk_refused_is_written_when_it_takes_it(tmp_path: Path) -> None:
    world, keeper = await one_job(tmp_path)
    file = keeper._file
    assert file is not None
    file._db.execute("ALTER TABLE open RENAME TO away")
    await keep(world, keeper, 70)
    assert keeper.complaint.startswith("The costs cannot be written (")
    file._db.execute("ALTER TABLE away RENAME TO open")
    await keep(world, keeper, 2)
    assert keeper.complaint == ""
    row = await keeper.of(("worker", 1))
    assert row is not None
    assert row.worker_s == lived_s(world)
    await keeper.close()


async def test_a_clock_that_is_set_bills_no_second_more(tmp_path: Path) -> None:
    world, keeper = await one_job(tmp_path)
    keeper._wall_s = lambda: world.wall_s + 7 * HOUR_S
    await keep(world, keeper, 10)
    row = await keeper.of(("worker", 1))
    assert row is not None
    assert row.worker_s == lived_s(world)
    since = await keeper.costs("day", world.wall_s + 6 * HOUR_S, lambda _: "null")
    assert 0 < since.whole.worker_s <= lived_s(world)
    await keeper.close()


def test_what_is_old_is_folded_and_sums_stay_the_same(tmp_path: Path) -> None:
    file, rng = opened(tmp_path), random.Random(5)
    entries = {
        Entry(
            1_000 + rng.randrange(60), 1, 2, rng.randrange(1, 9), rng.randrange(9), "held", 10**8, 10**6
        ): rng.randrange(1, 10**9)
        for _ in range(500)
    }
    assert file.write(Taken(entries, [], [], []), 1_060 * 3_600 * US)
    assert sum(group.us for group in file.groups("job", 0)) == sum(entries.values())
    assert file.write(Taken({}, [], [], []), (1_000 + 48 + cost_file.DETAILED_HOURS) * 3_600 * US)
    by_worker = {group.key: group.us for group in file.groups("worker", 0)}
    assert by_worker[0] == sum(us for entry, us in entries.items() if entry.hour < 1_032)  # whole days: 43 ends there
    assert len(by_worker) > 1
    for by in BYS:
        assert sum(group.us for group in file.groups(by, 0)) == sum(entries.values())
    file.close()


def test_a_file_that_cannot_be_used_is_moved_away(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    opened(tmp_path).close()
    assert (tmp_path / "costs.db.unusable").exists()
    assert path.stat().st_mode & 0o777 == 0o600
    path.unlink()
    path.mkdir()
    assert CostFile.open(path) is None


async def test_what_was_spent_is_counted_once_though_a_disk_refused(tmp_path: Path) -> None:
    """As the metrics show it: the same sums as the view's, by kind."""
    world, keeper = await one_job(tmp_path)
    file = keeper._file
    assert file is not None
    real, file.write = file.write, lambda *_: False  # type: ignore[method-assign]
    await keep(world, keeper, 70)
    file.write = real  # type: ignore[method-assign]
    world.close(1)
    await keep(world, keeper, 5)
    whole = (await keeper.costs("endpoint", 0.0, lambda _: "null")).whole
    spent = {kind: Decimal(units) / UNITS for (_, kind), units in keeper.spent.items()}
    for kind in KINDS:
        assert abs(spent.get(kind, 0) - Decimal(getattr(whole, kind))) <= Decimal("0.0001"), kind
    assert spent[HELD] > 0


async def test_pages_that_ask_at_once_are_shown_the_same_and_later_ones_the_latest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, keeper = await one_job(tmp_path)
    file, asked = keeper._file, 0
    assert file is not None
    groups = file.groups

    def counted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        return groups(*arguments)

    monkeypatch.setattr(file, "groups", counted)
    views = await asyncio.gather(*(keeper.costs("worker", 0.0, lambda _: "null") for _ in range(50)))
    assert asked == 1
    assert {view.whole.worker_s for view in views} == {lived_s(world)}
    await keep(world, keeper, int(FRESH_S) + 1)
    later = await keeper.costs("worker", 0.0, lambda _: "null")
    assert asked == 2
    assert later.whole.worker_s == lived_s(world)
    assert later.at_s == world.wall_s
    await keeper.close()
