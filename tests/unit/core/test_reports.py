"""Reports may be lost, repeated, late or out of order: the state converges with the next one, never backwards."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.core import commands, events, limits, recovery
from nullworker.core.causes import Cause
from nullworker.core.events import Finished, WorkerReported
from nullworker.core.reconcile.deliveries import FinishLog
from nullworker.core.reconcile.report_order import ReportAge, ReportOrder
from nullworker.core.reconcile.trust import Listening
from nullworker.core.reservation import Stage
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, kinds, of

if TYPE_CHECKING:
    from collections.abc import Callable


def stage(scene: Scene, request_idx: int) -> Stage:
    return scene.engine.state.reservations[request_idx].stage


def ordered() -> tuple[ReportOrder, Listening, Callable[..., ReportAge]]:
    """What is known of one worker's reports, and what a further one is worth: its time, what it lists, its fields."""
    order, listening = ReportOrder(), Listening()

    def age(now: float, *listed: int, serves: bool = False, **said: Any) -> ReportAge:
        return order.classify(
            WorkerReported(1, "", True, "", 100.0, 0.0, listed, **said), now, listening, 0.0, serves=serves
        )

    return order, listening, age


def test_a_worker_that_reports_before_it_is_ready_is_loading() -> None:
    scene = Scene()
    scene.ask(1)
    scene.report(1, ready=False, perf=0.0)
    assert scene.state(1) is WorkerState.LOADING
    scene.report(1)
    assert scene.state(1) is WorkerState.HELD


def test_a_report_may_come_before_the_fleets_answer() -> None:
    scene = Scene()
    scene.ask(1)
    scene.report(1)
    assert scene.created(1) == []
    assert scene.state(1) is WorkerState.HELD


def test_a_report_that_lists_the_session_confirms_the_grant() -> None:
    scene = Scene()
    scene.serve(1)
    assert stage(scene, 1) is Stage.SESSION


def test_a_report_that_does_not_list_a_grant_does_not_refute_it() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.report(1)
    assert stage(scene, 1) is Stage.GRANTED


@pytest.mark.promise("P10")
def test_a_session_that_is_listed_no_longer_has_ended_even_if_its_end_was_never_told() -> None:
    scene = Scene()
    scene.serve(1)
    assert kinds(scene.report(1)) == ["session_ended"]
    assert scene.state(1) is WorkerState.READY


@pytest.mark.promise("P10")
def test_a_repeated_end_counts_once() -> None:
    scene = Scene()
    scene.serve(1)
    assert kinds(scene.finishes(1, 1, entered_at=5.0)) == ["session_ended"]
    assert scene.finishes(1, 1, entered_at=5.0) == []


@pytest.mark.promise("P10")
def test_a_report_older_than_one_before_changes_nothing() -> None:
    scene = Scene()
    scene.serve(1)
    assert scene.report(1, received=0) == []
    assert stage(scene, 1) is Stage.SESSION


@pytest.mark.promise("P10")
def test_by_its_sequence_a_report_is_late_whatever_it_counted() -> None:
    scene = Scene()
    scene.ask(1)
    scene.created(1)
    scene.report(1, seq=5)
    scene.report(1, 1, seq=7)
    assert scene.report(1, seq=6) == []
    assert scene.report(1, seq=7) == []
    assert stage(scene, 1) is Stage.SESSION


@pytest.mark.promise("P10")
def test_a_straggler_that_lists_what_was_finished_does_not_bring_it_back() -> None:
    scene = Scene()
    scene.serve(1)
    scene.finishes(1, 1)
    assert kinds(scene.report(1, 1)) == []
    assert scene.worker(1).trust.may_hold_unknown
    assert scene.worker(1).held == {}
    scene.report(1)
    assert not scene.worker(1).trust.unresponsive


@pytest.mark.promise("P2")
def test_a_worker_that_goes_on_listing_a_finished_request_holds_it_again() -> None:
    scene = Scene()
    scene.serve(1)
    scene.finishes(1, 1)
    for _ in range(14):
        scene.report(1, 1)
        scene.pass_time(limits.REPORT_PERIOD_S / 2)
    assert stage(scene, 1) is Stage.SESSION
    assert of(scene.commands, commands.Destroy) == []


@pytest.mark.promise("P10")
def test_three_late_reports_and_nothing_fresh_for_a_period_mean_a_new_process() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, 7, received=9)
    for _ in range(2):
        scene.pass_time(limits.LATE_REPORTS_S / 2)
        assert scene.report(1, received=1) == []
    assert "worker_counts_anew" in kinds(scene.report(1, received=1))
    assert scene.state(1) is WorkerState.READY


def test_late_reports_before_a_fresh_one_do_not_count() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, 7, received=9)
    for _ in range(limits.LATE_REPORTS_MAX - 1):
        assert scene.report(1, received=1) == []
    scene.report(1, 7, received=9)
    scene.pass_time(limits.LATE_REPORTS_S)
    assert scene.report(1, received=1) == []
    assert scene.state(1) is WorkerState.HELD


@pytest.mark.promise("P10")
def test_a_report_of_the_process_before_is_known_by_its_loading_time() -> None:
    scene = Scene(cold_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.report(1, 1, received=9, loadtime_s=0.5)
    scene.finishes(1, 1)
    scene.report(1, received=9, loadtime_s=0.5)
    scene.pass_time(10)
    scene.send(events.InstanceStopped(1))
    scene.ask(2)
    scene.send(events.InstanceStarted(1))
    assert scene.report(1, received=9, loadtime_s=0.5) == []
    assert len(of(scene.report(1, received=0, loadtime_s=0.75), commands.Grant)) == 1
    scene.report(1, 2, received=1, loadtime_s=0.75)
    assert scene.report(1, received=9, loadtime_s=0.5) == []
    assert stage(scene, 2) is Stage.SESSION


@pytest.mark.promise("P10")
def test_a_process_that_was_restarted_by_itself_counts_from_zero_at_once() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, 7, received=9, loadtime_s=0.5)
    scene.pass_time(limits.RESEND_S)  # nothing of a process before that one can come any more
    assert "session_ended" in kinds(scene.report(1, received=0, loadtime_s=0.75))
    assert scene.report(1, 7, received=9, loadtime_s=0.5) == []
    assert scene.state(1) is WorkerState.READY


