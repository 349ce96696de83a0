"""What pages, the command line and metrics read of an engine."""

from __future__ import annotations

from nullworker.core import events, views
from nullworker.core.causes import Cause
from tests.unit.core.harness import Scene


def test_a_reservation_that_is_there_and_one_that_is_not() -> None:
    scene = Scene()
    scene.ask(1)
    assert views.reservation(scene.engine, 1) == views.ReservationView(1, 1, "waiting", 0)
    scene.up(1)
    assert views.reservation(scene.engine, 1) == views.ReservationView(1, 1, "granted", 1)
    assert views.reservation(scene.engine, 2) is None


def test_why_a_worker_failed_and_why_it_goes_are_codes() -> None:
    scene = Scene()
    scene.serve(2)
    scene.report(1, 1, error="out of memory")
    scene.send(events.WorkersUpdated(1))
    first, second = views.workers(scene.engine)
    assert (first.error, first.error_code) == ("out of memory", Cause.FAILED_REPORTED.value)
    assert (second.error, second.error_code) == ("", "")
    assert (second.retire, second.retire_code) == ("its workergroup is updated", Cause.UPDATED.value)


def test_endable_workers_hold_nothing_and_are_ours() -> None:
    scene = Scene(min_load=200.0)
    scene.up(1, 2)
    scene.ask(1)
    scene.send(events.WorkerJoined(50, 1))
    (held,) = (worker for worker in scene.engine.state.workers.values() if worker.held)
    assert [ref.worker_id for ref in views.endable_workers(scene.engine)] == [3 - held.worker_id]
    assert [ref.owned for ref in views.worker_refs(scene.engine)] == [True, True, False]


def test_the_next_try_of_a_workergroup_that_failed_counts_down() -> None:
    scene = Scene()
    scene.ask(1)
    scene.send(events.InstanceFailed(1, "create", "no quota"))
    scene.pass_time(0.25)
    scene.send(events.TimePassed())
    (group,) = views.endpoints(scene.engine)[0].workergroups
    assert (group.failures, group.last_error, group.next_try_in_s) == (1, "it could not be created: no quota", 0.75)
