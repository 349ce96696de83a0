"""First come, first served; a grant is a promise that is confirmed, refused or expires."""

from __future__ import annotations

import math

import pytest

from nullworker.core import commands, limits
from nullworker.core.causes import Cause
from nullworker.core.parameters import EndpointState
from nullworker.core.reservation import Stage
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, kinds, of


def granted(decided: list[commands.Command]) -> list[tuple[int, int]]:
    return [(grant.request_idx, grant.worker_id) for grant in of(decided, commands.Grant)]


def test_a_waiter_gets_the_worker_that_its_asking_created() -> None:
    scene = Scene()
    assert [type(command).__name__ for command in scene.ask(1)] == ["Create"]
    scene.created(1)
    decided = scene.report(1)
    (grant,) = of(decided, commands.Grant)
    assert (grant.request_idx, grant.worker_id, grant.url, grant.cost) == (1, 1, "http://w1", 100.0)
    assert grant.expires_in_s == limits.GRANT_TTL_S


@pytest.mark.promise("P7")
def test_who_asked_first_is_served_first_whatever_the_order_of_arrival_of_later_calls() -> None:
    scene = Scene(max_workers=1)
    for idx in (5, 3, 9):
        scene.ask(idx)
    scene.up(1)
    assert granted(scene.commands) == [(3, 1)]
    scene.takes(1, 3)
    assert granted(scene.finishes(1, 3)) == [(5, 1)]


@pytest.mark.promise("P7")
def test_a_waiter_whose_grant_was_refused_keeps_its_place() -> None:
    scene = Scene(max_workers=2)
    for idx in (1, 2, 3):
        scene.ask(idx)
    scene.up(1)
    assert granted(scene.commands) == [(1, 1)]
    scene.finishes(1, 1, "Rejected")
    scene.ask(1)
    scene.created(2)
    assert granted(scene.report(2)) == [(1, 2)]


def test_the_worker_that_was_freed_last_serves_next() -> None:
    scene = Scene()
    scene.serve(2)
    scene.finishes(2, 2)
    scene.pass_time(1)
    scene.finishes(1, 1)
    assert granted(scene.ask(3)) == [(3, 1)]


@pytest.mark.promise("P1")
def test_asked_again_the_waiter_is_answered_with_the_same_worker() -> None:
    scene = Scene()
    scene.serve(1)
    for _ in range(3):
        assert granted(scene.ask(1)) == [(1, 1)]


def test_asked_for_the_third_time_before_the_worker_confirms_the_call_is_held_until_the_verdict() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.pass_time(10)
    assert granted(scene.ask(1)) == [(1, 1)]
    assert granted(scene.ask(1)) == []
    scene.ask(2)
    scene.up(2)
    scene.report(1)  # a grant is not refuted by a report that does not list it
    decided = scene.finishes(1, 1, "Rejected")
    assert kinds(decided) == ["grant_refused"]
    assert scene.engine.state.reservations[1].stage is Stage.WAITING
    assert granted(scene.report(1)) == [(1, 1)]


@pytest.mark.promise("P9")
def test_an_unconfirmed_grant_expires_and_its_worker_is_asked_what_it_holds_before_it_serves_again() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    decided = scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    assert "grant_expired" in kinds(decided)
    assert 1 not in scene.engine.state.reservations
    assert scene.worker(1).trust.may_hold_unknown
    assert granted(scene.ask(2)) == []
    assert granted(scene.report(1, seq=1)) == [(2, 1)]


@pytest.mark.promise("P1")
def test_a_report_without_a_number_that_may_be_older_than_the_use_of_a_grant_does_not_free_its_worker() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    scene.ask(2)
    scene.pass_time(5)
    assert granted(scene.report(1)) == []
    assert granted(scene.report(1, perf=99.0)) == [], "however many they are"
    scene.hold_ends(2)
    scene.ask(2)
    scene.pass_time(limits.RESEND_S - 6)
    assert granted(scene.report(1)) == []
    scene.pass_time(1)
    assert granted(scene.report(1)) == [(2, 1)], "this one was made after the grant had run out"