@pytest.mark.promise("P1")
def test_an_old_report_confirms_no_new_grant_of_the_same_worker() -> None:
    """The framework's reports have no number; one that lists an ended session is told by the count of requests."""
    scene = Scene(min_load=100.0)
    scene.serve(1)
    scene.report(1, 1, received=1)
    scene.ask(1)
    scene.finishes(1, 1)
    scene.report(1, received=1)
    scene.ask(1)
    scene.report(1, 1, received=1)
    assert stage(scene, 1) is Stage.GRANTED
    scene.report(1, 1, received=2)
    assert stage(scene, 1) is Stage.SESSION


@pytest.mark.promise("P10")
def test_three_stragglers_at_once_are_stragglers() -> None:
    scene = Scene()
    scene.serve(1)
    scene.report(1, 1, received=9)
    for received in (2, 3, 4):
        assert scene.report(1, received=received) == []
    assert stage(scene, 1) is Stage.SESSION


def test_a_session_that_our_tables_do_not_have_is_adopted_with_its_share_of_the_load() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    decided = scene.report(1, 41, load=80.0)
    assert kinds(decided) == ["session_adopted"]
    assert scene.engine.state.reservations[41].cost == 80.0
    assert scene.state(1) is WorkerState.HELD


def test_a_session_of_one_that_waits_again_is_its_own_and_answers_its_call() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.pass_time(10)
    scene.ask(1)
    scene.ask(1)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    assert stage(scene, 1) is Stage.WAITING
    (grant,) = of(scene.takes(1, 1), commands.Grant)
    assert (grant.request_idx, grant.worker_id) == (1, 1)
    assert stage(scene, 1) is Stage.SESSION


@pytest.mark.promise("P1")
def test_a_session_kept_for_a_poll_moves_to_the_worker_that_really_has_it() -> None:
    scene = Scene(min_load=200.0)
    scene.ask(1)
    scene.hold_ends(1)
    scene.up(1)
    granted_at = scene.now
    scene.pass_time(1)
    scene.up(2)
    reservation = scene.engine.state.reservations[1]
    assert reservation.worker_id == 1
    scene.takes(2, 1)
    assert (reservation.worker_id, reservation.granted_at) == (2, granted_at)
    assert scene.state(1) is WorkerState.READY


@pytest.mark.promise("P1")
def test_a_second_session_of_one_request_keeps_its_worker_and_answers_for_nothing() -> None:
    scene = Scene(min_load=200.0)
    scene.up(1, 2)
    scene.ask(1)
    first = of(scene.commands, commands.Grant)[0].worker_id
    other = 3 - first
    scene.takes(first, 1)
    assert kinds(scene.takes(other, 1)) == ["session_adopted"]
    assert scene.engine.state.reservations[1].worker_id == first
    assert scene.state(other) is WorkerState.HELD
    scene.report(other)
    assert scene.state(other) is WorkerState.READY
    assert stage(scene, 1) is Stage.SESSION


def test_a_refusal_while_it_holds_others_teaches_how_many_a_worker_takes() -> None:
    scene = Scene(max_queue_time=30.0, min_load=0.0)
    scene.workergroup(1, occupancy=None)
    scene.ask(1)
    scene.up(1)
    scene.takes(1, 1)
    scene.ask(2)
    assert [g.worker_id for g in of(scene.commands, commands.Grant)] == [1, 1]
    scene.finishes(1, 2, "Rejected")
    assert scene.worker(1).occupancy == 1
    assert stage(scene, 2) is Stage.WAITING
    scene.finishes(1, 1)
    assert scene.worker(1).occupancy == 1


def test_a_session_beyond_what_a_worker_was_known_to_take_teaches_that_it_takes_more() -> None:
    scene = Scene()
    scene.serve(1)
    scene.counts[1] = 2
    assert scene.worker(1).occupancy_known == 1
    scene.report(1, 1, 2)
    assert scene.worker(1).occupancy_known == 2
    scene.finishes(1, 1)
    scene.finishes(1, 2)
    assert scene.state(1) is WorkerState.READY


def test_a_worker_that_refuses_while_it_seems_free_is_asked_what_it_holds() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.finishes(1, 1, "Rejected")
    assert scene.worker(1).trust.may_hold_unknown
    assert scene.worker(1).worker_id not in scene.engine.state.endpoints[1].free
    scene.takes(1, 77)
    assert scene.state(1) is WorkerState.HELD


def test_a_worker_that_refuses_three_times_while_it_holds_nothing_is_replaced() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    for attempt in range(limits.REFUSALS_MAX):
        scene.finishes(1, 1, "Rejected", entered_at=float(attempt + 1))
        scene.ask(1)
        scene.report(1)
    failure = scene.worker(1).failure
    assert failure is not None
    assert failure.cause is Cause.FAILED_REFUSALS
    assert scene.state(1) is WorkerState.ERROR
    scene.clears_doubt(1)
    assert scene.state(1) is WorkerState.DESTROYING


def test_the_second_refusal_of_a_request_that_became_a_session_leaves_that_session_alone() -> None:
    scene = Scene()
    scene.serve(1)
    scene.finishes(1, 1, "Rejected")
    assert 1 not in scene.engine.state.reservations
    assert scene.state(1) is WorkerState.HELD
    scene.ask(1)
    assert stage(scene, 1) is Stage.WAITING
    scene.report(1)
    assert scene.state(1) is WorkerState.READY or stage(scene, 1) is Stage.GRANTED


def test_an_attempt_that_came_to_nothing_lets_the_client_that_asks_again_wait_on() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.ask(1)
    scene.ask(1)
    scene.finishes(1, 1, "Cancelled")
    assert stage(scene, 1) is Stage.GRANTED  # the same worker is free, and it is first


def test_an_attempt_that_came_to_nothing_ends_a_grant_whose_client_does_not_ask_again() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.finishes(1, 1, "Cancelled")
    assert scene.engine.state.reservations == {}


def test_a_session_shorter_than_the_time_between_two_reports_is_known_by_its_end() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    assert kinds(scene.finishes(1, 1)) == ["session_ended"]
    assert scene.state(1) is WorkerState.READY
    assert scene.worker(1).proven


def test_a_held_worker_whose_process_was_restarted_holds_nothing() -> None:
    scene = Scene()
    scene.serve(1)
    scene.report(1, ready=False)
    assert scene.state(1) is WorkerState.LOADING
    assert 1 not in scene.engine.state.reservations


