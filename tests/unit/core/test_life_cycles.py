"""The two life cycles as tables: every state can be reached, ends are ends, nothing else can happen."""

from __future__ import annotations

import pytest

from nullworker.core import reservation, worker
from nullworker.core.reservation import ImpossibleReservationTransition, Reservation, ReservationTransition, Stage
from nullworker.core.worker import ImpossibleWorkerTransition, WorkerState, WorkerTransition
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
    assert reachable(worker.TRANSITIONS, WorkerState.ASKED) == set(WorkerState)


def test_every_stage_of_a_reservation_can_be_reached_from_waiting() -> None:
    assert reachable(reservation.TRANSITIONS, Stage.WAITING) == set(Stage)


def test_every_state_has_a_row_and_every_turn_is_used() -> None:
    assert set(worker.TRANSITIONS) == set(WorkerState)
    assert {transition for row in worker.TRANSITIONS.values() for transition in row} == set(WorkerTransition)
    assert set(reservation.TRANSITIONS) == set(Stage)
    assert {transition for row in reservation.TRANSITIONS.values() for transition in row} == set(ReservationTransition)


def test_gone_and_ended_are_the_only_ends_and_every_state_leads_there() -> None:
    assert [state for state, row in worker.TRANSITIONS.items() if not row] == [WorkerState.GONE]
    assert [stage for stage, row in reservation.TRANSITIONS.items() if not row] == [Stage.ENDED]
    for state in WorkerState:
        assert WorkerState.GONE in reachable(worker.TRANSITIONS, state)
    for stage in Stage:
        assert Stage.ENDED in reachable(reservation.TRANSITIONS, stage)


@pytest.mark.promise("P2")
def test_a_held_or_granted_worker_cannot_be_stopped() -> None:
    assert WorkerTransition.STOP not in worker.TRANSITIONS[WorkerState.HELD]


def test_booting_active_and_leaving_states_are_disjoint() -> None:
    assert not worker.BOOTING & worker.ACTIVE
    assert not worker.LEAVING & (worker.BOOTING | worker.ACTIVE)
    assert set(WorkerState) == worker.BOOTING | worker.ACTIVE | worker.LEAVING | {WorkerState.INACTIVE}


def test_a_turn_that_the_table_does_not_have_is_refused_by_name() -> None:
    scene = Scene()
    scene.ask(1)
    with pytest.raises(ImpossibleWorkerTransition, match="worker 1 cannot stop while it is asked"):
        scene.engine.state.transition(scene.worker(1), WorkerTransition.STOP)


def test_a_step_that_the_table_does_not_have_is_refused_by_name() -> None:
    reservation = Reservation(7, 1, 100.0, 0.0, 0.0, 60.0)
    with pytest.raises(ImpossibleReservationTransition, match="reservation 7 cannot requeue while it is waiting"):
        reservation.transition(ReservationTransition.REQUEUE)
