"""How many workers an endpoint needs: never too few for who waits, never one too many, and back to nothing."""

from __future__ import annotations

import pytest

from nullworker.core import commands, events, limits, scaling
from nullworker.core.parameters import TESTED_PARAMETERS, EndpointState, Parameters
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, of

DEFAULTS = Parameters(min_load=0.0, cold_workers=0, cold_mult=0.0)


def destroyed(decided: list[commands.Command]) -> list[int]:
    return [command.worker_id for command in of(decided, commands.Destroy)]


def test_min_load_100_at_target_util_0_9_is_two_workers_of_perf_100_and_at_1_it_is_one() -> None:
    assert len(of(Scene(min_load=100.0, target_util=0.9).commands, commands.Create)) == 2
    assert len(of(Scene(min_load=100.0, target_util=1.0).commands, commands.Create)) == 1


@pytest.mark.promise("P3")
@pytest.mark.parametrize("queue_times", [(30.0, 10.0), (0.0, 0.0), (1.0, 0.5)])
@pytest.mark.parametrize("target_util", [1.0, 0.9])
@pytest.mark.parametrize("cost", [100.0, 200.0])
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("occupancy", [1, None])
def test_n_reservations_get_n_workers(
    queue_times: tuple[float, float], target_util: float, cost: float, at_once: bool, occupancy: int | None
) -> None:
    scene = Scene(
        max_queue_time=queue_times[0], target_queue_time=queue_times[1], target_util=target_util, max_workers=64
    )
    scene.workergroup(1, occupancy=occupancy)
    served = 0
    for idx in range(1, 17):
        scene.ask(idx, cost)
        if not at_once:
            served += _serve_all(scene, queue_times[1])
    served += _serve_all(scene, queue_times[1])
    holders = {r.worker_id for r in scene.engine.state.reservations.values() if r.worker_id}
    assert len(holders) == 16
    if target_util == 1.0 and cost == 100.0:
        assert len(scene.engine.state.workers) == 16  # P4: exactly


def _serve_all(scene: Scene, patience_s: float) -> int:
    """Every worker asked for comes up at once; each refuses its second reservation, as a null worker does."""
    served = 0
    done = 0
    scene.live(patience_s)
    while done < len(scene.commands):
        command = scene.commands[done]
        done += 1
        if isinstance(command, commands.Create) and scene.state(command.worker_id) is WorkerState.ASKED:
            scene.up(command.worker_id)
        elif isinstance(command, commands.Grant):
            reservation = scene.engine.state.reservations.get(command.request_idx)
            if (
                reservation is None
                or reservation.worker_id != command.worker_id
                or reservation.stage.value != "granted"
            ):
                continue
            worker = scene.worker(command.worker_id)
            others = [r for r in worker.held.values() if r.stage.value == "session"]
            if others:
                scene.finishes(worker.worker_id, command.request_idx, "Rejected", entered_at=float(done))
                scene.ask(command.request_idx, reservation.cost)
                scene.live(patience_s)
            else:
                scene.takes(worker.worker_id, command.request_idx)
                served += 1
    return served


@pytest.mark.promise("P4")
def test_exactly_n_workers_for_n_reservations() -> None:
    scene = Scene()
    scene.serve(5)
    scene.live(120)
    assert list(scene.states().values()) == ["held"] * 5


@pytest.mark.promise("P5")
def test_a_free_worker_goes_after_inactivity_timeout_and_a_tick_and_nothing_comes_after_it() -> None:
    scene = Scene(inactivity_timeout=10.0)
    scene.serve(3)
    for idx in (1, 2, 3):
        scene.finishes(idx, idx)
    assert destroyed(scene.pass_time(9.9)) == []
    assert sorted(destroyed(scene.pass_time(0.1 + limits.TICK_S))) == [1, 2, 3]
    before = len(of(scene.commands, commands.Create))
    scene.pass_time(10_000)
    assert len(of(scene.commands, commands.Create)) == before


@pytest.mark.promise("P2")
def test_a_held_worker_is_never_trimmed() -> None:
    scene = Scene()
    scene.serve(3)
    scene.finishes(2, 2)
    scene.live(300)
    assert destroyed(scene.commands) == [2]


