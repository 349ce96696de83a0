"""P11: killed between any two effects and started again, an engine adopts, honours every grant, and ends nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nullworker.core import commands, events
from nullworker.core.parameters import TESTED_PARAMETERS, Parameters
from nullworker.testing.small_world import ENDPOINT, HOLD_S, POLL_S, SmallWorld

pytestmark = pytest.mark.promise("P11")

DOWN_S = 3.0


class Mortal(SmallWorld):
    """Its engine is killed once it has carried out ``lives_for`` commands, in the middle of what it was about to do.

    Everything that its last event changed is written down by then (``written_down``), or nothing but the grants.
    """

    def __init__(self, parameters: Parameters, lives_for: int, *, written_down: bool) -> None:
        self.left = lives_for
        self.died_at = 0.0
        self.written_down = written_down
        self.granted: dict[int, commands.Grant] = {}
        self.before = events.Restored(1)
        super().__init__(parameters)

    def send(self, event: events.Event) -> list[commands.Command]:
        if not self.died_at:
            self.before, self.granted = super().written(), {}
        return super().send(event)

    def _carry_out(self, command: commands.Command) -> None:
        if isinstance(command, commands.Grant) and not self.died_at:
            self.granted[command.request_idx] = command
        if self.left == 0 and not self.died_at:
            self.died_at = self.now
            self.crash()
            self.after(DOWN_S, self.start_again)
        if self.died_at != self.now:
            super()._carry_out(command)
        self.left -= self.left > 0

    def written(self) -> events.Restored:
        if self.written_down or not self.died_at:
            return super().written()
        held = {r.request_idx: r for r in self.before.reservations}
        for idx, grant in self.granted.items():
            held[idx] = events.RestoredReservation(idx, ENDPOINT, grant.cost, grant.worker_id, confirmed=False)
        skipped = self.before.next_worker_id + 1000  # as the store does after a kill
        return replace(self.before, next_worker_id=skipped, reservations=tuple(held.values()))


def story(world: SmallWorld) -> None:
    """Four come, one leaves, two close, and others come: enough for every kind of command."""
    for idx in (1, 2, 3):
        world.ask(idx)
    world.pass_time(5)
    world.ask(4)
    world.pass_time(3)
    for idx in sorted(world.holders())[:1]:
        world.close(idx)
    world.pass_time(4)
    world.ask(5)
    world.ask(6)
    world.pass_time(15)


def commands_of_the_story() -> int:
    world = SmallWorld(TESTED_PARAMETERS)
    before = len(world.commands)
    story(world)
    return len(world.commands) - before


@pytest.mark.parametrize("written_down", [True, False])
@pytest.mark.parametrize("lives_for", range(commands_of_the_story() + 1))
def test_killed_after_any_command(lives_for: int, written_down: bool) -> None:
    world = Mortal(TESTED_PARAMETERS, lives_for, written_down=written_down)
    story(world)
    for _ in range(4):
        world.pass_time(30)
        world.list_fleet()
    want = {idx for idx, client in world.clients.items() if client.waits}
    assert set(world.holders()) == want, "all who want a worker have one"
    assert world.killed == []
    assert world.peak <= len(world.clients), "no worker was made twice for one client"
    for idx in sorted(world.holders()):
        world.close(idx)
    world.pass_time(120)
    assert world.boxes == {}


def test_nothing_is_created_or_ended_on_account_of_a_restart() -> None:
    world = SmallWorld(TESTED_PARAMETERS)
    for idx in range(1, 9):
        world.ask(idx)
    world.pass_time(5)
    for idx in range(1, 5):
        world.close(idx)
    world.pass_time(1)
    before = world.holders()
    world.crash()
    world.pass_time(DOWN_S)
    decided = len(world.commands)
    world.start_again()
    world.pass_time(10)  # one reporting period
    since = world.commands[decided:]
    assert [type(c).__name__ for c in since if not isinstance(c, (commands.Note, commands.Grant))] == []
    assert world.holders() == before
    world.pass_time(60)
    assert world.running() == 4, "after that, those who are free go"


def test_a_worker_that_was_booting_serves_him_for_whom_it_boots() -> None:
    world = SmallWorld(TESTED_PARAMETERS, boot_s=5.0)
    world.ask(1)
    world.pass_time(1)
    world.crash()
    world.pass_time(DOWN_S)
    world.start_again()
    world.pass_time(5 + HOLD_S + POLL_S)
    assert world.holders() == {1: 1}
    assert world.peak == 1


def test_a_grant_that_was_answered_is_honoured() -> None:
    world = SmallWorld(TESTED_PARAMETERS, hop_s=6.0)  # the client is on its way to the worker for that long
    world.ask(1)
    world.pass_time(3)
    (grant,) = world.of(commands.Grant)
    world.crash()
    world.pass_time(DOWN_S)
    world.start_again()
    world.ask(2)
    world.pass_time(30)
    assert world.holders()[1] == grant.worker_id
    assert world.holders()[2] != grant.worker_id


def test_an_engine_that_crashes_again_and_again_loses_no_session() -> None:
    world = SmallWorld(replace(TESTED_PARAMETERS, max_workers=3))
    for idx in range(1, 7):
        world.ask(idx)
    for _ in range(20):
        world.pass_time(1.7)
        world.crash()
        world.pass_time(0.5)
        world.start_again()
    world.pass_time(30)
    assert sorted(world.holders()) == [1, 2, 3]
    for idx in (1, 2, 3):
        world.close(idx)
    world.pass_time(30)
    assert sorted(world.holders()) == [4, 5, 6]
    assert world.killed == []
    assert world.peak == 3