def test_an_error_of_a_held_worker_lets_its_session_run_on_and_it_goes_afterwards() -> None:
    scene = Scene()
    scene.serve(1)
    scene.report(1, 1, error="the health check failed")
    assert scene.state(1) is WorkerState.ERROR
    assert of(scene.commands, commands.Destroy) == []
    decided = scene.finishes(1, 1)
    assert [d.worker_id for d in of(decided, commands.Destroy)] == [1]


def test_an_error_of_a_worker_that_was_kept_for_a_poll_frees_the_waiter_at_once() -> None:
    scene = Scene()
    scene.ask(1)
    scene.hold_ends(1)
    scene.up(1)
    scene.report(1, error="it broke")
    assert stage(scene, 1) is Stage.WAITING
    assert scene.state(1) is WorkerState.DESTROYING


@pytest.mark.parametrize("perf", [math.nan, math.inf, -5.0, 0.0])
@pytest.mark.promise("P15")
def test_a_perf_that_is_no_amount_is_passed_over(perf: float) -> None:
    scene = Scene()
    scene.ask(1)
    scene.report(1, perf=perf)
    assert scene.worker(1).perf_expected == 100.0


@pytest.mark.promise("P15")
def test_a_load_that_is_no_amount_adopts_a_session_at_no_cost() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, 9, load=math.nan)
    assert scene.engine.state.reservations[9].cost == 0.0


@pytest.mark.promise("P15")
def test_a_report_for_a_worker_that_is_not_there_changes_nothing() -> None:
    scene = Scene()
    assert scene.report(99, 1) == []
    assert scene.finishes(99, 1) == []


def test_what_a_stopping_worker_says_is_not_heard() -> None:
    scene = Scene(cold_workers=1, min_load=0.0)
    scene.up(1)
    scene.pass_time(30)
    assert scene.state(1) is WorkerState.STOPPING
    assert scene.report(1, 5) == []
    assert scene.worker(1).held == {}


def test_finished_requests_are_remembered_for_so_long() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    for idx in range(10):
        scene.finishes(1, idx, entered_at=float(idx))
    finishes = scene.worker(1).finishes
    assert len(finishes.finished_at) == len(finishes.seen_attempts) == 10
    scene.live(limits.FINISHED_MEMORY_S + 10.0)
    scene.finishes(1, 5000)
    assert len(finishes.finished_at) == len(finishes.seen_attempts) == 1


def _ends(log: FinishLog, count: int, rate_hz: float) -> None:
    for idx in range(count):
        at = idx / rate_hz
        assert log.new_finishes([events.Finished(idx, "Success", at)], at)
        log.remember_finished(idx, at)


def test_a_worker_that_ends_two_hundred_jobs_a_second_is_remembered_all_that_time() -> None:
    log = FinishLog()
    _ends(log, 40_000, rate_hz=200.0)  # 200 s
    over = 40_000 - int(limits.FINISHED_MEMORY_S * 200.0)
    assert set(range(over + 1, 40_000)) <= set(log.finished_at)
    assert not log.new_finishes([events.Finished(over + 1, "Success", (over + 1) / 200.0)], 200.0), "told before"
    assert min(log.finished_at) >= over - limits.FINISHED_MEMORY_S / 4 * 200.0, "and not much longer"


def test_nor_are_more_remembered_than_there_may_be() -> None:
    log = FinishLog()
    _ends(log, limits.FINISHED_MEMORY + 10, rate_hz=100_000.0)
    assert limits.FINISHED_MEMORY // 2 < len(log.finished_at) <= limits.FINISHED_MEMORY
    assert len(log.seen_attempts) <= limits.FINISHED_MEMORY
    assert limits.FINISHED_MEMORY + 9 in log.finished_at


def test_only_so_many_ends_are_waited_for() -> None:
    log = FinishLog()
    for request_idx in range(limits.ENDS_EXPECTED_MAX + 1):
        log.expect(request_idx)
    assert list(log.pending) == list(range(1, limits.ENDS_EXPECTED_MAX + 1))


def test_heartbeats_of_a_worker_that_is_trusted_do_not_prolong_its_idle_time() -> None:
    scene = Scene()
    scene.serve(1)
    scene.finishes(1, 1)
    scene.report(1, seq=1)
    assert scene.state(1) is WorkerState.READY
    free_since = scene.worker(1).free_since
    scene.pass_time(5)
    scene.report(1)
    assert scene.worker(1).free_since == free_since


def test_refusals_with_a_session_between_them_are_not_in_a_row() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    for attempt in range(limits.REFUSALS_MAX - 1):
        scene.finishes(1, 1, "Rejected", entered_at=float(attempt + 1))
        scene.ask(1)
        scene.report(1)
    scene.clears_doubt(1)
    seq = scene.worker(1).report_order.seq
    scene.report(1, 1, seq=seq + 1, received=9)
    scene.finishes(1, 1)
    scene.report(1, seq=seq + 2, received=9)
    scene.ask(2)
    scene.finishes(1, 2, "Rejected")
    assert scene.worker(1).failure is None


@pytest.mark.promise("P10")
def test_the_first_report_of_a_process_that_was_over_while_the_engine_was_away_ends_no_session() -> None:
    """Its loading time is not known, nor is that of the process after it before that speaks."""
    _, listening, age = ordered()
    listening.since = 100.0
    serving = functools.partial(age, serves=True)
    assert age(105.0, received=0, loadtime_s=16.25) is ReportAge.FRESH
    assert serving(106.0, 11, received=1, loadtime_s=16.25) is ReportAge.FRESH
    assert serving(110.0, received=0, loadtime_s=13.25) is ReportAge.UNPLACED
    assert serving(110.5, received=0, loadtime_s=13.25) is ReportAge.UNPLACED  # the same, twice
    assert serving(111.0, 11, received=1, loadtime_s=16.25) is ReportAge.FRESH
    assert serving(115.0, received=0, loadtime_s=13.25) is ReportAge.UNPLACED


def test_a_process_of_which_two_reports_come_is_a_new_one_soon_after_a_restart_too() -> None:
    _, listening, age = ordered()
    listening.since = 100.0
    assert age(105.0, received=1, loadtime_s=16.25) is ReportAge.FRESH
    assert age(110.0, received=0, loadtime_s=13.25, serves=True) is ReportAge.UNPLACED
    assert age(110.0 + limits.REPORT_LOOK_S, received=0, loadtime_s=13.25, serves=True) is ReportAge.NEW_PROCESS
    assert age(120.0, received=1, loadtime_s=16.25, serves=True) is ReportAge.LATE


