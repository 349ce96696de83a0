"""Measures what docs/scaling.md says, and writes its tables: the engine's own core in a small simulated world.

python -m docs.tools.scaling_figures
"""

from __future__ import annotations

from docs.tools import tables
from nullworker.core.parameters import Parameters
from nullworker.testing.small_world import SmallWorld

PAGE = tables.ROOT / "docs" / "scaling.md"

BOOT_S = 60.0
#: What people set: (what it is, target_util, max_queue_time, target_queue_time).
SETS = (
    ("Vast's defaults", 0.9, 30.0, 10.0),
    ("Vast's queue times, no reserve", 1.0, 30.0, 10.0),
    ("both queue times zero", 1.0, 0.0, 0.0),
    ("recommended", 1.0, 1.0, 0.5),
)
COSTS = (100.0, 200.0)
COUNT = 16
#: Between one and the next when they come one by one: more than anybody waits.
APART_S = 90.0


def world_of(target_util: float, max_queue_time: float, target_queue_time: float, **other: float) -> SmallWorld:
    """A world whose workers take a minute to come up."""
    parameters = Parameters(
        min_load=other.get("min_load", 0.0),
        cold_mult=0.0,
        cold_workers=0,
        max_workers=64,
        target_util=target_util,
        max_queue_time=max_queue_time,
        target_queue_time=target_queue_time,
        inactivity_timeout=10.0,
    )
    return SmallWorld(parameters, boot_s=BOOT_S, order_s=0.0, occupancy=1)


def waits(world: SmallWorld) -> list[float]:
    """How long each waited for its worker, in the order of asking."""
    return [-1.0 if c.held_at is None else c.held_at - c.asked_at for c in world.clients.values()]


def n_get_n() -> list[str]:
    """The table of what N reservations get."""
    rows = [
        "| | cost | 16 at once: workers | the last is served after | one by one: workers | 2 → 3 takes | the longest |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, *knobs in SETS:
        for cost in COSTS:
            at_once = world_of(*knobs)
            for idx in range(1, COUNT + 1):
                at_once.ask(idx, cost)
            at_once.pass_time(300)
            one_by_one = world_of(*knobs)
            for idx in range(1, COUNT + 1):
                one_by_one.ask(idx, cost)
                one_by_one.pass_time(APART_S)
            later = waits(one_by_one)
            rows.append(
                f"| {name} | {cost:g} | {at_once.peak} | {max(waits(at_once)):.1f} s | {one_by_one.peak} | "
                f"{later[2]:.1f} s | {max(later):.1f} s |"
            )
    return rows


def extra_worker() -> list[str]:
    """The table of what `target_util` costs."""
    rows = [
        "| reservations held | workers at `target_util` 1.0 | at 0.9 | perf wanted at 0.9 |",
        "| --- | --- | --- | --- |",
    ]
    for count in (1, 2, 3, 8, 9, 10, 16):
        peaks = []
        for target_util in (1.0, 0.9):
            world = world_of(target_util, 1.0, 0.5)
            for idx in range(1, count + 1):
                world.ask(idx)
            world.pass_time(600)
            assert len(world.holders()) == count
            peaks.append(world.running())
        rows.append(f"| {count} | {peaks[0]} | {peaks[1]} | {count * 100} / 0.9 = {count * 100 / 0.9:.1f} |")
    return rows


def min_load() -> list[str]:
    """The table of what `min_load` keeps."""
    rows = ["| `min_load` | workers at `target_util` 1.0 | at 0.9 |", "| --- | --- | --- |"]
    for load in (0.0, 100.0, 200.0, 1000.0):
        kept = []
        for target_util in (1.0, 0.9):
            world = world_of(target_util, 1.0, 0.5, min_load=load)
            world.pass_time(600)
            kept.append(world.running())
        rows.append(f"| {load:g} | {kept[0]} | {kept[1]} |")
    return rows


TABLES = {"n-get-n": n_get_n, "extra-worker": extra_worker, "min-load": min_load}


def filled(page: str) -> str:
    """The page with every table made again."""
    return tables.filled(page, "scaling_figures", TABLES)


if __name__ == "__main__":
    tables.write(PAGE, filled(PAGE.read_text()))