@pytest.mark.promise("P2")
def test_a_session_that_was_opened_at_the_grants_last_moment_is_adopted_and_not_trimmed() -> None:
    scene = Scene(inactivity_timeout=0.01)
    scene.ask(1)
    scene.up(1)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S + 3.0)
    assert of(scene.commands, commands.Destroy) == []
    assert kinds(scene.takes(1, 1)) == ["session_adopted"]
    assert scene.state(1) is WorkerState.HELD


def test_a_held_waiter_whose_grant_expires_waits_again_at_its_old_place() -> None:
    scene = Scene(max_workers=2)
    scene.ask(1)
    scene.up(1)
    scene.pass_time(10)
    scene.ask(1)
    scene.ask(1)  # held open now
    scene.ask(2)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    assert scene.engine.state.reservations[1].stage is Stage.WAITING
    scene.created(2)
    assert granted(scene.report(2)) == [(1, 2)]


def test_between_two_polls_a_worker_is_kept_for_the_waiter_until_its_next_poll_is_due() -> None:
    scene = Scene()
    scene.ask(1)
    scene.hold_ends(1)
    scene.pass_time(3)
    scene.up(1)
    assert of(scene.commands, commands.Grant) == []
    assert scene.state(1) is WorkerState.HELD
    assert granted(scene.ask(1)) == [(1, 1)]


def test_the_next_poll_is_due_from_the_end_of_the_last_one() -> None:
    scene = Scene(max_workers=2)
    scene.ask(1)
    scene.pass_time(6)
    scene.hold_ends(1)
    ended_at = scene.now
    scene.pass_time(2)
    scene.up(1)
    assert scene.engine.state.reservations[1].expires_at == ended_at + limits.POLL_GRACE_S


def test_a_grant_that_ran_out_while_the_engine_was_suspended_may_still_be_confirmed() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.oversleep(limits.GRANT_TTL_S + limits.GRANT_REPORT_S + limits.SUSPENDED_AFTER_S + 1)
    scene.pass_time(limits.GRANT_REPORT_S - 0.1)
    assert scene.engine.state.reservations[1].stage is Stage.GRANTED
    scene.pass_time(0.2)
    assert 1 not in scene.engine.state.reservations


def test_a_worker_kept_for_a_waiter_that_does_not_come_back_goes_to_the_next() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.hold_ends(1)
    scene.up(1)
    scene.ask(2)
    assert granted(scene.pass_time(limits.POLL_GRACE_S)) == [(2, 1)]
    assert scene.engine.state.reservations[1].absent


@pytest.mark.promise("P8")
def test_a_waiter_that_does_not_poll_is_forgotten_at_its_replay_timeout_and_nothing_is_created_for_it_then() -> None:
    scene = Scene(max_workers=0)
    scene.ask(1)
    scene.hold_ends(1)
    scene.pass_time(59.9)
    assert 1 in scene.engine.state.reservations
    assert kinds(scene.pass_time(0.2)) == ["waiter_forgotten"]
    assert of(scene.put(max_workers=5), commands.Create) == []


def test_an_absent_waiter_that_asks_again_has_its_old_place() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.hold_ends(1)
    scene.ask(2)
    scene.pass_time(30)
    scene.ask(1)
    scene.created(1)
    assert granted(scene.report(1)) == [(1, 1)]


def test_a_waiter_that_leaves_is_forgotten_at_once() -> None:
    scene = Scene()
    scene.ask(1)
    assert kinds(scene.set_absent(1)) == ["waiter_gone"]
    assert scene.engine.state.reservations == {}
    assert scene.set_absent(1) == []


def test_a_waiter_that_leaves_after_its_answer_may_use_it_all_the_same() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.set_absent(1)
    scene.takes(1, 1)
    assert scene.engine.state.reservations[1].stage is Stage.SESSION


def test_the_worker_of_a_waiter_that_left_after_its_answer_serves_no_other_meanwhile() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.set_absent(1)
    assert granted(scene.ask(2)) == []
    assert scene.engine.state.reservations[1].stage is Stage.GRANTED


def test_a_worker_kept_between_two_polls_is_free_when_its_waiter_says_that_it_leaves() -> None:
    scene = Scene()
    scene.ask(1)
    scene.hold_ends(1)
    scene.up(1)
    scene.set_absent(1)
    assert scene.state(1) is WorkerState.READY
    assert not scene.worker(1).trust.may_hold_unknown


