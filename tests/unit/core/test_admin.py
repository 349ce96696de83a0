"""What operators do takes effect at once and never touches running work; a restart takes over what was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nullworker.core import commands, events, explain, limits, recovery
from nullworker.core.causes import Blocker, Cause
from nullworker.core.events import RestoredReservation, RestoredWorker
from nullworker.core.parameters import TESTED_PARAMETERS, EndpointState, WorkergroupSpec
from nullworker.core.reservation import Stage
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, kinds, of


def destroyed(decided: list[commands.Command]) -> list[int]:
    return [command.worker_id for command in of(decided, commands.Destroy)]


def test_a_changed_target_queue_time_holds_for_those_who_wait_already() -> None:
    scene = Scene(target_queue_time=100.0, max_queue_time=0.0)
    scene.serve(1)
    scene.ask(2)
    assert len(of(scene.commands, commands.Create)) == 1
    assert len(of(scene.put(target_queue_time=0.0), commands.Create)) == 1


def test_a_raised_max_workers_recruits_at_once() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.ask(2)
    assert len(of(scene.put(max_workers=2), commands.Create)) == 1


def test_a_raised_max_queue_time_lets_a_held_worker_take_more() -> None:
    scene = Scene(max_queue_time=0.0, max_workers=1)
    scene.workergroup(1, occupancy=4)
    scene.serve(1)
    assert of(scene.ask(2), commands.Grant) == []
    assert len(of(scene.put(max_queue_time=30.0), commands.Grant)) == 1


def test_a_raised_occupancy_lets_a_held_worker_take_more() -> None:
    scene = Scene(max_queue_time=30.0, max_workers=1)
    scene.serve(1)
    assert of(scene.ask(2), commands.Grant) == []
    spec = WorkergroupSpec(1, 1, "f", occupancy=2)
    assert len(of(scene.send(events.WorkergroupPut(spec)), commands.Grant)) == 1


@pytest.mark.promise("P2")
def test_a_deleted_endpoint_drains_first() -> None:
    scene = Scene(min_load=200.0)
    scene.serve(1)
    scene.up(2)
    scene.put(max_workers=2)
    scene.ask(2)
    scene.ask(3)
    decided = scene.send(events.EndpointDeleted(1))
    assert [refusal.request_idx for refusal in of(decided, commands.Refuse)] == [3]
    assert scene.state(1) is WorkerState.DRAINING
    assert scene.state(2) is WorkerState.DRAINING
    assert destroyed(decided) == []
    assert [r.request_idx for r in of(scene.ask(9), commands.Refuse)] == [9]
    decided = scene.finishes(1, 1)
    assert destroyed(decided) == [1]
    decided = scene.finishes(2, 2, "Rejected")
    assert [refusal.request_idx for refusal in of(decided, commands.Refuse)] == [2]
    scene.clears_doubt(2)
    scene.obey()
    assert kinds(scene.commands)[-1] == "endpoint_deleted"
    assert scene.engine.state.endpoints == {}
    assert scene.engine.state.workergroups == {}
    assert scene.engine.state.reservations == {}


def test_a_forced_deletion_ends_everything_and_says_so() -> None:
    scene = Scene()
    scene.serve(1)
    scene.ask(2)
    scene.up(2)
    decided = scene.send(events.EndpointDeleted(1, force=True))
    assert "session_lost" in kinds(decided)
    assert [refusal.request_idx for refusal in of(decided, commands.Refuse)] == [2]
    assert destroyed(decided) == [1, 2]


def test_an_endpoint_without_workers_is_gone_at_once() -> None:
    scene = Scene()
    assert kinds(scene.send(events.EndpointDeleted(1))) == ["endpoint_deleted"]
    assert scene.engine.state.endpoints == {}
    assert scene.send(events.EndpointDeleted(1)) == []


def test_an_endpoint_that_is_being_deleted_takes_no_new_parameters_and_no_new_workergroup() -> None:
    scene = Scene()
    scene.serve(1)
    scene.send(events.EndpointDeleted(1))
    scene.put(min_load=900.0)
    scene.workergroup(2)
    assert of(scene.pass_time(1), commands.Create) == []


@pytest.mark.promise("P2")
def test_a_deleted_workergroup_drains_first_and_then_is_gone() -> None:
    scene = Scene()
    scene.serve(1)
    scene.ask(2)
    decided = scene.send(events.WorkergroupDeleted(1))
    assert destroyed(decided) == [2]
    assert scene.state(1) is WorkerState.DRAINING
    assert destroyed(scene.finishes(1, 1)) == [1]
    scene.obey()
    assert scene.engine.state.workergroups == {}
    assert explain.why_waiting(scene.engine, 2) == "the endpoint has no workergroup"
    assert scene.send(events.WorkergroupDeleted(1)) == []


def test_a_workergroup_without_workers_is_gone_at_once() -> None:
    scene = Scene()
    scene.send(events.WorkergroupDeleted(1))
    assert scene.engine.state.workergroups == {}


def test_a_workergroup_does_not_move_between_endpoints() -> None:
    scene = Scene()
    scene.send(events.EndpointPut(2, "other", TESTED_PARAMETERS))
    scene.send(events.WorkergroupPut(WorkergroupSpec(1, 2, "f")))
    assert scene.engine.state.workergroups[1].spec.endpoint_id == 1
    scene.send(events.WorkergroupPut(WorkergroupSpec(8, 77, "f")))
    assert 8 not in scene.engine.state.workergroups


def test_a_rolling_update_replaces_free_workers_now_and_held_ones_when_released() -> None:
    scene = Scene(min_load=200.0)
    scene.serve(1)
    scene.up(2)
    decided = scene.send(events.WorkersUpdated(1))
    assert destroyed(decided) == [2]
    assert scene.state(1) is WorkerState.DRAINING
    assert len(of(decided, commands.Create)) == 2
    assert destroyed(scene.finishes(1, 1)) == [1]


@pytest.mark.promise("P2")
def test_a_rolling_update_waits_for_a_worker_that_may_hold_an_unconfirmed_session() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.send(events.WorkersUpdated(1))
    decided = scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    assert destroyed(decided) == []
    assert destroyed(scene.report(1)) == []
    assert destroyed(scene.clears_doubt(1)) == [1]


def test_a_cancelled_update_keeps_the_workers_that_were_not_replaced_yet() -> None:
    scene = Scene()
    scene.serve(1)
    scene.send(events.WorkersUpdated(1))
    scene.send(events.WorkersUpdated(1, cancel=True))
    assert scene.state(1) is WorkerState.HELD
    assert destroyed(scene.finishes(1, 1)) == []


def test_a_cancelled_update_of_a_worker_that_was_only_kept_for_a_doubt_lets_it_serve_again() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.send(events.WorkersUpdated(1))
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    scene.send(events.WorkersUpdated(1, cancel=True))
    assert scene.state(1) is WorkerState.READY
    scene.report(1, seq=1)
    assert len(of(scene.ask(2), commands.Grant)) == 1


def test_an_update_of_a_stopping_worker_destroys_it_when_it_has_stopped() -> None:
    scene = Scene(cold_workers=1)
    scene.up(1)
    scene.pass_time(2)
    scene.send(events.WorkersUpdated(1))
    assert destroyed(scene.send(events.InstanceStopped(1))) == [1]


def test_updates_and_joins_of_a_workergroup_that_is_not_there_change_nothing() -> None:
    scene = Scene()
    assert scene.send(events.WorkersUpdated(9)) == []
    assert scene.send(events.WorkerJoined(700, 9)) == []


def test_a_joined_worker_is_routed_to_and_never_destroyed() -> None:
    scene = Scene()
    assert kinds(scene.send(events.WorkerJoined(700, 1))) == ["worker_joined"]
    scene.report(700)
    assert len(of(scene.ask(1), commands.Grant)) == 1
    scene.takes(700, 1)
    scene.finishes(700, 1)
    scene.live(500)
    assert scene.state(700) is WorkerState.READY
    scene.ask(2)
    scene.takes(700, 2)
    scene.ask(3)
    assert of(scene.commands, commands.Create)[-1].worker_id == 701


def test_a_joined_worker_whose_number_was_given_for_that_takes_none_of_ours() -> None:
    scene = Scene()
    scene.send(events.WorkerJoined(limits.JOINED_IDS_FROM + 5, 1))
    scene.ask(1)
    scene.ask(2)
    assert of(scene.commands, commands.Create)[-1].worker_id == 1


def test_a_joined_worker_of_a_deleted_endpoint_is_forgotten() -> None:
    scene = Scene()
    scene.send(events.WorkerJoined(700, 1))
    scene.report(700)
    scene.send(events.EndpointDeleted(1))
    assert scene.engine.state.workers == {}
    assert destroyed(scene.commands) == []


# -------------------------------------------------------------------------------------------------------------- restart


def restarted(
    workers: tuple[RestoredWorker, ...] = (), reservations: tuple[RestoredReservation, ...] = (), **changes: object
) -> Scene:
    scene = Scene(TESTED_PARAMETERS, begun=False, **changes)
    scene.send(events.Restored(10, workers, reservations))
    return scene


@pytest.mark.promise("P11")
def test_a_restart_adopts_workers_and_sessions_and_ends_nothing() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "held", "http://w1", 100.0), RestoredWorker(2, 1, "ready", "http://w2", 100.0)),
        (RestoredReservation(7, 1, 100.0, 1, confirmed=True),),
    )
    assert scene.state(1) is WorkerState.HELD
    scene.pass_time(limits.QUIET_S - 1)
    assert destroyed(scene.commands) == []
    scene.report(1, 7)
    scene.report(2)
    assert scene.engine.state.reservations[7].stage is Stage.SESSION
    assert destroyed(scene.live(60)) == [2]


@pytest.mark.promise("P1")
def test_after_a_restart_reports_from_before_a_session_do_not_end_it() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "held", "http://w1", 100.0, numbered=True, loadtimes_s=(7.5,)),),
        (RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False, received=2),),
    )
    scene.report(1, ready=False, received=0, seq=1)  # these were made before it, and are heard late
    scene.report(1, received=0, seq=2, loadtime_s=7.5)
    scene.report(1, received=1, seq=3, loadtime_s=7.5)
    assert scene.engine.state.reservations[7].stage is Stage.SESSION
    scene.report(1, received=2, seq=4, loadtime_s=7.5)
    scene.report(1, received=2, seq=5, loadtime_s=7.5)
    assert 7 not in scene.engine.state.reservations


@pytest.mark.promise("P1")
def test_after_a_restart_another_process_counts_from_zero() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "held", "http://w1", 100.0, numbered=True, loadtimes_s=(7.5,)),),
        (RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False, received=2),),
    )
    scene.report(1, received=0, seq=2, loadtime_s=9.5)
    scene.report(1, received=0, seq=3, loadtime_s=9.5)
    assert 7 not in scene.engine.state.reservations


def test_a_restored_worker_that_ends_before_it_reports_is_waited_for_no_more_and_the_others_are() -> None:
    known = tuple(RestoredWorker(worker_id, 1, "ready", "http://w", 100.0) for worker_id in (1, 2, 3))
    scene = restarted(known)
    scene.send(events.InstanceExited(1, "killed"))
    scene.send(events.InstanceGone(1))
    assert scene.engine.state.endpoints[1].awaiting_report == 2


@pytest.mark.promise("P11")
def test_a_restart_honours_every_grant_that_was_answered() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "held", "http://w1", 100.0),), (RestoredReservation(7, 1, 100.0, 1, confirmed=False),)
    )
    (grant,) = of(scene.ask(7), commands.Grant)
    assert grant.worker_id == 1
    scene.takes(1, 7)
    assert scene.engine.state.reservations[7].stage is Stage.SESSION


@pytest.mark.promise("P11")
def test_a_granted_worker_that_was_last_written_down_as_booting_was_ready() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "loading", "http://w1", 100.0),), (RestoredReservation(7, 1, 100.0, 1, confirmed=False),)
    )
    assert scene.state(1) is WorkerState.HELD


@pytest.mark.promise("P11")
def test_after_a_restart_waiters_are_served_in_their_old_order() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "ready", "http://w1", 100.0),),
        (
            RestoredReservation(3, 1, 100.0, 0, confirmed=False),
            RestoredReservation(2, 1, 100.0, 0, confirmed=False),
        ),
        max_workers=1,
    )
    scene.ask(3)
    scene.ask(2)
    (grant,) = of(scene.report(1), commands.Grant)
    assert grant.request_idx == 2


@pytest.mark.promise("P11")
def test_nothing_is_created_on_account_of_a_restart_until_the_workers_had_time_to_speak() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "ready", "http://w1", 100.0),), (RestoredReservation(2, 1, 100.0, 0, confirmed=False),)
    )
    scene.ask(2)
    assert of(scene.pass_time(limits.QUIET_S - 0.1), commands.Create) == []
    assert len(of(scene.pass_time(1), commands.Create)) == 1


@pytest.mark.promise("P11")
def test_configuration_alone_recruits_nothing_for_a_restart_may_follow_it() -> None:
    scene = restarted((RestoredWorker(1, 1, "ready", "http://w1", 100.0),), min_load=100.0)
    assert of(scene.commands, commands.Create) == []
    assert scene.states() == {1: "ready"}
    scene = Scene(begun=False, min_load=100.0)
    assert scene.commands == []
    assert len(of(scene.pass_time(0), commands.Create)) == 1


def test_without_workers_to_wait_for_a_restarted_engine_creates_at_once() -> None:
    scene = restarted()
    assert [create.worker_id for create in of(scene.ask(1), commands.Create)] == [10]


@pytest.mark.promise("P11")
@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("asked", commands.Create),
        ("starting", commands.Start),
        ("stopping", commands.Stop),
        ("destroying", commands.Destroy),
    ],
)
def test_an_order_that_was_under_way_is_repeated(state: str, line: type[commands.Command]) -> None:
    scene = restarted((RestoredWorker(1, 1, state, "", 0.0),))
    (command,) = of(scene.commands, line)
    assert command.worker_id == 1  # type: ignore[union-attr]  # all four have one


def test_a_reservation_whose_worker_was_ordered_to_go_is_not_restored() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "destroying", "", 100.0),),
        (RestoredReservation(7, 1, 100.0, 1, confirmed=True), RestoredReservation(8, 1, 100.0, 55, confirmed=True)),
    )
    assert scene.engine.state.reservations == {}


def test_a_session_that_no_report_mentions_after_a_restart_has_ended() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "held", "http://w1", 100.0),), (RestoredReservation(7, 1, 100.0, 1, confirmed=True),)
    )
    reservation = scene.engine.state.reservations[7]
    stages = []
    for seq in (1, 2):  # the first may be a report of before, and the client be sent there a moment before the end
        scene.report(1, seq=seq)
        stages.append(reservation.stage)
    assert stages == [Stage.SESSION, Stage.GRANTED]
    scene.live(60)
    assert scene.engine.state.reservations == {}


@pytest.mark.promise("P11")
def test_a_session_outlasts_reports_without_a_number_that_may_be_of_before_a_restart() -> None:
    settled = RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False)
    scene = restarted((RestoredWorker(1, 1, "held", "http://w1", 100.0),), (settled,))
    scene.report(1, ready=False, received=0)  # made when it booted,
    scene.report(1, received=0, loadtime_s=6.0)  # and soon after
    assert scene.engine.state.reservations[7].stage is Stage.SESSION
    scene.pass_time(limits.RESEND_S - 1)
    scene.report(1, loadtime_s=6.0)
    assert scene.engine.state.reservations[7].stage is Stage.SESSION
    scene.pass_time(1)
    scene.report(1, loadtime_s=6.0)
    scene.report(1, loadtime_s=6.0)
    assert scene.engine.state.reservations == {}, "later reports were made after it"


@pytest.mark.promise("P11")
def test_nothing_is_created_for_a_restored_session_that_a_report_does_not_list() -> None:
    """It may have ended, and the worker serve the next request: a further report tells."""
    settled = RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False)
    scene = restarted((RestoredWorker(1, 1, "held", "http://w1", 100.0),), (settled,))
    scene.ask(8)
    decided = scene.report(1, seq=1) + scene.pass_time(limits.REPORT_PERIOD_S) + scene.report(1, seq=2)
    assert of(decided, commands.Create) == []
    assert [grant.request_idx for grant in of(decided, commands.Grant)] == [8]


@pytest.mark.promise("P11")
def test_a_restored_session_that_was_listed_ends_with_the_next_report_that_does_not_list_it() -> None:
    settled = RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False)
    scene = restarted((RestoredWorker(1, 1, "held", "http://w1", 100.0),), (settled,))
    scene.takes(1, 7)
    scene.report(1)
    assert scene.engine.state.reservations == {}


@pytest.mark.promise("P11")
def test_a_restored_session_without_a_new_grant_ends_when_its_worker_says_so() -> None:
    """A waiter gets its worker at once, and not when a grant that was never made would have run out."""
    settled = RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False)
    scene = restarted((RestoredWorker(1, 1, "held", "http://w1", 100.0),), (settled,), max_workers=1)
    scene.report(1, 7, seq=1)
    scene.ask(8)
    scene.finishes(1, 7)
    scene.report(1, seq=2)
    assert [grant.request_idx for grant in of(scene.report(1, seq=3) + scene.commands, commands.Grant)] == [8]


@pytest.mark.promise("P8")
@pytest.mark.promise("P11")
def test_nothing_is_created_for_a_waiter_of_before_the_restart_until_it_asks_again() -> None:
    scene = restarted((), (RestoredReservation(2, 1, 100.0, 0, confirmed=False),))
    assert of(scene.live(30), commands.Create) == []
    assert len(of(scene.ask(2), commands.Create)) == 1
    assert scene.engine.state.endpoints[1].line.active_count == 1


@pytest.mark.promise("P7")
def test_a_waiter_of_before_the_restart_keeps_its_place_when_it_asks_again() -> None:
    waiters = tuple(RestoredReservation(idx, 1, 100.0, 0, confirmed=False) for idx in (2, 3))
    scene = restarted((RestoredWorker(1, 1, "ready", "http://w1", 100.0),), waiters, max_workers=1)
    scene.ask(3)
    scene.pass_time(limits.POLL_GRACE_S + 1)  # the other has not asked: it is granted nothing for now
    scene.ask(2)
    assert [grant.request_idx for grant in of(scene.report(1), commands.Grant)] == [2]


@pytest.mark.promise("P11")
def test_one_who_was_never_told_its_number_is_not_waited_for_after_a_restart() -> None:
    """It can only ask as a new one; waiting for it would keep a worker, or make one, in vain."""
    scene = Scene(max_workers=0)
    scene.ask(1)
    scene.ask(2)
    scene.hold_ends(2)
    state = scene.engine.state
    assert [recovery.reservation_record(state, idx) is not None for idx in (1, 2)] == [False, True]
    assert 2 in scene.engine.state.changed_reservations, "it is written down now"


@pytest.mark.promise("P11")
def test_an_old_heartbeat_is_not_believed_after_a_restart_of_a_worker_that_numbers() -> None:
    """The framework sends one again for 40 s: it may list a session that ended before the restart."""
    scene = restarted((RestoredWorker(1, 1, "ready", "http://w1", 100.0, numbered=True),), min_load=100.0)
    scene.report(1, 7)
    assert scene.worker(1).held == {}
    assert scene.worker(1).trust.unresponsive
    scene.report(1, seq=1)
    assert not scene.worker(1).trust.unresponsive
    record = recovery.worker_record(scene.engine.state, 1)
    assert record is not None
    assert record.numbered


@pytest.mark.promise("P11")
def test_what_was_to_go_before_a_restart_goes_after_it_when_it_is_free() -> None:
    scene = restarted(
        (
            RestoredWorker(1, 1, "draining", "http://w1", 100.0, retire=Cause.UPDATED),
            RestoredWorker(2, 1, "ready", "http://w2", 100.0),
        ),
        (RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False),),
        min_load=100.0,
    )
    assert scene.states() == {1: "draining", 2: "ready"}
    scene.report(1, 7, seq=1)
    scene.report(2, seq=1)
    scene.finishes(1, 7)
    scene.report(1, seq=2)
    assert destroyed(scene.report(1, seq=3) + scene.commands) == [1]
    assert scene.state(2) is WorkerState.READY


@pytest.mark.promise("P11")
def test_what_is_written_down_of_a_reservation_is_where_it_is_in_its_life() -> None:
    scene = Scene()
    state = scene.engine.state
    scene.ask(1)
    assert recovery.reservation_record(state, 1) is None  # its client cannot come back under a number it was not told
    scene.hold_ends(1)
    assert recovery.reservation_record(state, 1) == RestoredReservation(1, 1, 100.0, 0, confirmed=False, sent=False)
    scene.ask(1)
    scene.up(1)
    assert recovery.reservation_record(state, 1) == RestoredReservation(1, 1, 100.0, 1, confirmed=False, sent=True)
    scene.takes(1, 1)
    session = RestoredReservation(1, 1, 100.0, 1, confirmed=True, sent=False, received=1)
    assert recovery.reservation_record(state, 1) == session
    scene.ask(1)  # it never heard the worker's answer
    assert recovery.reservation_record(state, 1) == replace(session, sent=True)
    scene.send(events.InstanceExited(1, "killed"))
    assert recovery.reservation_record(state, 1) is None


@pytest.mark.promise("P11")
def test_what_is_written_down_of_a_worker_says_why_it_is_to_go() -> None:
    scene = Scene()
    scene.serve(1)
    held = RestoredWorker(1, 1, "held", "http://w1", 100.0)
    assert recovery.worker_record(scene.engine.state, 1) == held
    scene.send(events.WorkersUpdated(1))
    assert recovery.worker_record(scene.engine.state, 1) == replace(held, state="draining", retire=Cause.UPDATED)


@pytest.mark.promise("P2")
@pytest.mark.promise("P11")
def test_a_deletion_that_a_restart_came_between_goes_on_and_ends_no_session() -> None:
    scene = restarted(
        (RestoredWorker(1, 1, "draining", "http://w1", 100.0),),
        (RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False),),
    )
    scene.send(events.WorkergroupDeleted(1))
    scene.report(1, 7, seq=1)
    assert destroyed(scene.live(120)) == []
    scene.finishes(1, 7)
    scene.clears_doubt(1)
    scene.live(20)
    assert scene.states() == {}
    assert "workergroup_deleted" in kinds(scene.commands)


def test_what_a_store_holds_that_makes_no_sense_is_passed_over() -> None:
    scene = restarted(
        (
            RestoredWorker(1, 9, "ready", "", 0.0),
            RestoredWorker(2, 1, "unheard of", "", 0.0),
            RestoredWorker(3, 1, "gone", "", 0.0),
        ),
        (RestoredReservation(7, 9, 100.0, 0, confirmed=False),),
    )
    assert scene.engine.state.workers == {}
    assert scene.engine.state.reservations == {}


# ------------------------------------------------------------------------------------------------------------ questions


def test_why_a_waiter_waits_is_a_code_and_a_sentence() -> None:
    scene = Scene(max_workers=1, target_queue_time=1000.0)
    assert explain.blocker(scene.engine, 1) == (Blocker.NONE, "")
    scene.ask(1)
    assert explain.blocker(scene.engine, 1) == (Blocker.COMING_UP, "1 worker is coming up for 1 waiting")
    scene.up(1)
    assert explain.blocker(scene.engine, 1) == (Blocker.UNCONFIRMED, "worker 1 has not confirmed its grant yet")
    scene.takes(1, 1)
    assert explain.blocker(scene.engine, 1) == (Blocker.NONE, "")
    scene.ask(2)
    assert explain.blocker(scene.engine, 2) == (Blocker.AT_CAP, "1 worker is held, and max_workers is 1")
    scene.put(max_workers=5)
    reason = "it waits for less than target_queue_time 1000 s"
    assert explain.blocker(scene.engine, 2) == (Blocker.IN_TIME, reason)
    scene.put(state=EndpointState.SUSPENDED)
    reason = "the endpoint is suspended: no worker is created"
    assert explain.blocker(scene.engine, 2) == (Blocker.ENDPOINT_SUSPENDED, reason)
    scene.put(state=EndpointState.STOPPED)
    assert explain.blocker(scene.engine, 2) == (Blocker.ENDPOINT_STOPPED, "the endpoint is stopped")


@pytest.mark.promise("P6")
def test_a_restart_gives_up_all_creations_that_are_not_confirmed_if_there_are_more_than_the_cap() -> None:
    """It was lowered; or one had come to nothing, which was not written down when the newest was ordered. Which of them
    are there is not known, and to order one again may make it beside all that the cap allows.
    """
    ready, going = RestoredWorker(1, 1, "ready", "http://w1", 100.0), RestoredWorker(2, 1, "destroying", "", 100.0)
    asked = (RestoredWorker(number, 1, "asked", "", 0.0) for number in (3, 4, 5))
    scene = restarted((ready, going, *asked), max_workers=3)
    assert of(scene.commands, commands.Create) == []
    assert [command.worker_id for command in of(scene.commands, commands.Destroy)] == [2, 3, 4, 5]


def test_a_restart_orders_creations_again_if_there_are_no_more_than_the_cap() -> None:
    asked = (RestoredWorker(number, 1, "asked", "", 0.0) for number in (3, 4))
    scene = restarted((RestoredWorker(1, 1, "ready", "http://w1", 100.0), *asked), max_workers=3)
    assert [command.worker_id for command in of(scene.commands, commands.Create)] == [3, 4]
    assert of(scene.commands, commands.Destroy) == []


@pytest.mark.promise("P1")
def test_a_client_is_not_sent_to_a_worker_that_lists_another_session_and_not_its_own() -> None:
    """Its session had ended before the restart. Reports without a number do not end it for a while; then it waits."""
    ended = RestoredReservation(7, 1, 100.0, 1, confirmed=True, sent=False)
    granted = RestoredReservation(8, 1, 100.0, 1, confirmed=False, sent=True)
    scene = restarted((RestoredWorker(1, 1, "held", "http://w1", 100.0),), (ended, granted), max_workers=1)
    scene.report(1, 8, received=3, loadtime_s=6.0)
    scene.pass_time(limits.RESEND_S + 1)
    assert of(scene.ask(7), commands.Grant) == []
    scene.report(1, 8, received=3, loadtime_s=6.0)
    scene.report(1, 8, received=3, loadtime_s=6.0)
    assert scene.engine.state.reservations[7].stage is Stage.WAITING
    assert scene.engine.state.reservations[8].stage is Stage.SESSION
