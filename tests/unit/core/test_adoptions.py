"""A worker that lists sessions that were never granted: what that costs is bounded, and it is not ended for it."""

from __future__ import annotations

import pytest

from nullworker.core import commands, limits
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, kinds, of

MANY = 1_000


def destroyed(decided: list[commands.Command]) -> list[int]:
    return [command.worker_id for command in of(decided, commands.Destroy)]


def granted(decided: list[commands.Command]) -> list[tuple[int, int]]:
    return [(grant.request_idx, grant.worker_id) for grant in of(decided, commands.Grant)]


def invented(round_number: int) -> range:
    """Numbers that no other round has."""
    return range(10_000_000 + round_number * MANY, 10_000_000 + (round_number + 1) * MANY)


@pytest.fixture
def scene() -> Scene:
    scene = Scene(min_load=100.0, max_workers=1)
    scene.up(1)
    return scene


def test_of_invented_sessions_few_are_taken_over_and_the_rest_is_noted_once(scene: Scene) -> None:
    decided: list[commands.Command] = []
    for number in range(50):
        scene.pass_time(0.1)
        decided += scene.report(1, *invented(number), seq=number + 1)
        assert len(scene.engine.state.reservations) <= limits.ADOPTED_AT_ONCE
    most = limits.ADOPTED_AT_ONCE + 5.0 * limits.ADOPTED_PER_S + 1
    assert kinds(decided).count("session_adopted") <= most
    assert kinds(decided).count("session_ended") <= most
    assert kinds(decided).count("sessions_left_out") == 1, "once, and not at each report"


def test_the_number_left_out_is_said_once_a_minute(scene: Scene) -> None:
    said = [
        command.reason
        for number in range(12)
        for command in [*scene.pass_time(10.0), *scene.report(1, *invented(number), seq=number + 1)]
        if isinstance(command, commands.Note) and command.kind == "sessions_left_out"
    ]
    assert len(said) == 2
    assert f"lists {MANY - limits.ADOPTED_AT_ONCE} or more unknown sessions" in said[0]
    assert f"lists {6 * MANY - 6 * 10} or more unknown sessions" in said[1]


@pytest.mark.promise("P2")
def test_a_worker_that_lists_more_than_is_taken_over_gets_nothing_new_and_is_not_ended(scene: Scene) -> None:
    scene.report(1, *invented(0), seq=1)
    scene.report(1, *invented(1), seq=2)  # all that was taken over is over
    assert not scene.worker(1).held
    scene.put(max_workers=0, min_load=0.0)
    decided = [*scene.pass_time(15.0), *scene.report(1, *list(invented(1))[32:], seq=3), *scene.ask(1)]
    assert destroyed(decided) == []
    assert granted(decided) == []


def test_it_serves_again_when_it_lists_what_is_known(scene: Scene) -> None:
    scene.report(1, *invented(0), seq=1)
    scene.report(1, seq=2)
    scene.ask(1)
    assert granted([*scene.report(1, seq=3), *scene.report(1, seq=4), *scene.commands]) == [(1, 1)]
    assert scene.state(1) is WorkerState.HELD


@pytest.mark.promise("P2")
def test_after_a_lost_store_all_of_many_sessions_are_known_in_the_end(scene: Scene) -> None:
    sessions = list(invented(0))[:100]
    for number in range(80):
        scene.pass_time(1.0)
        scene.report(1, *sessions, seq=number + 1)
        assert scene.state(1) is WorkerState.HELD
    assert list(scene.worker(1).held) == sessions


def test_there_is_an_end_to_what_is_taken_over_of_a_worker_that_goes_on_for_days(scene: Scene) -> None:
    for number in range(100):
        scene.pass_time(9.0)
        scene.report(1, *list(invented(0))[:300], seq=number + 1)
    assert len(scene.worker(1).held) == limits.ADOPTED_MAX
    assert len(scene.engine.state.reservations) == limits.ADOPTED_MAX


def test_invented_sessions_teach_no_occupancy() -> None:
    scene = Scene(min_load=100.0, max_workers=2)
    scene.workergroup(1, occupancy=None)
    scene.up(1)
    for number in range(5):
        scene.report(1, *invented(number), seq=number + 1)
    assert scene.worker(1).workergroup.most_sessions_seen <= limits.ADOPTED_AT_ONCE
