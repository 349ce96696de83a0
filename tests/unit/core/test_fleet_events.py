"""What fleets say is one witness: lists lag, answers are lost, and a worker that reports is alive."""

from __future__ import annotations

import pytest

from nullworker.core import commands, events, limits
from nullworker.core.causes import Cause
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, kinds, of


def listed(scene: Scene, *instances: tuple[int, str], asked_s_ago: float = 0.0) -> list[commands.Command]:
    return scene.send(events.FleetListed("f", scene.now - asked_s_ago, instances))


def destroyed(decided: list[commands.Command]) -> list[int]:
    return [command.worker_id for command in of(decided, commands.Destroy)]


def test_a_create_that_certainly_failed_leaves_nothing_to_destroy() -> None:
    scene = Scene()
    scene.ask(1)
    decided = scene.send(events.InstanceFailed(1, "create", "no room"))
    assert kinds(decided) == ["worker_failed", "workergroup_backs_off"]
    assert destroyed(decided) == []
    assert scene.states() == {}


@pytest.mark.promise("P6")
def test_a_create_whose_answer_was_lost_counts_until_a_list_later_than_the_lag_misses_it() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.send(events.InstanceFailed(1, "create", "timed out", definite=False))
    assert scene.states() == {1: "asked"}
    scene.pass_time(limits.LIST_LAG_S - 1)
    listed(scene)
    assert scene.states() == {1: "asked"}
    scene.pass_time(1.5)
    assert "worker_failed" in kinds(listed(scene))


def test_a_create_that_its_fleet_is_still_at_is_not_missed_in_a_list() -> None:
    scene = Scene()
    scene.ask(1)
    scene.pass_time(limits.CREATE_UNKNOWN_S - 1)
    assert listed(scene) == []
    assert "worker_failed" in kinds(scene.pass_time(1))


def test_a_create_whose_answer_was_lost_is_found_in_the_list() -> None:
    scene = Scene()
    scene.ask(1)
    scene.send(events.InstanceFailed(1, "create", "timed out", definite=False))
    scene.pass_time(1)
    listed(scene, (1, "running"))
    assert scene.states() == {1: "creating"}


def test_a_start_that_failed_ends_the_worker() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    scene.send(events.InstanceStopped(1))
    assert scene.state(1) is WorkerState.INACTIVE
    scene.ask(1)
    assert scene.state(1) is WorkerState.STARTING
    assert destroyed(scene.send(events.InstanceFailed(1, "start", "no room"))) == [1]


def test_the_failure_of_an_order_that_another_one_has_replaced_does_not_count() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    assert scene.state(1) is WorkerState.STOPPING
    scene.send(events.InstanceFailed(1, "destroy", "busy"))
    scene.send(events.InstanceFailed(1, "start", "busy"))
    scene.send(events.InstanceFailed(1, "create", "busy"))
    assert (scene.state(1), scene.worker(1).order.attempts) == (WorkerState.STOPPING, 0)
    scene.send(events.EndpointDeleted(1, force=True))
    scene.send(events.InstanceFailed(1, "stop", "busy"))
    assert (scene.state(1), scene.worker(1).order.attempts) == (WorkerState.DESTROYING, 0)