def test_a_worker_that_does_not_serve_is_believed_at_once() -> None:
    """It has no session that could be ended, and is waited for."""
    _, listening, age = ordered()
    listening.since = 100.0
    assert age(105.0, received=1, loadtime_s=16.25) is ReportAge.FRESH
    assert age(110.0, received=0, loadtime_s=13.25) is ReportAge.NEW_PROCESS


@pytest.mark.promise("P2")
def test_the_first_report_of_a_process_that_was_over_before_the_next_one_spoke_ends_no_session() -> None:
    """A worker that crashes twice in a row: what the process in between said may be under way for a while."""
    _, _, age = ordered()
    serving = functools.partial(age, serves=True)
    assert serving(100.0, received=3, loadtime_s=31.25) is ReportAge.FRESH
    assert age(150.0, received=0, loadtime_s=36.25) is ReportAge.NEW_PROCESS
    assert serving(151.0, 48, received=1, loadtime_s=36.25) is ReportAge.FRESH
    assert serving(152.0, received=0, loadtime_s=34.25) is ReportAge.UNPLACED
    assert serving(161.0, 48, received=1, loadtime_s=36.25) is ReportAge.FRESH


@pytest.mark.parametrize(("ready", "loadtime_s"), [(False, 0.0), (True, 0.75)])
def test_a_report_that_may_be_of_a_new_process_says_that_the_worker_lives(ready: bool, loadtime_s: float) -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, received=9, loadtime_s=0.5)
    scene.pass_time(limits.UNRESPONSIVE_AFTER_S)
    scene.report(1, ready=ready, received=0, loadtime_s=loadtime_s)  # it may also be of one that was over long before
    assert scene.worker(1).report_order.loadtime_s == 0.5
    assert scene.worker(1).trust.unresponsive  # what it holds is not known
    assert of(scene.pass_time(limits.SILENCE_FAILS_S - limits.REPORT_LOOK_S), commands.Destroy) == []
    assert [each.worker_id for each in of(scene.pass_time(limits.REPORT_LOOK_S), commands.Destroy)] == [1]


@pytest.mark.parametrize("loadtime_s", [0.5, 0.25])
def test_a_report_of_before_is_no_sign_that_the_worker_lives(loadtime_s: float) -> None:
    """It counts less than one of the same process that came, or its process is over."""
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, received=9, loadtime_s=0.25)
    scene.pass_time(limits.REPORT_PERIOD_S)
    for _ in range(2):
        scene.report(1, received=9, loadtime_s=0.5)
        scene.pass_time(limits.REPORT_LOOK_S)
    assert scene.worker(1).report_order.loadtimes_before == (0.25,)
    scene.pass_time(limits.UNRESPONSIVE_AFTER_S)
    scene.report(1, received=1, loadtime_s=loadtime_s)
    decided = scene.pass_time(limits.SILENCE_FAILS_S - limits.UNRESPONSIVE_AFTER_S)
    assert [each.worker_id for each in of(decided, commands.Destroy)] == [1]


def test_long_after_the_process_before_spoke_first_a_new_one_is_believed_at_once() -> None:
    _, _, age = ordered()
    assert age(100.0, received=1, loadtime_s=16.25, serves=True) is ReportAge.FRESH
    assert age(100.0 + limits.RESEND_S, received=0, loadtime_s=13.25, serves=True) is ReportAge.NEW_PROCESS


def test_a_heartbeat_of_an_earlier_process_is_late_after_a_restart_of_the_engine_too() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, received=9, loadtime_s=0.5)
    scene.report(1, received=0, loadtime_s=0.75)
    scene.pass_time(limits.REPORT_LOOK_S)
    scene.report(1, received=0, loadtime_s=0.75)
    record = recovery.worker_record(scene.engine.state, 1)
    assert record is not None
    assert record.loadtimes_s == (0.75, 0.5)
    after = Scene(min_load=100.0, begun=False)
    after.send(events.Restored(2, (record,)))
    assert after.report(1, received=9, loadtime_s=0.5) == []
    assert after.worker(1).trust.awaiting_report
    after.report(1, received=0, loadtime_s=0.75)
    assert not after.worker(1).trust.awaiting_report


@pytest.mark.promise("P1")
def test_a_session_that_ends_while_its_client_is_on_its_way_again_is_a_grant_and_serves_no_other() -> None:
    scene = Scene(max_workers=1)
    scene.serve(1)
    scene.ask(2)
    scene.pass_time(5)
    scene.ask(1)  # it never heard the worker's answer, and is sent there again
    scene.report(1)
    assert stage(scene, 1) is Stage.GRANTED
    assert stage(scene, 2) is Stage.WAITING
    scene.takes(1, 1)
    assert stage(scene, 1) is Stage.SESSION


@pytest.mark.promise("P2")
def test_the_end_of_an_earlier_session_does_not_end_the_later_one_of_the_same_request() -> None:
    scene = Scene()
    scene.serve(1)
    scene.pass_time(5)
    scene.ask(1)
    scene.takes(1, 1)  # the first session has run out, and the client has opened another
    scene.pass_time(20)
    scene.finishes(1, 1, entered_at=1.0)
    assert stage(scene, 1) is Stage.SESSION
    scene.report(1)
    assert scene.state(1) is WorkerState.READY


@pytest.mark.promise("P2")
def test_an_end_that_comes_after_the_request_was_granted_again_is_that_of_the_session_before() -> None:
    scene = Scene()
    scene.serve(1)
    scene.report(1)  # the session is over; its end is not told yet
    scene.ask(1)
    assert stage(scene, 1) is Stage.GRANTED
    scene.finishes(1, 1)
    assert stage(scene, 1) is Stage.GRANTED


@pytest.mark.promise("P2")
def test_what_became_of_earlier_attempts_says_nothing_of_the_session_that_the_third_one_opened() -> None:
    scene = Scene()
    scene.serve(1)
    for _ in range(2):  # the worker's answer is lost; it refuses the second attempt
        scene.pass_time(5)
        scene.ask(1)
    scene.report(1)  # the first session has run out
    assert stage(scene, 1) is Stage.GRANTED
    scene.takes(1, 1)
    scene.finishes(1, 1, "Rejected", entered_at=5.0)
    scene.finishes(1, 1, entered_at=1.0)
    assert stage(scene, 1) is Stage.SESSION
    assert scene.state(1) is WorkerState.HELD