def test_a_client_that_asks_again_when_its_worker_has_failed_gets_another_one() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.ask(2)
    scene.report(1, error="its disk is full")
    scene.ask(1)
    scene.created(2)
    assert granted(scene.report(2)) == [(1, 2)]


@pytest.mark.parametrize("cost", [math.nan, math.inf, -1.0, 1e300])
@pytest.mark.promise("P15")
def test_a_cost_that_is_no_amount_is_refused_and_changes_nothing(cost: float) -> None:
    scene = Scene()
    (refusal,) = of(scene.ask(1, cost), commands.Refuse)
    assert refusal.cause is Cause.COST_OUT_OF_BOUNDS
    assert scene.engine.state.reservations == {}


def test_asking_at_an_endpoint_that_is_not_there_is_refused() -> None:
    scene = Scene()
    (refusal,) = of(scene.ask(1, endpoint_id=77), commands.Refuse)
    assert refusal.cause is Cause.NO_ENDPOINT


@pytest.mark.promise("P15")
def test_a_request_belongs_to_its_endpoint() -> None:
    scene = Scene()
    scene.ask(1)
    (refusal,) = of(scene.ask(1, endpoint_id=2), commands.Refuse)
    assert refusal.cause is Cause.WRONG_ENDPOINT
    assert scene.engine.state.reservations[1].stage is Stage.WAITING


def test_a_stopped_endpoint_grants_nothing() -> None:
    scene = Scene()
    scene.ask(1)
    scene.put(state=EndpointState.STOPPED)
    scene.up(1)
    assert of(scene.commands, commands.Grant) == []


def test_events_of_unknown_requests_are_ignored() -> None:
    scene = Scene()
    assert scene.hold_ends(9) == []
    assert scene.set_absent(9) == []


def test_an_end_of_a_hold_that_was_over_already_changes_nothing() -> None:
    scene = Scene()
    scene.serve(1)
    before = scene.engine.state.reservations[1].seen_at
    scene.pass_time(1)
    assert scene.hold_ends(1) == []
    assert scene.engine.state.reservations[1].seen_at == before


@pytest.mark.promise("P2")
def test_a_worker_whose_reports_are_not_numbered_is_in_doubt_until_none_of_them_can_be_an_old_one() -> None:
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.pass_time(limits.GRANT_TTL_S + limits.GRANT_REPORT_S)
    scene.live(limits.RESEND_S - 1)
    assert scene.worker(1).trust.may_hold_unknown
    assert scene.state(1) is WorkerState.READY
    decided = scene.live(30)
    assert [destroy.worker_id for destroy in of(decided, commands.Destroy)] == [1]


@pytest.mark.promise("P2")
def test_of_a_request_that_was_answered_twice_the_second_answer_may_be_used_after_the_first_has_ended() -> None:
    scene = Scene(inactivity_timeout=1.0)
    scene.ask(1)
    scene.up(1)
    scene.pass_time(10)
    scene.ask(1)
    scene.report(1, seq=1)
    scene.finishes(1, 1)
    scene.report(1, seq=2)
    scene.pass_time(5)
    assert scene.state(1) is WorkerState.HELD
    scene.pass_time(limits.GRANT_TTL_S)
    assert scene.worker(1).trust.may_hold_unknown
    assert of(scene.commands, commands.Destroy) == []
    assert [destroy.worker_id for destroy in of(scene.clears_doubt(1) + scene.pass_time(5), commands.Destroy)] == [1]


def test_a_client_that_asks_again_at_once_waits_for_the_workers_word_before_it_is_sent_there_again() -> None:
    scene = Scene(max_workers=1)
    scene.ask(1)
    scene.up(1)
    assert granted(scene.ask(1)) == []
    assert granted(scene.pass_time(limits.REFUSAL_REPORT_S)) == [(1, 1)]
    scene = Scene()
    scene.ask(1)
    scene.up(1)
    scene.ask(2)
    scene.ask(1)
    scene.finishes(1, 1, "Rejected")
    assert not granted(scene.pass_time(limits.REFUSAL_REPORT_S))
    scene.created(2)
    assert granted(scene.report(2)) == [(1, 2)]
