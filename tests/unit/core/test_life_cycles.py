"""The two life cycles as tables: every state can be reached, ends are ends, nothing else can happen."""

from __future__ import annotations

import pytest

from nullworker.core import reservations, workers
from nullworker.core.reservations import ImpossibleStep, Reservation, Stage, Step
from nullworker.core.workers import ImpossibleTransition, State, Turn
from tests.unit.core.harness import Scene


def reachable(table: dict, start: object) -> set:  # type: ignore[type-arg]  # either of the two tables
    found, ahead = {start}, [start]
    while ahead:
        for following in table[ahead.pop()].values():
            if following not in found:
                found.add(following)
                ahead.append(following)
    return found


def test_every_state_of_a_worker_can_be_reached_from_its_creation() -> None:
    assert reachable(workers.TRANSITIONS, State.ASKED) == set(State)


def test_every_stage_of_a_reservation_can_be_reached_from_waiting() -> None:
    assert reachable(reservations.TRANSITIONS, Stage.WAITING) == set(Stage)


def test_every_state_has_a_row_and_every_turn_is_used() -> None:
    assert set(workers.TRANSITIONS) == set(State)
    assert {turn for row in workers.TRANSITIONS.values() for turn in row} == set(Turn)
    assert set(reservations.TRANSITIONS) == set(Stage)
    assert {step for row in reservations.TRANSITIONS.values() for step in row} == set(Step)


def test_gone_and_ended_are_the_only_ends_and_every_state_leads_there() -> None:
    assert [state for state, row in workers.TRANSITIONS.items() if not row] == [State.GONE]
    assert [stage for stage, row in reservations.TRANSITIONS.items() if not row] == [Stage.ENDED]
    for state in State:
        assert State.GONE in reachable(workers.TRANSITIONS, state)
    for stage in Stage:
        assert Stage.ENDED in reachable(reservations.TRANSITIONS, stage)


@pytest.mark.promise("P2")
def test_a_held_or_granted_worker_cannot_be_stopped() -> None:
    assert Turn.STOP not in workers.TRANSITIONS[State.HELD]


def test_booting_active_and_leaving_states_are_disjoint() -> None:
    assert not workers.BOOTING & workers.ACTIVE
    assert not workers.LEAVING & (workers.BOOTING | workers.ACTIVE)
    assert set(State) == workers.BOOTING | workers.ACTIVE | workers.LEAVING | {State.INACTIVE}


def test_a_turn_that_the_table_does_not_have_is_refused_by_name() -> None:
    scene = Scene()
    scene.ask(1)
    with pytest.raises(ImpossibleTransition, match="worker 1 cannot stop while it is asked"):
        scene.engine.ledger.turn(scene.worker(1), Turn.STOP)


def test_a_step_that_the_table_does_not_have_is_refused_by_name() -> None:
    reservation = Reservation(7, 1, 100.0, 0.0, 0.0, 60.0)
    with pytest.raises(ImpossibleStep, match="reservation 7 cannot refute while it is waiting"):
        reservation.step(Step.REFUTE)
