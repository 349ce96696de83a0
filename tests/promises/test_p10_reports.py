"""P10: reports that are lost, repeated, late or out of order are made good by the next one, and nothing moves back."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from nullworker.core import commands, events, limits
from nullworker.core.causes import Cause
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.core.reservation import Stage
from nullworker.testing.small_world import REPORT_S, SmallWorld

pytestmark = pytest.mark.promise("P10")


class Unreliable(SmallWorld):
    """Reports are lost, repeated and reordered by chance; what is said of finished requests comes through."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        super().__init__(replace(TESTED_PARAMETERS, inactivity_timeout=30.0))

    def report(self, worker_id: int) -> list[commands.Command]:
        box = self.boxes[worker_id]
        if not box.running:
            return []
        message = self.status(box)
        for _ in range(self._random.choice([0, 1, 1, 2])):
            self.after(self._random.choice([0.0, 0.0, 0.5, 9.0]), lambda: self.send(message))
        return []


@pytest.mark.parametrize("seed", range(5))
def test_after_any_such_trouble_the_tables_are_what_the_next_report_says(seed: int) -> None:
    world, random = Unreliable(seed), Random(seed)
    for idx in range(1, 60):
        world.ask(idx)
        world.pass_time(random.uniform(0, 4))
        for held in list(world.holders()):
            if random.random() < 0.3:
                world.close(held)
    world.pass_time(REPORT_S)  # what is under way arrives
    for box in world.boxes.values():
        box.received += 1  # whatever counts on: no report before it is as new as this one
        world.send(world.status(box))
    sessions = {idx: r.worker_id for idx, r in world.engine.state.reservations.items() if r.stage is Stage.SESSION}
    assert sessions == world.holders()
    assert world.killed == []


def test_a_report_from_before_a_session_does_not_end_it() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(2.1)
    empty = replace(world.status(world.boxes[1]), request_idxs=(), load=0.0, received=0)
    world.pass_time(1)
    world.send(empty)
    assert list(world.engine.state.workers[1].held) == [1]
    world.pass_time(60)
    assert world.holders() == {1: 1}


def test_a_report_from_before_a_sessions_end_does_not_bring_it_back() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(3)
    old = world.status(world.boxes[1])
    world.boxes[1].received += 1  # the end of a session is a request, too
    world.close(1)
    world.send(old)
    world.pass_time(30)
    assert world.boxes == {}, "it was free, and went"


def test_silence_makes_a_held_worker_ungrantable_and_never_free() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=1))
    world.ask(1)
    world.pass_time(3)
    world.boxes[1].mute = True
    world.pass_time(limits.UNRESPONSIVE_AFTER_S + 1)
    assert world.engine.state.workers[1].trust.unresponsive
    world.ask(2)
    world.pass_time(limits.SILENCE_FAILS_HELD_S - 60)
    assert world.holders() == {1: 1}
    assert world.killed == []
    world.boxes[1].mute = False
    world.report(1)
    assert not world.engine.state.workers[1].trust.unresponsive


def test_silence_of_a_free_worker_is_not_idleness() -> None:
    """It is destroyed as failed, not as surplus, and is not granted meanwhile."""
    world = SmallWorld(replace(TESTED_PARAMETERS, min_load=100.0))
    world.pass_time(5)
    world.boxes[1].mute = True
    world.pass_time(limits.UNRESPONSIVE_AFTER_S)
    world.ask(1)
    world.pass_time(limits.SILENCE_FAILS_S)
    assert world.holders() == {1: 2}
    assert world.of(commands.Destroy)[0].cause is Cause.FAILED_SILENT


def test_an_end_that_is_told_twice_ends_one_reservation() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(3)
    at = world.now
    world.close(1)
    world.ask(2)
    world.pass_time(1)
    assert world.holders() == {2: 1}
    world.send(events.RequestsFinished(1, (events.Finished(1, "Success", at),)))
    assert list(world.engine.state.workers[1].held) == [2]
