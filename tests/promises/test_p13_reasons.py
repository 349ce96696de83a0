"""P13: every decision is recorded with its cause in numbers, and their sum explains the fleet."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest

from nullworker.core import commands, journal
from nullworker.core.parameters import Parameters
from nullworker.testing.small_world import SmallWorld

pytestmark = pytest.mark.promise("P13")


@pytest.fixture(params=range(3))
def lived(request: pytest.FixtureRequest) -> SmallWorld:
    """A world in which much has happened."""
    random = Random(request.param)
    world = SmallWorld(Parameters(min_load=0.0, cold_workers=2, max_workers=6, inactivity_timeout=3.0))
    for idx in range(1, 80):
        world.ask(idx)
        world.pass_time(random.uniform(0, 4))
        for held in list(world.holders()):
            if random.random() < 0.4:
                world.close(held)
        if world.boxes and random.random() < 0.05:
            world.kill(random.choice(sorted(world.boxes)))
        waiting = [c.request_idx for c in world.clients.values() if c.waits and c.held_at is None]
        if waiting and random.random() < 0.05:
            world.leave(random.choice(waiting))
    return world


def test_every_order_gives_a_reason_with_numbers_and_every_command_its_event(lived: SmallWorld) -> None:
    number = re.compile(r"\d")
    for command in lived.commands:
        assert command.reason
        if not isinstance(command, commands.Note):
            assert number.search(command.reason), command
    for line in lived.journal_lines:
        _, _, decided = journal.decode(line)
        assert len({fields["event_number"] for _, fields in decided}) <= 1, "all that one event led to names that event"
    numbers = [command.event_number for command in lived.commands]
    assert numbers == sorted(numbers)


def test_the_sum_of_all_decisions_is_the_fleet(lived: SmallWorld) -> None:
    state: dict[int, str] = {}
    for command in lived.commands:
        if isinstance(command, (commands.Create, commands.Start)):
            state[command.worker_id] = "running"
        elif isinstance(command, commands.Stop):
            state[command.worker_id] = "stopped"
        elif isinstance(command, commands.Destroy):
            del state[command.worker_id]
    lived.pass_time(lived.order_s)
    truth = {box.worker_id: "running" if box.running else "stopped" for box in lived.boxes.values()}
    assert truth == state


def test_the_sum_of_all_decisions_is_who_holds_what(lived: SmallWorld) -> None:
    told = Counter(type(c).__name__ for c in lived.commands)
    assert told["Grant"] >= len([c for c in lived.clients.values() if c.held_at is not None])
    for client in lived.clients.values():
        about = [c for c in lived.commands if getattr(c, "request_idx", 0) == client.request_idx]
        if client.held_at is not None:
            assert isinstance(about[0], commands.Grant)
            ended = [c.kind for c in about if isinstance(c, commands.Note)]
            assert (client.request_idx in lived.holders()) == (not ended), about