@pytest.mark.promise("P2")
def test_a_session_that_the_second_of_three_answers_led_to_leaves_the_third_open() -> None:
    scene = Scene(inactivity_timeout=1.0)
    scene.serve(1)
    for _ in range(2):
        scene.pass_time(5)
        scene.ask(1)
    scene.report(1)  # the first session is over
    scene.takes(1, 1)
    scene.finishes(1, 1)
    scene.report(1)
    assert stage(scene, 1) is Stage.GRANTED
    assert scene.pass_time(5) == []
    scene.takes(1, 1)
    assert stage(scene, 1) is Stage.SESSION


@pytest.mark.promise("P1")
def test_a_report_from_before_a_refusal_frees_no_worker() -> None:
    """The framework's reports have no number; what it refused it has received, and says so in any later report."""
    scene = Scene(min_load=100.0, max_workers=1)
    scene.up(1)
    scene.ask(1)
    scene.finishes(1, 1, "Rejected")
    assert scene.report(1, received=0) == []
    assert scene.worker(1).trust.unresponsive
    scene.report(1, 7, received=1)
    assert stage(scene, 1) is Stage.WAITING


def test_only_what_one_report_lists_is_held_at_a_time() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, 7)  # maybe a late one; the engine does not know of it
    scene.ask(1)
    scene.finishes(1, 1)
    assert scene.worker(1).occupancy_known == 1
    scene.report(1, 7, 8)
    assert scene.worker(1).occupancy_known == 2


# ------------------------------------------------------------------ the framework's heartbeats of a worker that numbers


def test_old_heartbeats_of_a_worker_that_numbers_do_not_clear_what_it_may_hold() -> None:
    """They have no number, and may be 40 s old: it was ended for one that came twice, while a client was on its way."""
    scene = Scene(inactivity_timeout=1.0)
    scene.ask(1)
    scene.up(1)
    scene.report(1, seq=1)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)  # the grant has expired: it may be in use all the same
    assert scene.worker(1).trust.may_hold_unknown
    assert scene.report(1) == []
    assert scene.report(1) == []
    assert scene.pass_time(5.0) == []
    assert scene.worker(1).trust.may_hold_unknown
    assert scene.worker(1).trust.unresponsive
    assert scene.state(1) is WorkerState.READY


def test_a_heartbeat_that_was_made_after_all_that_may_have_begun_tells_that_nothing_has() -> None:
    scene = Scene(min_load=100.0)
    scene.ask(1)
    scene.up(1)
    scene.report(1, seq=1)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    for _ in range(4):
        scene.pass_time(limits.REPORT_PERIOD_S)
        scene.report(1)
    assert not scene.worker(1).trust.may_hold_unknown
    assert not scene.worker(1).trust.unresponsive


def test_what_a_heartbeat_of_a_worker_that_numbers_lists_is_not_used() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, seq=1)
    assert scene.report(1, 77) == []
    assert scene.worker(1).held == {}
    scene.ask(1)
    scene.report(1, 1, seq=2)
    assert stage(scene, 1) is Stage.SESSION
    scene.report(1)
    assert stage(scene, 1) is Stage.SESSION, "a session does not end because an old heartbeat does not list it"


def test_the_end_of_a_session_that_a_heartbeat_alone_listed_frees_its_worker() -> None:
    """It stayed held until the next report, and a second worker was created for the next client."""
    scene = Scene(max_workers=2)
    scene.ask(1)
    scene.up(1)
    scene.report(1, seq=1)
    scene.report(1, 1, received=1)
    assert stage(scene, 1) is Stage.SESSION
    scene.finishes(1, 1)
    assert scene.state(1) is WorkerState.READY
    assert [type(command).__name__ for command in scene.ask(2)] == ["Grant"]


def test_heartbeats_alone_keep_a_worker_that_numbers_alive() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, seq=1)
    for _ in range(20):
        scene.pass_time(limits.REPORT_PERIOD_S)
        scene.report(1)
    assert scene.state(1) is WorkerState.READY
    assert not scene.worker(1).trust.unresponsive


def test_a_heartbeat_without_a_number_corrects_a_numbered_report_once_it_must_be_newer() -> None:
    """A late numbered report after a restart lists a session that has ended. Nothing changes on the worker after that,
    so no further numbered report comes: the framework's heartbeats tell, once they cannot be older than that report.
    """
    _, listening, age = ordered()
    assert age(100.0, received=3, seq=7, loadtime_s=2.0) is ReportAge.FRESH
    assert age(110.0, received=3, loadtime_s=2.0) is ReportAge.SIGN_OF_LIFE
    assert age(100.0 + limits.RESEND_S, received=3, loadtime_s=2.0) is ReportAge.FRESH
    listening.absent(200.0)
    assert (
        age(210.0, received=3, loadtime_s=2.0) is ReportAge.SIGN_OF_LIFE
    )  # time in which nothing was heard proves nothing


def test_a_numbered_report_that_a_heartbeat_overtook_is_late() -> None:
    *_, age = ordered()
    assert age(0.0, received=0, seq=1) is ReportAge.FRESH
    assert age(50.0, received=1, loadtime_s=2.0) is ReportAge.FRESH
    assert age(51.0, received=0, seq=2, loadtime_s=2.0) is ReportAge.LATE
    assert age(52.0, received=1, seq=3, loadtime_s=2.0) is ReportAge.FRESH
    assert age(53.0, received=0, seq=4, loadtime_s=0.0) is ReportAge.FRESH  # another process, which counts from 0


@pytest.mark.promise("P10")
def test_a_numbered_report_that_counts_less_than_a_heartbeat_of_its_process_is_late() -> None:
    """A heartbeat lists a session; a numbered report from before that session, long under way, ended it."""
    scene = Scene(max_workers=2)
    scene.ask(1)
    scene.up(1)
    scene.report(1, seq=1, loadtime_s=2.0)
    scene.report(1, 1, received=1, loadtime_s=2.0)
    assert scene.report(1, received=0, seq=2, loadtime_s=2.0) == []
    assert stage(scene, 1) is Stage.SESSION
    assert scene.report(1, 1, seq=3, received=1, loadtime_s=2.0) == []
    assert scene.worker(1).report_order.late_reports == 0