def test_a_worker_that_was_started_again_counts_its_requests_from_zero() -> None:
    scene = Scene(cold_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.takes(1, 1)
    scene.finishes(1, 1)
    scene.pass_time(10)
    scene.send(events.InstanceStopped(1))
    scene.ask(2)
    scene.send(events.InstanceStarted(1))
    assert len(of(scene.report(1, received=0), commands.Grant)) == 1


@pytest.mark.promise("P9")
def test_what_bears_our_mark_and_is_unknown_is_destroyed_after_a_grace_and_again_until_it_is_gone() -> None:
    scene = Scene()
    assert destroyed(listed(scene, (9, "running"))) == []
    scene.pass_time(limits.LIST_LAG_S - 1)
    assert destroyed(listed(scene, (9, "running"))) == []
    scene.pass_time(1)
    assert destroyed(listed(scene, (9, "running"))) == [9]
    assert destroyed(listed(scene, (9, "running"))) == [9]
    scene.send(events.InstanceGone(9))
    assert scene.engine.state.unknown_instances == {}
    listed(scene)
    assert destroyed(listed(scene, (9, "running"))) == []


@pytest.mark.promise("P2")
def test_an_unknown_instance_that_reports_a_session_is_destroyed_only_when_it_reports_none() -> None:
    scene = Scene()
    listed(scene, (9, "running"))
    scene.report(9, 5)
    scene.pass_time(limits.LIST_LAG_S)
    for _ in range(3):
        assert destroyed(listed(scene, (9, "running"))) == []
        scene.pass_time(limits.LIST_LAG_S)
        scene.report(9, 5)
    assert [note.kind for note in of(scene.commands, commands.Note)].count("unknown_instance_kept") == 1
    scene.report(9)
    assert destroyed(listed(scene, (9, "running"))) == [9]


def test_an_unknown_instance_that_held_something_and_falls_silent_is_destroyed_like_a_known_one() -> None:
    scene = Scene()
    listed(scene, (9, "running"))
    scene.report(9, 5)
    scene.pass_time(limits.SILENCE_FAILS_HELD_S - 1)
    assert destroyed(listed(scene, (9, "running"))) == []
    scene.pass_time(1)
    assert destroyed(listed(scene, (9, "running"))) == [9]


def test_an_unknown_instance_that_has_ended_holds_nothing() -> None:
    scene = Scene()
    listed(scene, (9, "running"))
    scene.report(9, 5)
    scene.pass_time(limits.LIST_LAG_S)
    assert destroyed(listed(scene, (9, "exited"))) == [9]


@pytest.mark.promise("P9")
def test_the_number_of_an_unknown_instance_is_never_given_to_a_new_worker() -> None:
    scene = Scene()
    listed(scene, (1, "running"), (4, "running"))
    scene.ask(1)
    assert [create.worker_id for create in of(scene.commands, commands.Create)] == [5]


def test_an_unknown_instance_that_is_listed_no_longer_is_forgotten() -> None:
    scene = Scene()
    listed(scene, (9, "running"))
    listed(scene)
    assert scene.engine.state.unknown_instances == {}


def test_a_list_asked_for_before_a_change_says_nothing_about_it() -> None:
    scene = Scene()
    scene.ask(1)
    scene.pass_time(70)
    scene.created(1)
    assert listed(scene, asked_s_ago=5) == []
    assert scene.state(1) is WorkerState.CREATING


def test_a_list_asked_for_before_a_start_does_not_end_the_worker() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    scene.send(events.InstanceStopped(1))
    asked_at = scene.now
    scene.pass_time(1)
    scene.ask(1)
    assert scene.state(1) is WorkerState.STARTING
    assert scene.send(events.FleetListed("f", asked_at, ((1, "exited"),))) == []
    assert scene.state(1) is WorkerState.STARTING


@pytest.mark.promise("P2")
def test_a_worker_that_reports_is_alive_whatever_lists_say() -> None:
    scene = Scene()
    scene.serve(1)
    for state in ("missing", "exited", "stopped"):
        for _ in range(3):
            scene.live(60)
            listed(scene, *([(1, state)] if state != "missing" else []), asked_s_ago=1)
        assert scene.state(1) is WorkerState.HELD
    assert destroyed(scene.commands) == []


@pytest.mark.promise("P2")
def test_one_list_that_shows_a_worker_as_ended_makes_it_suspect_and_the_second_fails_it_unless_it_reports() -> None:
    scene = Scene()
    scene.serve(1)
    scene.pass_time(1)
    listed(scene, (1, "exited"))
    assert scene.worker(1).trust.unresponsive
    scene.report(1, 1)
    scene.pass_time(1)
    listed(scene, (1, "exited"))
    assert scene.state(1) is WorkerState.HELD
    scene.pass_time(5)
    assert "session_lost" in kinds(listed(scene, (1, "exited")))


def test_a_booting_worker_that_is_listed_as_ended_has_failed() -> None:
    scene = Scene()
    scene.ask(1)
    scene.created(1)
    scene.pass_time(1)
    assert destroyed(listed(scene, (1, "exited"))) == [1]


def test_a_silent_worker_that_is_not_listed_has_vanished() -> None:
    scene = Scene()
    scene.serve(1)
    scene.pass_time(limits.LIST_LAG_S + 5)
    assert "session_lost" in kinds(listed(scene))


def test_an_inactive_worker_that_is_not_listed_is_cleared_away() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    scene.send(events.InstanceStopped(1))
    scene.pass_time(limits.LIST_LAG_S + 1)
    assert destroyed(listed(scene)) == [1]


def test_a_destroyed_worker_that_is_not_listed_after_the_lag_is_gone() -> None:
    scene = Scene()
    scene.serve(1)
    scene.finishes(1, 1)
    scene.pass_time(11)
    assert scene.state(1) is WorkerState.DESTROYING
    listed(scene)
    assert scene.state(1) is WorkerState.DESTROYING
    scene.pass_time(limits.LIST_LAG_S)
    listed(scene)
    assert scene.states() == {}


def test_a_stopping_worker_that_is_listed_as_stopped_or_ended_has_stopped() -> None:
    for state in ("stopped", "exited"):
        scene = Scene(cold_workers=1)
        scene.up(1)
        scene.pass_time(5)
        assert scene.state(1) is WorkerState.STOPPING
        listed(scene, (1, state))
        assert scene.state(1) is WorkerState.INACTIVE


def test_an_inactive_worker_that_runs_all_the_same_is_stopped_again() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    scene.send(events.InstanceStopped(1))
    scene.pass_time(limits.LIST_LAG_S + 1)
    assert len(of(listed(scene, (1, "running")), commands.Stop)) == 1


def test_a_starting_worker_that_stays_stopped_has_failed() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    scene.send(events.InstanceStopped(1))
    scene.ask(1)
    scene.pass_time(limits.LIST_LAG_S + 1)
    assert listed(scene, (1, "stopped")) == []  # its fleet is still at it
    scene.send(events.InstanceStarted(1))
    scene.pass_time(limits.LIST_LAG_S + 1)
    assert destroyed(listed(scene, (1, "stopped"))) == [1]


def test_an_exit_while_it_stops_is_what_was_wanted() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    assert scene.send(events.InstanceExited(1, "exit code 0")) == []
    assert scene.state(1) is WorkerState.STOPPING


def test_an_instance_that_somebody_else_destroyed_is_a_failure() -> None:
    scene = Scene()
    scene.serve(1)
    assert of(scene.send(events.InstanceGone(1)), commands.Note)[0].cause is Cause.FAILED_GONE


def test_a_joined_worker_is_not_looked_for_in_lists() -> None:
    scene = Scene()
    scene.send(events.WorkerJoined(700, 1))
    scene.report(700)
    scene.live(300)
    listed(scene)
    assert scene.state(700) is WorkerState.READY


def test_events_of_unknown_instances_are_ignored() -> None:
    scene = Scene()
    for event in (
        events.InstanceCreated(9),
        events.InstanceStarted(9),
        events.InstanceStopped(9),
        events.InstanceGone(9),
        events.InstanceExited(9, ""),
        events.InstanceFailed(9, "create", ""),
    ):
        assert scene.send(event) == []
