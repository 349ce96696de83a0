"""A shortage is told with the time since which it lasts, and tried again as soon as a place may be free."""

from __future__ import annotations

from nullworker.engine.shortages import FORGET_AFTER_S, Shortages


class World:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0
        self.tried: list[int] = []
        self.shortages = Shortages(lambda: self.now_s, self.tried.append)

    def refused(self, workergroup_id: int = 1, fleet: str = "ssh") -> str:
        return self.shortages.refused(workergroup_id, fleet, "All is full.")


def test_it_is_told_since_when_and_how_often_it_was_tried() -> None:
    world = World()
    since = "the fleet ssh has had no place since 2023-11-14 22:13:20 UTC"
    assert world.refused() == f"{since}: All is full."
    world.now_s += 60
    assert world.refused() == f"{since}, 2 tries: All is full."


def test_it_is_over_when_a_worker_was_created_or_nothing_was_wanted_for_long() -> None:
    world = World()
    world.refused()
    world.shortages.created(1)
    world.now_s += 60
    assert "22:14:20 UTC: " in world.refused()
    world.now_s += FORGET_AFTER_S + 1
    assert "22:24:21 UTC: " in world.refused()


def test_of_one_fleet_all_that_are_short_are_tried_again_when_a_place_is_free() -> None:
    world = World()
    world.refused(1)
    world.refused(2)
    world.refused(3, "other")
    world.shortages.place_free("ssh")
    assert world.tried == [1, 2]