def test_what_a_heartbeat_of_another_process_counts_says_nothing_of_this_one() -> None:
    *_, age = ordered()
    assert age(100.0, received=0, seq=1, loadtime_s=2.0) is ReportAge.FRESH
    for other_loadtime_s in (0.0, 1.0):  # while it loads it has none
        assert age(101.0, received=9, loadtime_s=other_loadtime_s) is ReportAge.SIGN_OF_LIFE
    assert age(102.0, received=1, seq=2, loadtime_s=2.0) is ReportAge.FRESH
    assert age(103.0, received=0, loadtime_s=2.0) is ReportAge.SIGN_OF_LIFE  # an old one: the count does not fall
    assert age(104.0, received=0, seq=3, loadtime_s=2.0) is ReportAge.LATE


@pytest.mark.promise("P10")
def test_of_two_reports_of_one_count_the_one_that_lists_more_is_the_older() -> None:
    """Nothing is added to what a process works on without a further request: a session came back that was over."""
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, received=2, loadtime_s=2.0)
    assert scene.report(1, 7, received=2, loadtime_s=2.0) == []
    assert scene.worker(1).held == {}
    scene.report(1, 7, 8, received=4, loadtime_s=2.0)
    assert list(scene.worker(1).held) == [7, 8]
    scene.report(1, 8, received=4, loadtime_s=2.0)
    assert scene.report(1, 7, 8, received=4, loadtime_s=2.0) == []
    assert list(scene.worker(1).held) == [8]


def test_heartbeats_of_a_process_that_is_over_are_no_sign_of_life_and_are_believed_when_nothing_else_comes() -> None:
    """A worker was stopped and started, and went on as the same process: it was ended for not becoming ready."""
    order, _, age = ordered()
    assert age(0.0, received=3, seq=1, loadtime_s=2.0) is ReportAge.FRESH
    order.new_process()
    assert age(11.0, received=3, loadtime_s=2.0) is ReportAge.LATE
    assert age(22.0, received=3, loadtime_s=2.0) is ReportAge.LATE
    assert age(33.0, received=3, loadtime_s=2.0) is ReportAge.COUNTS_FROM_ZERO


def test_a_numbered_report_that_lists_more_than_a_heartbeat_of_the_same_count_is_late() -> None:
    *_, age = ordered()
    assert age(0.0, 7, received=1, seq=1, loadtime_s=2.0) is ReportAge.FRESH
    assert age(50.0, received=1, loadtime_s=2.0) is ReportAge.FRESH
    assert age(51.0, 7, received=1, seq=2, loadtime_s=2.0) is ReportAge.LATE
    assert age(52.0, 7, received=2, seq=3, loadtime_s=2.0) is ReportAge.FRESH  # a further one of the same request


def test_a_worker_that_does_not_count_its_requests_is_believed() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.report(1, received=0, loadtime_s=2.0)
    scene.report(1, 7, received=0, loadtime_s=2.0)
    assert list(scene.worker(1).held) == [7]
    assert kinds(scene.report(1, received=0, loadtime_s=2.0)) == ["session_ended"]


def test_what_is_known_to_be_received_by_ends_alone_does_not_say_what_is_listed() -> None:
    order, _, age = ordered()
    assert age(0.0, received=1, loadtime_s=2.0) is ReportAge.FRESH
    order.has_received(2)
    assert age(1.0, 7, received=2, loadtime_s=2.0) is ReportAge.FRESH
    assert age(2.0, 7, 8, received=2, loadtime_s=2.0) is ReportAge.LATE
    assert age(3.0, received=1, loadtime_s=2.0) is ReportAge.LATE
    assert age(4.0, 8, received=0, loadtime_s=4.0) is ReportAge.NEW_PROCESS  # it counts from 0, and lists what it will


def test_a_numbered_report_made_while_its_process_loaded_is_late_after_one_without_a_number() -> None:
    """Of a process that has spoken without numbers alone, what it said while it loaded may still be under way."""
    order, _, age = ordered()
    assert age(0.0, received=3, seq=1, loadtime_s=2.0) is ReportAge.FRESH
    order.new_process()  # it was stopped, and started again
    assert age(50.0, received=0, loadtime_s=4.0) is ReportAge.FRESH
    assert age(51.0, received=1, loadtime_s=4.0) is ReportAge.FRESH
    assert age(52.0, received=0, seq=1001) is ReportAge.LATE
    assert age(53.0, received=3, seq=2, loadtime_s=2.0) is ReportAge.LATE  # the process before
    assert age(54.0, received=1, seq=1005, loadtime_s=4.0) is ReportAge.FRESH
    assert age(55.0, received=0, seq=2001) is ReportAge.FRESH  # numbers told of the last one: this is a further one
    assert age(56.0, received=0, seq=2002, loadtime_s=6.0) is ReportAge.NEW_PROCESS


def test_a_process_that_numbers_is_told_from_the_one_before_by_numbers_first() -> None:
    order, _, age = ordered()
    assert age(0.0, received=3, seq=1, loadtime_s=2.0) is ReportAge.FRESH
    assert age(1.0, received=0, seq=1001, loadtime_s=4.0) is ReportAge.NEW_PROCESS
    assert order.loadtimes_s == (4.0, 2.0)
    assert age(2.0, received=0, seq=2001, loadtime_s=2.0) is ReportAge.NEW_PROCESS  # it loaded as fast as the first
    assert age(3.0, received=1, seq=2002, loadtime_s=2.0) is ReportAge.FRESH


@pytest.mark.promise("P1")
def test_a_process_s_first_numbered_report_that_comes_after_others_ends_no_session() -> None:
    scene = Scene(inactivity_timeout=1000.0)
    scene.serve(1)
    scene.report(1, seq=1, loadtime_s=2.0)
    for _ in range(3):
        scene.pass_time(limits.RESEND_S / 3 + 1.0)
        scene.report(1, received=0, loadtime_s=4.0)
    scene.report(1, 7, received=1, loadtime_s=4.0)
    scene.report(1, ready=False, received=0, seq=1001)
    assert list(scene.worker(1).held) == [7]
    scene.report(1, 7, received=1, seq=1002, loadtime_s=4.0)
    assert list(scene.worker(1).held) == [7]
    scene.report(1, received=0, seq=2001, loadtime_s=6.0)  # a further process, which has no session
    assert not scene.worker(1).held