def test_the_longest_free_goes_first_and_what_the_need_wants_stays() -> None:
    scene = Scene(min_load=100.0, inactivity_timeout=5.0)
    scene.ask(1)
    scene.ask(2)
    scene.up(1, 2)
    scene.takes(1, 1)
    scene.takes(2, 2)
    scene.finishes(1, 1)
    scene.pass_time(2)
    scene.finishes(2, 2)
    scene.live(100)
    assert destroyed(scene.commands) == [1]


def test_a_negative_inactivity_timeout_keeps_the_last_active_worker() -> None:
    scene = Scene(inactivity_timeout=-1.0)
    scene.serve(2)
    scene.finishes(1, 1)
    scene.finishes(2, 2)
    scene.live(1000)
    assert len(scene.states()) == 1
    assert len(destroyed(scene.commands)) == 1


@pytest.mark.parametrize("timeout", [None, 0.0])
def test_an_unset_or_zero_inactivity_timeout_is_ten_seconds(timeout: float | None) -> None:
    scene = Scene(inactivity_timeout=timeout)
    scene.serve(1)
    scene.finishes(1, 1)
    assert destroyed(scene.pass_time(9.99)) == []
    assert destroyed(scene.pass_time(0.01)) == [1]


@pytest.mark.promise("P6")
def test_never_more_than_max_workers_counting_those_whose_creation_is_unknown_or_whose_end_is_not_done() -> None:
    scene = Scene(max_workers=3)
    for idx in range(10):
        scene.ask(idx)
    assert len(of(scene.commands, commands.Create)) == 3
    scene.up(1, 2)
    scene.report(1, error="it broke")
    assert len(of(scene.pass_time(60), commands.Create)) == 0


def test_over_a_lowered_max_workers_only_as_many_free_workers_go_as_must() -> None:
    scene = Scene(min_load=500.0)
    scene.up(1, 2, 3, 4, 5)
    scene.put(max_workers=3)
    scene.pass_time(2)
    assert len(destroyed(scene.commands)) == 2


def test_over_a_lowered_max_workers_inactive_workers_go_before_one_that_is_needed() -> None:
    scene = Scene(min_load=100.0, cold_workers=3)
    scene.up(1, 2, 3)
    scene.live(30)
    assert sorted(scene.states().values()) == ["inactive", "inactive", "ready"]
    (ready,) = (worker_id for worker_id, state in scene.states().items() if state == "ready")
    scene.put(max_workers=2)
    scene.live(30)
    assert sorted(scene.states().values()) == ["inactive", "ready"]
    assert scene.states()[ready] == "ready"
    scene.put(max_workers=1)
    scene.live(30)
    assert scene.states() == {ready: "ready"}


def test_a_lowered_max_workers_leaves_held_workers_alone() -> None:
    scene = Scene()
    scene.serve(4)
    scene.put(max_workers=1)
    scene.live(60)
    assert destroyed(scene.commands) == []


def test_a_waiter_is_pressed_at_once_when_nothing_is_active() -> None:
    scene = Scene(DEFAULTS, target_queue_time=100.0)
    assert len(of(scene.ask(1), commands.Create)) >= 1


def test_a_waiter_is_pressed_when_the_estimated_wait_or_its_own_age_reaches_target_queue_time() -> None:
    scene = Scene(DEFAULTS, target_util=1.0, target_queue_time=10.0, max_queue_time=0.0)
    scene.serve(1)
    assert of(scene.ask(2), commands.Create) == []
    assert of(scene.pass_time(9.9), commands.Create) == []
    assert len(of(scene.pass_time(0.2), commands.Create)) == 1
    scene = Scene(DEFAULTS, target_util=1.0, target_queue_time=2.0, max_queue_time=0.0)
    scene.serve(1)
    assert len(of(scene.ask(2), commands.Create)) == 1


def test_a_waiter_that_waits_again_is_urgent_before_one_that_came_later() -> None:
    scene = Scene(DEFAULTS, target_util=1.0, target_queue_time=10.0, max_queue_time=0.0, min_load=200.0)
    scene.up(1, 2)
    scene.ask(1)
    scene.takes(2, 1)
    scene.ask(2)  # granted worker 1
    scene.pass_time(5)
    scene.ask(3)
    scene.pass_time(1)
    scene.put(min_load=0.0)
    scene.send(events.InstanceExited(1, "killed"))
    scene.ask(2)
    assert of(scene.pass_time(3.9), commands.Create) == []
    assert len(of(scene.pass_time(0.2), commands.Create)) == 1


