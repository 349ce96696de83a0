"""An endpoint's tables: sums that are kept up to date, and who serves next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import commands, events
from nullworker.core.reservation import Reservation
from nullworker.core.waiting_line import WaitingLine
from nullworker.core.worker import WorkerState
from tests.unit.core.harness import Scene, of

if TYPE_CHECKING:
    from nullworker.core.endpoint import Endpoint


def endpoint(scene: Scene) -> Endpoint:
    return scene.engine.state.endpoints[1]


def test_sums_follow_every_change_and_are_exact_zeros_when_nothing_is_left() -> None:
    scene = Scene(max_workers=64)
    for idx in range(1, 30):
        scene.ask(idx, 0.1 * idx)
    scene.up(*range(1, 30))
    for idx in range(1, 30):
        scene.report(idx, perf=0.3 * idx)
    for grant in of(scene.commands, commands.Grant):
        scene.takes(grant.worker_id, grant.request_idx)
        scene.finishes(grant.worker_id, grant.request_idx)
    scene.live(60)
    assert endpoint(scene).existing == 0
    assert (endpoint(scene).ready_perf, endpoint(scene).held_cost, endpoint(scene).line.active_cost) == (0.0, 0.0, 0.0)
    assert (endpoint(scene).booting_perf, endpoint(scene).inactive_perf) == (0.0, 0.0)


def test_a_waiter_is_overdue_at_target_queue_time_and_not_after_it() -> None:
    line = WaitingLine(10.0)
    for request_idx, asked_at in enumerate((0.0, 0.5), 1):
        line.add(Reservation(request_idx, 1, 100.0, asked_at, asked_at, 60.0), 10.0)
    assert (line.active_count, line.overdue_count) == (2, 1)


def test_of_held_workers_that_take_more_the_one_with_the_shortest_implied_queue_serves_next() -> None:
    scene = Scene(max_queue_time=30.0, max_workers=2, min_load=200.0)
    scene.workergroup(1, occupancy=3)
    scene.up(1, 2)
    scene.ask(1, 300.0)
    scene.ask(2, 100.0)
    first = {grant.request_idx: grant.worker_id for grant in of(scene.commands, commands.Grant)}
    for idx, worker_id in first.items():
        scene.takes(worker_id, idx)
    (third,) = of(scene.ask(3, 100.0), commands.Grant)
    assert third.worker_id == first[2]


def test_a_worker_that_holds_all_that_it_takes_is_not_found_until_it_holds_less() -> None:
    scene = Scene(max_queue_time=30.0, max_workers=1)
    scene.workergroup(1, occupancy=2)
    scene.ask(1, 0.0)
    scene.ask(2, 0.0)
    scene.up(1)
    scene.takes(1, 1)
    scene.counts[1] = 2
    scene.report(1, 1, 2)
    assert endpoint(scene).pick() is None
    scene.finishes(1, 2)
    assert endpoint(scene).pick() is scene.worker(1)


def test_a_held_worker_whose_implied_queue_has_reached_max_queue_time_takes_no_more() -> None:
    scene = Scene(max_queue_time=2.0, max_workers=1)
    scene.workergroup(1, occupancy=8)
    scene.serve(1)
    assert len(of(scene.ask(2), commands.Grant)) == 1  # a queue of 1 s
    assert of(scene.ask(3), commands.Grant) == []  # of 2 s


def test_a_held_worker_that_was_suspect_is_found_again() -> None:
    scene = Scene(max_queue_time=30.0, max_workers=1)
    scene.workergroup(1, occupancy=2)
    scene.serve(1)
    scene.pass_time(21)
    assert endpoint(scene).pick() is None
    scene.report(1, 1)
    assert endpoint(scene).pick() is scene.worker(1)


def test_where_occupancy_is_to_be_learnt_one_more_than_was_seen_is_asked_at_a_time() -> None:
    scene = Scene(max_queue_time=1000.0, target_queue_time=1000.0, max_workers=1)
    scene.workergroup(1, occupancy=None)
    for idx in range(1, 9):
        scene.ask(idx, 1.0)
    scene.up(1)
    counts = []
    while endpoint(scene).line.waiting:
        granted = [r.request_idx for r in scene.worker(1).held.values()]
        counts.append(len(granted))
        scene.counts[1] = len(granted)
        scene.report(1, *granted)
    assert counts == [1, 2, 4]
    assert scene.engine.state.workergroups[1].most_sessions_seen == 4


def test_the_table_of_partly_held_workers_does_not_grow_with_the_number_of_changes() -> None:
    scene = Scene(max_queue_time=1000.0, max_workers=1)
    scene.workergroup(1, occupancy=5)
    scene.serve(1)
    for idx in range(10, 400):
        scene.ask(idx, 1.0)
        scene.finishes(1, idx, "Success")
    assert len(endpoint(scene).partly_free) <= 2 * 1 + 65


def test_nor_is_it_left_when_the_last_worker_is_gone() -> None:
    scene = Scene(max_queue_time=1000.0, max_workers=1)
    scene.workergroup(1, occupancy=5)
    scene.serve(1)
    while len(endpoint(scene).partly_free) < 66:
        endpoint(scene).update_partly_free(scene.worker(1))
    scene.send(events.InstanceExited(1, "pre-empted"))
    scene.obey()
    assert scene.states() == {}
    assert len(endpoint(scene).partly_free) <= 64


def test_a_spare_worker_is_the_last_to_serve() -> None:
    scene = Scene(cold_workers=2, min_load=100.0)
    ready = [create.worker_id for create in of(scene.commands, commands.Create)]
    scene.up(*ready)
    (grant,) = of(scene.ask(1), commands.Grant)
    assert not scene.worker(grant.worker_id).cold_spare
    assert grant.worker_id == ready[0]


def test_staying_counts_those_who_are_not_on_their_way_out() -> None:
    scene = Scene(cold_workers=1, min_load=100.0)
    scene.up(1)
    assert (endpoint(scene).staying, endpoint(scene).existing, endpoint(scene).keeping) == (1, 1, 1)
    scene.put(min_load=0.0)
    scene.live(15, period_s=5)
    assert scene.state(1) in (WorkerState.STOPPING, WorkerState.INACTIVE)
    assert endpoint(scene).staying == 1