@pytest.mark.promise("P2")
def test_a_process_that_is_taken_for_late_is_believed_when_nothing_else_speaks() -> None:
    """It restarted while reports without a number alone were known of the one before: its session does not stay."""
    scene = Scene(inactivity_timeout=1000.0)
    scene.serve(1)
    scene.report(1, seq=1, loadtime_s=2.0)
    for _ in range(3):
        scene.pass_time(limits.RESEND_S / 3 + 1.0)
        scene.report(1, received=0, loadtime_s=4.0)
    scene.report(1, 7, received=1, loadtime_s=4.0)
    scene.report(1, ready=False, received=0, seq=2000)
    assert list(scene.worker(1).held) == [7]
    for number in range(4):
        scene.report(1, ready=False, received=0, seq=2001 + number)
        scene.pass_time(10.0)
    assert not scene.worker(1).held


@pytest.mark.promise("P1")
def test_counts_of_the_numbered_process_before_say_nothing_of_a_grant_s_session() -> None:
    scene = Scene()
    scene.serve(1)
    scene.report(1, 1, received=5, seq=1, loadtime_s=2.0)
    scene.finishes(1, 1)
    scene.report(1, received=5, seq=2, loadtime_s=2.0)
    scene.ask(1)
    assert stage(scene, 1) is Stage.GRANTED
    scene.report(1, received=0, seq=1001, loadtime_s=4.0)
    scene.report(1, 1, received=1, seq=1002, loadtime_s=4.0)
    assert stage(scene, 1) is Stage.SESSION


@pytest.mark.promise("P1")
def test_a_numbered_report_after_one_that_came_after_the_end_lists_a_new_session() -> None:
    """It was made when the one before it had arrived: no straggler of the session that ended lists the request then."""
    scene = Scene()
    scene.serve(1)
    scene.report(1, 1, seq=1)
    scene.finishes(1, 1)
    scene.pass_time(1.0)
    scene.report(1, seq=2)
    scene.report(1, 1, seq=3)
    assert list(scene.worker(1).held) == [1]


@pytest.mark.promise("P10")
def test_a_numbered_report_that_may_be_older_than_a_heartbeat_that_did_not_list_the_session_is_not_believed() -> None:
    """The next one is, for it was made when this one had arrived."""
    scene = Scene()
    scene.serve(1)
    scene.report(1, 1, seq=1)
    scene.pass_time(limits.RESEND_S + 1.0)
    scene.report(1)
    scene.pass_time(1.0)
    scene.report(1, 1, seq=2)
    assert not scene.worker(1).held
    scene.report(1, 1, seq=3)
    assert list(scene.worker(1).held) == [1]


@pytest.mark.promise("P2")
def test_a_request_that_was_refused_beside_its_own_session_counts_as_received() -> None:
    """A report of before its end was taken for its next session, the one after that for the end of that, and the worker
    was ended while its client was on the way to it.
    """
    scene = Scene(max_workers=1)
    scene.serve(1)
    scene.report(1, 1, received=1, loadtime_s=6.0)
    scene.pass_time(10.0)
    scene.ask(1)  # it never heard the worker's answer, and is sent there again
    scene.finishes(1, 1, "Rejected", entered_at=10.0)
    scene.finishes(1, 1, entered_at=1.0)
    scene.ask(1)
    assert stage(scene, 1) is Stage.GRANTED
    scene.report(1, 1, received=2, loadtime_s=6.0)
    assert stage(scene, 1) is Stage.GRANTED
    scene.report(1, received=2, loadtime_s=6.0)
    assert stage(scene, 1) is Stage.GRANTED


@pytest.mark.promise("P1")
@pytest.mark.parametrize("together", [False, True])
def test_each_refusal_beside_the_same_session_counts_as_received(together: bool) -> None:
    """The first was counted alone: a report of before the end was taken for the next session of the same client."""
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.pass_time(limits.WORKER_ANSWER_S)
    scene.ask(1)  # it never heard the worker's answer, and is sent there again
    scene.report(1, 1, received=1, loadtime_s=6.0)
    scene.pass_time(10.0)
    scene.ask(1)  # and again
    refused = [Finished(1, "Rejected", at) for at in (11.0, 21.0)]
    for told in [refused] if together else [refused[:1], refused[1:]]:
        scene.send(events.RequestsFinished(1, tuple(told)))
    scene.ask(1)
    scene.finishes(1, 1, entered_at=1.0)
    assert stage(scene, 1) is Stage.GRANTED
    scene.report(1, 1, received=3, loadtime_s=6.0)
    assert stage(scene, 1) is Stage.GRANTED


@pytest.mark.promise("P1")
@pytest.mark.parametrize("seq", [0, 9])
def test_after_a_restart_a_report_does_not_use_up_a_grant_that_was_taken_over(seq: int) -> None:
    """It may be of an earlier session of the same client, which is on its way to the worker again; so may one with a
    number that was long under way.
    """
    scene = Scene(min_load=100.0, begun=False)
    worker = events.RestoredWorker(1, 1, "held", "http://w1", 100.0, numbered=seq > 0, loadtimes_s=(2.0,))
    scene.send(events.Restored(2, (worker,), (events.RestoredReservation(7, 1, 100.0, 1, confirmed=False),)))
    scene.report(1, 7, received=2, loadtime_s=2.0, seq=seq)
    assert stage(scene, 7) is Stage.SESSION
    scene.report(1, received=2, loadtime_s=2.0, seq=seq and seq + 2)
    assert stage(scene, 7) is Stage.GRANTED, "it may come yet"
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    assert 7 not in scene.worker(1).held


@pytest.mark.promise("P1")
def test_a_session_that_no_report_has_listed_since_a_restart_answers_no_client_of_a_worker_with_too_many() -> None:
    """That it had ended was not written down before the engine was killed; the worker's next report tells."""
    scene = Scene(min_load=100.0, begun=False)
    worker = events.RestoredWorker(1, 1, "held", "http://w1", 100.0, numbered=True, loadtimes_s=(2.0,))
    held = [events.RestoredReservation(request_idx, 1, 100.0, 1, confirmed=True) for request_idx in (7, 8)]
    scene.send(events.Restored(2, (worker,), tuple(held)))
    scene.pass_time(limits.RESEND_S + 1.0)
    assert of(scene.ask(7), commands.Grant) == []
    scene.report(1, 8, received=2, loadtime_s=2.0)
    scene.report(1, 8, received=2, loadtime_s=2.0)
    assert list(scene.worker(1).held) == [8]
    assert stage(scene, 7) is Stage.WAITING
    (grant,) = of(scene.ask(8), commands.Grant)
    assert grant.cause is Cause.CONFIRMED


