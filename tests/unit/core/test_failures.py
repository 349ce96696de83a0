"""When a worker has failed, when it goes, and what becomes of those whom it served."""

from __future__ import annotations

import itertools

import pytest

from nullworker.core import commands, events, explain, limits
from nullworker.core.reservation import Stage
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, kinds, of


def destroyed(decided: list[commands.Command]) -> list[int]:
    return [command.worker_id for command in of(decided, commands.Destroy)]


def test_a_free_worker_that_falls_silent_is_not_granted_after_20_s_and_replaced_after_30() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.pass_time(limits.UNRESPONSIVE_AFTER_S)
    assert scene.worker(1).trust.unresponsive
    assert len(of(scene.commands, commands.Create)) == 2
    assert destroyed(scene.pass_time(limits.SILENCE_FAILS_S - limits.UNRESPONSIVE_AFTER_S)) == [1]


@pytest.mark.promise("P10")
def test_a_held_workers_silence_makes_it_ungrantable_never_free() -> None:
    scene = Scene()
    scene.serve(1)
    scene.pass_time(limits.SILENCE_FAILS_HELD_S - 1)
    assert scene.state(1) is WorkerState.HELD
    assert scene.worker(1).trust.unresponsive
    decided = scene.pass_time(1)
    assert kinds(decided)[:2] == ["worker_failed", "session_lost"]
    assert destroyed(decided) == [1]


def refuse_for(scene: Scene, worker_id: int, seconds: float) -> list[commands.Command]:
    """Time in which all that the worker sends is refused, every 10 s."""
    decided: list[commands.Command] = []
    for _ in range(int(seconds / limits.REPORT_PERIOD_S)):
        decided += scene.pass_time(limits.REPORT_PERIOD_S)
        decided += scene.send(events.ReportRefused(worker_id, "cur_load is wrong."))
    return decided


@pytest.mark.promise("P2")
def test_a_held_worker_whose_reports_are_refused_lives_and_is_said_to_be_so_once() -> None:
    scene = Scene()
    scene.serve(1)
    decided = refuse_for(scene, 1, 3 * limits.SILENCE_FAILS_HELD_S)
    assert kinds(decided).count("report_refused") == 1
    assert destroyed(decided) == []
    assert scene.state(1) is WorkerState.HELD
    assert "refused: cur_load is wrong)" in explain.about_worker(scene.engine, 1, scene.now)
    decided = scene.pass_time(limits.SILENCE_FAILS_HELD_S)  # and then it falls silent altogether
    assert destroyed(decided) == [1]


def test_a_free_worker_whose_reports_are_refused_gets_nothing_new_and_is_not_failed() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    assert destroyed(refuse_for(scene, 1, 10 * limits.SILENCE_FAILS_S)) == []
    assert scene.worker(1).trust.unresponsive
    assert 1 not in scene.engine.state.endpoints[1].free
    scene.report(1)
    assert not scene.worker(1).trust.unresponsive
    assert "report_refused" in kinds(scene.send(events.ReportRefused(1, "x")))  # it is news again


def test_what_a_worker_that_is_not_listened_to_sends_is_passed_over() -> None:
    scene = Scene()
    assert scene.send(events.ReportRefused(9, "x")) == []


@pytest.mark.promise("P2")
def test_a_refused_report_contradicts_a_list_that_has_its_worker_as_ended() -> None:
    scene = Scene()
    scene.serve(1)
    scene.pass_time(limits.UNRESPONSIVE_AFTER_S)
    scene.send(events.ReportRefused(1, "x"))
    assert destroyed(scene.send(events.FleetListed("f", scene.now - 1, ((1, "exited"),)))) == []


def test_a_suspect_worker_that_reports_is_trusted_again() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.pass_time(limits.UNRESPONSIVE_AFTER_S)
    scene.report(1)
    assert not scene.worker(1).trust.unresponsive
    assert 1 in scene.engine.state.endpoints[1].free


@pytest.mark.promise("P2")
def test_a_worker_in_doubt_is_given_as_long_as_a_held_one() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    scene.pass_time(200)
    assert destroyed(scene.commands) == []
    assert destroyed(scene.pass_time(limits.SILENCE_FAILS_HELD_S - 200)) == [1]


