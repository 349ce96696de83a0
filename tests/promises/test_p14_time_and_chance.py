"""P14: no clock that jumps, no suspended machine breaks a promise; same seed, same trace; after quiet, the baseline."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from nullworker.core import commands, events, journal, limits
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.small_world import SmallWorld

pytestmark = pytest.mark.promise("P14")


def lived(seed: int) -> SmallWorld:
    world, random = SmallWorld(TESTED_PARAMETERS), Random(seed)
    for idx in range(1, 60):
        world.ask(idx)
        world.pass_time(random.uniform(0, 3))
        for held in list(world.holders()):
            if random.random() < 0.3:
                world.close(held)
        if world.boxes and random.random() < 0.1:
            world.kill(random.choice(sorted(world.boxes)))
    return world


def test_the_same_events_at_the_same_times_lead_to_the_same_commands() -> None:
    first, second = lived(7), lived(7)
    assert first.journal_lines == second.journal_lines
    assert lived(8).journal_lines != first.journal_lines


def test_a_journal_replays_identically() -> None:
    world = lived(3)
    handled, difference, _ = journal.replay(world.journal_lines)
    assert handled == len(world.journal_lines)
    assert difference is None


@pytest.mark.parametrize("asleep_s", [30.0, 3_600.0, 86_400.0])
def test_after_a_suspension_no_worker_fails_for_its_silence_meanwhile(asleep_s: float) -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, min_load=400.0))
    for idx in (1, 2):
        world.ask(idx)
    world.pass_time(5)
    decided = len(world.commands)
    world.oversleep(asleep_s)
    assert [c for c in world.commands[decided:] if not isinstance(c, commands.Note)] == []
    world.pass_time(limits.QUIET_S)
    assert sorted(world.holders()) == [1, 2]
    assert len(world.boxes) == 4
    assert world.notes("worker_failed") == []


@pytest.mark.parametrize("back_s", [1.0, 3_600.0, 1e9])
def test_a_clock_that_runs_backwards_stands_still(back_s: float) -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    world.ask(1)
    world.pass_time(5)
    decided = len(world.commands)
    world.now -= back_s
    world.send(events.TimePassed())
    world.report(1)
    world.now += back_s
    world.pass_time(60)
    assert world.holders() == {1: 1}
    assert [c for c in world.commands[decided:] if not isinstance(c, commands.Note)] == []


@pytest.mark.parametrize("seed", range(3))
def test_after_quiet_every_table_is_back_at_its_baseline(seed: int) -> None:
    world = lived(seed)
    world.pass_time(30)
    for idx in sorted(world.holders()):
        world.close(idx)
    for client in world.clients.values():
        if client.waits and client.held_at is None:
            world.leave(client.request_idx)
    world.pass_time(4_000)
    state = world.engine.state
    assert state.workers == {}
    assert state.reservations == {}
    assert len(state.timers) <= 2, "what reminds of a time is gone with what it was for"
    (endpoint,) = state.endpoints.values()
    for table in (
        endpoint.free,
        endpoint.idle,
        endpoint.inactive,
        endpoint.line.waiting,
        endpoint.line.in_time,
        endpoint.line.overdue_next,
        endpoint.line.order,
    ):
        assert not table
    assert len(endpoint.partly_free) <= 65