def restarted(before: Scene) -> Scene:
    """An engine that takes over worker 1 and what there is of request 2, of one that is gone."""
    worker, grant = recovery.worker_record(before.engine.state, 1), recovery.reservation_record(before.engine.state, 2)
    assert worker is not None
    scene = Scene(max_workers=1, begun=False)
    scene.send(events.Restored(2, (worker,), () if grant is None else (grant,)))
    return scene


@pytest.mark.promise("P1")
@pytest.mark.parametrize("status", ["Success", "Rejected"])
@pytest.mark.parametrize("granted", ["before the restart", "after it"])
def test_an_end_that_is_told_again_after_a_restart_is_not_that_of_the_next_grant_of_its_request(
    status: str, granted: str
) -> None:
    """The worker had no answer to its message: what it tells once more is of the attempt before."""
    scene = Scene(max_workers=1)
    scene.serve(1)
    scene.ask(2)
    scene.finishes(1, 1, entered_at=5.0)
    scene.finishes(1, 2, status, entered_at=7.0)
    scene.report(1)
    if granted == "before the restart":
        scene.ask(2)
    scene = restarted(restarted(scene))  # an engine that hears nothing keeps it for the next one
    if granted == "after it":
        scene.ask(2)
        scene.report(1)
    assert stage(scene, 2) is Stage.GRANTED
    scene.finishes(1, 2, status, entered_at=7.0)
    assert stage(scene, 2) is Stage.GRANTED
    scene.hold_ends(2)
    scene.finishes(1, 2, status, entered_at=8.0)
    assert 2 not in scene.worker(1).held


@pytest.mark.promise("P1")
def test_an_end_that_is_told_late_after_a_restart_is_not_that_of_the_next_grant_of_its_request() -> None:
    """A report said first that the session is over, and was not listening any more when its end came."""
    scene = Scene(max_workers=1)
    scene.serve(1)
    scene.finishes(1, 1, entered_at=5.0)
    scene.ask(2)
    scene.takes(1, 2)
    scene.report(1)
    scene.ask(2)
    scene = restarted(scene)
    assert stage(scene, 2) is Stage.GRANTED
    scene.finishes(1, 2, entered_at=7.0)
    assert stage(scene, 2) is Stage.GRANTED
    scene.finishes(1, 2, entered_at=8.0)
    assert 2 not in scene.worker(1).held


def test_the_ends_of_so_many_requests_are_known_after_a_restart() -> None:
    log = FinishLog()
    for request_idx in range(1, limits.ENDS_RECORDED + 3):
        log.new_finishes([Finished(request_idx, "Success", 5.0)], 0.0)
    log.new_finishes([Finished(4, "Success", 4.0), Finished(3, "Success", math.nan)], 0.0)
    for request_idx in range(1, limits.ENDS_RECORDED + 3):
        log.expect(request_idx)
        log.expect_session(request_idx)
    after = FinishLog()
    after.restored(log.ends_told, log.ends_expected)
    assert [request_idx for request_idx, _, _ in after.ends_told] == [3, 5, 6, 7, 8, 9, 10, 4]
    assert after.ends_expected == tuple((request_idx, 2) for request_idx in range(3, limits.ENDS_RECORDED + 3))
    assert after.was_told(Finished(4, "Success", 5.0))
    assert not after.was_told(Finished(4, "Rejected", 5.0))
    assert not after.was_told(Finished(4, "Success", 5.1))


@pytest.mark.promise("P7")
def test_one_for_whom_a_worker_is_kept_waits_again_when_that_has_the_session_of_one_that_waits() -> None:
    scene = Scene(max_workers=1)
    scene.serve(1)
    scene.ask(2)
    scene.ask(3)
    scene.hold_ends(2)
    assert "grant_kept" in kinds(scene.finishes(1, 1))
    scene.report(1, 3, received=2)
    assert (stage(scene, 3), stage(scene, 2)) == (Stage.SESSION, Stage.WAITING)


@pytest.mark.promise("P7")
def test_one_for_whom_a_worker_is_kept_gets_the_one_that_is_kept_for_the_session_that_is_reported() -> None:
    scene = Scene(max_workers=2)
    scene.serve(2)
    for request_idx in (3, 4):
        scene.ask(request_idx)
        scene.hold_ends(request_idx)
    for worker_id in (1, 2):
        scene.finishes(worker_id, worker_id)
    kept = {idx: scene.engine.state.reservations[idx].worker_id for idx in (3, 4)}
    scene.report(kept[3], 4, received=2)
    assert {idx: scene.engine.state.reservations[idx].worker_id for idx in (3, 4)} == {4: kept[3], 3: kept[4]}
    (grant,) = of(scene.ask(3), commands.Grant)
    assert grant.worker_id == kept[4]


@pytest.mark.promise("P7")
def test_one_for_whom_a_worker_is_kept_waits_again_when_that_reports_another_session() -> None:
    """It was sent nowhere; the worker cannot hold both, and another may be free before its reports tell."""
    scene = Scene(min_load=200.0, begun=False)
    kept = events.RestoredWorker(1, 1, "held", "http://w1", 100.0, numbered=True, loadtimes_s=(2.0,))
    other = events.RestoredWorker(2, 1, "ready", "http://w2", 100.0, numbered=True, loadtimes_s=(3.0,))
    granted = events.RestoredReservation(7, 1, 100.0, 1, confirmed=False, sent=False)
    scene.send(events.Restored(3, (kept, other), (granted,)))
    scene.report(1, 6, received=1, seq=3, loadtime_s=2.0)
    scene.ask(8)
    assert of(scene.ask(7), commands.Grant) == []
    answered = of(scene.report(2, received=0, seq=4, loadtime_s=3.0), commands.Grant)
    assert [(grant.request_idx, grant.worker_id) for grant in answered] == [(7, 2)]