def test_a_death_while_held_ends_the_session_and_a_death_while_granted_gives_the_waiter_its_place_again() -> None:
    scene = Scene()
    scene.serve(1)
    assert "session_lost" in kinds(scene.send(events.InstanceExited(1, "exit code 1")))
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.send(events.InstanceExited(1, "exit code 1"))
    assert scene.engine.state.reservations[1].stage is Stage.WAITING
    assert len(of(scene.pass_time(2), commands.Create)) == 1


@pytest.mark.promise("P12")
def test_a_workergroup_that_keeps_failing_is_tried_with_doubling_pauses_of_at_most_300_s_and_one_at_a_time() -> None:
    scene = Scene()
    for idx in range(4):
        scene.send(events.Asked(1, idx, 100.0, 60.0))
    starts = [scene.now]
    seen = 0
    for _ in range(14):
        creates = of(scene.commands, commands.Create)[seen:]
        seen += len(creates)
        for create in creates:
            scene.send(events.InstanceFailed(create.worker_id, "create", "no room"))
        while len(of(scene.commands, commands.Create)) == seen:
            due = scene.engine.wake_at()
            assert due is not None
            scene.pass_time(due - scene.now)
        starts.append(scene.now)
    pauses = [round(later - earlier, 3) for earlier, later in itertools.pairwise(starts)]
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300, 300]
    assert seen == 4 * limits.FAILURES_BEFORE_ONE_AT_A_TIME + 11


@pytest.mark.promise("P12")
def test_workers_that_were_ordered_together_and_fail_together_count_as_one_failure() -> None:
    scene = Scene()
    for idx in range(10):
        scene.ask(idx)
    for worker_id in range(1, 11):
        scene.send(events.InstanceFailed(worker_id, "create", "no room"))
    assert scene.engine.state.workergroups[1].failures == 1
    assert len(of(scene.pass_time(1), commands.Create)) == 10


@pytest.mark.promise("P12")
def test_a_worker_that_finished_something_or_was_ready_for_a_minute_has_proven_its_workergroup() -> None:
    scene = Scene(min_load=100.0)
    scene.send(events.InstanceFailed(1, "create", "no room"))
    scene.pass_time(1)
    scene.up(2)
    assert scene.engine.state.workergroups[1].failures == 1
    scene.finishes(2, 50)
    assert scene.engine.state.workergroups[1].failures == 0
    scene.send(events.InstanceExited(2, "killed by signal 9"))
    assert scene.engine.state.workergroups[1].failures == 0


@pytest.mark.promise("P12")
def test_a_session_that_ends_because_its_worker_failed_proves_nothing() -> None:
    """A consumer that crashes each time is tried with growing pauses, though its worker tells the end as a success."""
    scene = Scene()
    for failures in (1, 2, 3):
        scene.ask(failures)
        scene.live(200)  # the pause of before is over
        (create,) = of(scene.commands, commands.Create)[-1:]
        scene.up(create.worker_id)
        scene.takes(create.worker_id, failures)
        scene.report(create.worker_id, failures, error="The consumer ended with exit code 3.")
        scene.finishes(create.worker_id, failures)
        assert scene.engine.state.workergroups[1].failures == failures
        scene.report(create.worker_id, error="The consumer ended with exit code 3.")
        scene.live(20)
        assert create.worker_id not in scene.engine.state.workers


@pytest.mark.promise("P12")
def test_who_waits_is_told_why_workers_fail() -> None:
    scene = Scene()
    scene.ask(1)
    for _ in range(4):
        worker_id = of(scene.commands, commands.Create)[-1].worker_id
        scene.send(events.InstanceFailed(worker_id, "create", "quota of GPUs is used up"))
        if scene.engine.state.workergroups[1].failures < 4:
            scene.pass_time(scene.engine.state.workergroups[1].next_try_at - scene.now)
    why = explain.why_waiting(scene.engine, 1)
    assert "failed to start 4 times" in why
    assert "quota of GPUs is used up" in why


def test_who_waits_is_told_of_the_workergroup_that_is_tried_next() -> None:
    scene = Scene()
    scene.workergroup(2)
    scene.ask(1)
    scene.send(events.InstanceFailed(1, "create", "no quota"))
    scene.pass_time(0.5)
    scene.send(events.InstanceFailed(2, "create", "no image"))
    scene.pass_time(0.5)
    scene.send(events.InstanceFailed(3, "create", "no quota"))
    assert [group.failures for group in scene.engine.state.workergroups.values()] == [2, 1]
    assert explain.why_waiting(scene.engine, 1).startswith("workers of workergroup 2 failed to start 1 times")