def test_a_waiter_that_waits_again_comes_of_age_by_its_first_asking() -> None:
    scene = Scene(DEFAULTS, target_util=1.0, target_queue_time=30.0, max_queue_time=0.0)
    scene.serve(2)
    scene.ask(3)
    scene.live(5)
    scene.ask(4)
    scene.finishes(1, 1)
    scene.finishes(1, 3, "Rejected")  # 3 had the worker, and comes after 4 into the table again
    scene.ask(3)
    assert of(scene.pass_time(24.9), commands.Create) == []
    assert len(of(scene.pass_time(0.2), commands.Create)) == 1


def test_cold_workers_are_made_stopped_and_started_before_any_is_created() -> None:
    scene = Scene(cold_workers=2)
    assert len(of(scene.commands, commands.Create)) == 2
    scene.up(1, 2)
    decided = scene.pass_time(2)
    assert sorted(command.worker_id for command in of(decided, commands.Stop)) == [1, 2]
    for worker_id in (1, 2):
        scene.send(done("stopped", worker_id))
    decided = scene.ask(1)
    (start,) = of(decided, commands.Start)
    assert of(decided, commands.Create) == []
    scene.send(done("started", start.worker_id))
    assert len(of(scene.report(start.worker_id), commands.Grant)) == 1


def test_a_worker_that_is_to_go_is_none_of_cold_workers() -> None:
    scene = Scene(cold_workers=1)
    scene.ask(1)
    scene.up(1)
    scene.takes(1, 1)
    assert [create.worker_id for create in of(scene.commands, commands.Create)] == [1]
    decided = scene.send(events.WorkersUpdated(1))
    assert scene.state(1) is WorkerState.DRAINING
    assert [create.worker_id for create in of(decided, commands.Create)] == [2]


def test_the_idle_time_of_a_worker_that_never_held_begins_when_it_is_ready() -> None:
    scene = Scene(inactivity_timeout=10.0)
    scene.ask(1)
    scene.set_absent(1)
    scene.created(1)
    scene.pass_time(30)
    scene.report(1)
    assert destroyed(scene.pass_time(9)) == []
    assert destroyed(scene.pass_time(2)) == [1]


def done(what: str, worker_id: int) -> events.Event:
    return events.InstanceStopped(worker_id) if what == "stopped" else events.InstanceStarted(worker_id)


def test_cold_mult_keeps_a_multiple_of_the_active_load_inactive() -> None:
    scene = Scene(cold_mult=3.0)
    scene.serve(1)
    scene.live(30)
    assert len(of(scene.commands, commands.Create)) == 3
    assert len(of(scene.commands, commands.Stop)) == 2


def test_min_cold_load_is_total_capacity_of_which_none_need_be_active() -> None:
    scene = Scene(min_cold_load=250.0)
    scene.up(1, 2, 3)
    scene.pass_time(2)
    assert len(of(scene.commands, commands.Stop)) == 3


@pytest.mark.promise("P5")
def test_inactive_workers_beyond_the_cold_floor_are_destroyed() -> None:
    scene = Scene(cold_workers=2)
    scene.up(1, 2)
    scene.pass_time(2)
    for worker_id in (1, 2):
        scene.send(done("stopped", worker_id))
    scene.put(cold_workers=1)
    assert len(destroyed(scene.pass_time(12))) == 1


def test_suspended_nothing_is_recruited_or_released() -> None:
    scene = Scene()
    scene.serve(1)
    scene.put(state=EndpointState.SUSPENDED)
    scene.ask(2)
    scene.finishes(1, 1)
    assert scene.engine.state.reservations[2].worker_id == 1  # routing goes on
    scene.takes(1, 2)
    scene.finishes(1, 2)
    scene.live(200)
    assert len(of(scene.commands, commands.Create)) == 1
    assert destroyed(scene.commands) == []


def test_stopped_all_workers_become_inactive_the_held_ones_when_they_are_released() -> None:
    scene = Scene(min_load=200.0)
    scene.serve(1)
    scene.up(2)
    decided = scene.put(state=EndpointState.STOPPED)
    assert [stop.worker_id for stop in of(decided, commands.Stop)] == [2]
    scene.finishes(1, 1)
    assert [stop.worker_id for stop in of(scene.pass_time(2), commands.Stop)] == [1]


def test_active_again_the_stopped_workers_are_started() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.put(state=EndpointState.STOPPED)
    scene.send(done("stopped", 1))
    (start,) = of(scene.put(state=EndpointState.ACTIVE), commands.Start)
    assert start.worker_id == 1