def test_a_worker_that_never_becomes_ready_is_given_up_after_boot_timeout() -> None:
    scene = Scene()
    scene.workergroup(1, boot_timeout_s=120.0)
    scene.ask(1)
    scene.created(1)
    scene.pass_time(119)
    assert destroyed(scene.commands) == []
    assert destroyed(scene.pass_time(1)) == [1]


def test_a_worker_that_reports_that_it_loads_for_ever_is_given_up_after_boot_timeout() -> None:
    scene = Scene()
    scene.workergroup(1, boot_timeout_s=60.0)
    scene.ask(1)
    for _ in range(7):
        scene.report(1, ready=False)
        scene.pass_time(10)
    assert destroyed(scene.commands) == [1]


def test_a_silent_loading_worker_fails_as_a_silent_ready_one_does() -> None:
    scene = Scene()
    scene.ask(1)
    scene.report(1, ready=False)
    assert destroyed(scene.pass_time(limits.SILENCE_FAILS_S)) == [1]


@pytest.mark.promise("P9")
def test_an_order_that_is_not_answered_is_repeated_until_it_is() -> None:
    scene = Scene()
    scene.serve(1)
    scene.finishes(1, 1)
    scene.pass_time(10)
    assert destroyed(scene.commands) == [1]
    scene.pass_time(limits.ORDER_TIMEOUT_S * 3)
    assert destroyed(scene.commands) == [1] * 4
    scene.send(events.InstanceGone(1))
    assert scene.states() == {}
    assert scene.engine.wake_at() is None or scene.pass_time(1e6) == []


def test_a_stop_that_keeps_failing_becomes_a_destroy() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    for _ in range(limits.STOP_ATTEMPTS_MAX):
        assert scene.state(1) is WorkerState.STOPPING
        scene.send(events.InstanceFailed(1, "stop", "busy"))
        scene.pass_time(70)
    assert scene.state(1) is WorkerState.DESTROYING


def test_an_order_that_fails_is_repeated_after_pauses_that_double_up_to_a_minute() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.send(events.InstanceExited(1, "killed"))
    pauses = []
    for _ in range(8):
        scene.send(events.InstanceFailed(1, "destroy", "busy"))
        due = scene.worker(1).order.retry_at
        assert due is not None
        pauses.append(due - scene.now)
        assert destroyed(scene.pass_time(pauses[-1] - 0.5)) == []
        assert destroyed(scene.pass_time(0.5)) == [1]
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]


def test_a_new_order_does_not_wait_for_the_repetition_of_the_one_before() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    scene.send(events.InstanceFailed(1, "stop", "busy"))
    assert scene.worker(1).order.retry_at is not None
    assert destroyed(scene.send(events.EndpointDeleted(1, force=True))) == [1]
    assert destroyed(scene.pass_time(limits.ORDER_TIMEOUT_S - 1)) == []  # its fleet is at it
    assert destroyed(scene.pass_time(1)) == [1]


def test_after_a_suspension_no_worker_fails_for_its_silence_meanwhile() -> None:
    scene = Scene(min_load=100.0)
    scene.serve(2)
    scene.finishes(2, 2)
    scene.oversleep(3600)
    assert destroyed(scene.commands) == []
    scene.report(1, 1)
    scene.report(2)
    assert destroyed(scene.live(limits.QUIET_S - 5)) == []
    assert destroyed(scene.live(30)) == [2]
    assert scene.state(1) is WorkerState.HELD


def test_a_joined_worker_that_dies_is_merely_forgotten() -> None:
    scene = Scene()
    scene.send(events.WorkerJoined(700, 1))
    scene.report(700)
    scene.pass_time(limits.SILENCE_FAILS_S)
    assert scene.states() == {}
    assert destroyed(scene.commands) == []


def test_a_joined_worker_in_error_is_not_granted_and_serves_again_when_it_is_well() -> None:
    scene = Scene(max_workers=1)
    scene.send(events.WorkerJoined(700, 1))
    scene.report(700, 5)
    scene.report(700, 5, error="it broke")
    assert scene.state(700) is WorkerState.ERROR
    scene.report(700, 5)
    assert scene.state(700) is WorkerState.HELD
    scene.report(700)
    assert len(of(scene.ask(1), commands.Grant)) == 1