def test_the_cheapest_workergroup_for_its_perf_grows_first_and_the_next_when_that_is_full() -> None:
    scene = Scene()
    scene.workergroup(1, price_per_hour=1.0, max_workers=1)
    scene.workergroup(2, price_per_hour=1.5, perf=200.0)
    scene.workergroup(3, price_per_hour=5.0)
    for idx in (1, 2, 3):
        scene.ask(idx)
    assert [create.workergroup_id for create in of(scene.commands, commands.Create)] == [2, 2, 2]
    scene.workergroup(2, price_per_hour=9.0, perf=200.0)
    scene.ask(4)
    scene.ask(5)
    assert [create.workergroup_id for create in of(scene.commands, commands.Create)][3:] == [1, 2]


def test_a_free_worker_that_was_joined_by_itself_never_hides_an_idle_one_of_ours() -> None:
    scene = Scene(max_workers=1000)
    for worker_id in range(500, 500 + limits.SCALE_DOWN_ROUND + 1):
        scene.send(events.WorkerJoined(worker_id, 1))
        scene.report(worker_id)
    scene.put(min_load=100.0 * (limits.SCALE_DOWN_ROUND + 2))
    (ours,) = (create.worker_id for create in of(scene.commands, commands.Create))
    scene.up(ours)
    scene.put(min_load=0.0)
    scene.live(20)
    assert destroyed(scene.commands) == [ours]


@pytest.mark.promise("P5")
def test_many_idle_workers_go_in_rounds_and_all_go() -> None:
    count = limits.SCALE_DOWN_ROUND * 2 + 3
    scene = Scene(max_workers=1000, min_load=100.0 * count)
    scene.up(*range(1, count + 1))
    scene.put(min_load=0.0)
    scene.live(15)
    assert len(destroyed(scene.commands)) == count


@pytest.mark.promise("P13")
def test_every_order_says_why_in_numbers() -> None:
    scene = Scene(cold_workers=1)
    scene.serve(2)
    scene.finishes(1, 1)
    scene.live(60)
    reasons = [c.reason for c in scene.commands if not isinstance(c, commands.Note)]
    assert all(any(letter.isdigit() for letter in reason) for reason in reasons), reasons


def test_need_of_the_tested_parameters_is_the_load_itself() -> None:
    scene = Scene(TESTED_PARAMETERS)
    scene.serve(2)
    scene.ask(3)
    wanted = scaling.need(scene.engine.state.endpoints[1])
    assert (wanted.load, wanted.active_perf, wanted.places) == (300.0, 300.0, 1)


def test_after_a_suspension_the_need_is_looked_at_again_when_all_had_time_to_report() -> None:
    """A report from before the suspension makes the engine wait for the worker, and that one may stay silent."""
    scene = Scene(min_load=100.0, inactivity_timeout=300.0)
    scene.up(1)
    scene.ask(5)
    scene.takes(1, 5)
    scene.finishes(1, 5)
    scene.oversleep(100.0)
    scene.report(1, 5, received=1)
    assert scene.worker(1).trust.awaiting_report
    assert of(scene.put(min_load=200.0), commands.Create) == []
    assert of(scene.pass_time(limits.QUIET_S - 0.001), commands.Create) == []
    assert of(scene.pass_time(0.001), commands.Create) != []


def test_a_worker_that_is_stopped_is_not_waited_for() -> None:
    scene = Scene(cold_workers=1, max_workers=1)
    scene.up(1)
    scene.pass_time(2.0)
    assert scene.state(1) is WorkerState.STOPPING
    scene.worker(1).trust.awaiting_report = True
    scene.engine.state.endpoints[1].awaiting_report += 1
    scene.send(events.InstanceStopped(1))
    assert not scene.worker(1).trust.awaiting_report


def test_a_worker_that_loads_again_while_it_is_to_go_goes_when_it_holds_nothing() -> None:
    """It might have held something when it was to go, and was loading when it told that it did not."""
    scene = Scene(min_load=100.0)
    scene.up(1)
    scene.engine.state.may_hold_until(scene.worker(1), scene.now)
    scene.send(events.WorkersUpdated(1))
    scene.report(1, ready=False, seq=1)
    assert scene.state(1) is WorkerState.LOADING
    assert 1 in destroyed(scene.report(1, ready=False, seq=2))
