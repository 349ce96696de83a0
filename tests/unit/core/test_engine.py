"""One method changes everything; time alone changes things at the time that it said; nothing is left behind."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.core import commands, events, invariants, limits, views
from nullworker.core.causes import Blocker
from nullworker.core.invariants import InvariantBroken
from nullworker.core.parameters import BOUNDS, TESTED_PARAMETERS, ParameterError, Parameters, WorkergroupSpec
from tests.unit.core.harness import Scene, of

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.core.state import EngineState


def test_a_fresh_engine_wants_never_to_be_woken() -> None:
    scene = Scene()
    assert scene.engine.wake_at() is None


@pytest.mark.promise("P14")
def test_a_clock_that_runs_backwards_stands_still() -> None:
    scene = Scene()
    scene.ask(1)
    scene.now -= 500
    scene.ask(2)
    assert scene.engine.state.reservations[2].asked_at == 1000.0


@pytest.mark.promise("P14")
def test_the_same_events_give_the_same_commands() -> None:
    def story() -> list[str]:
        scene = Scene(cold_workers=1)
        scene.serve(3)
        scene.finishes(2, 2)
        scene.live(120)
        return scene.journal_lines

    assert story() == story()


@pytest.mark.promise("P14")
def test_after_quiet_every_table_is_back_at_its_baseline() -> None:
    scene = Scene()
    scene.serve(5)
    for idx in range(1, 6):
        scene.finishes(idx, idx)
    scene.ask(77)
    scene.set_absent(77)
    scene.live(200)
    scene.pass_time(100_000)
    state = scene.engine.state
    assert (state.workers, state.reservations, state.unknown_instances) == ({}, {}, {})
    assert len(state.timers) == 0
    endpoint = state.endpoints[1]
    assert (
        endpoint.line.waiting,
        endpoint.line.in_time,
        endpoint.line.overdue_next,
        endpoint.line.order,
        endpoint.partly_free,
    ) == (
        {},
        {},
        [],
        [],
        [],
    )
    assert not endpoint.free
    assert not endpoint.idle
    assert not endpoint.inactive


@pytest.mark.promise("P13")
def test_every_command_bears_a_reason_and_the_event_that_caused_it() -> None:
    scene = Scene(cold_workers=2)
    scene.serve(3)
    for idx in (1, 2, 3):
        scene.finishes(idx, idx)
    scene.live(50)
    assert {type(command) for command in scene.commands} >= {
        commands.Create,
        commands.Grant,
        commands.Note,
        commands.Stop,
        commands.Destroy,
    }
    for command in scene.commands:
        assert command.reason
        assert 0 < command.event_number <= len(scene.journal_lines)


def test_what_an_event_changed_is_listed_for_the_recorder() -> None:
    scene = Scene()
    scene.ask(1)
    state = scene.engine.state
    assert (list(state.changed_workers), list(state.changed_reservations)) == ([1], [1])
    scene.up(1)
    assert (list(state.changed_workers), list(state.changed_reservations)) == ([1], [1])
    scene.takes(1, 1)
    assert list(state.changed_reservations) == [1]
    scene.report(1, 1)
    assert (list(state.changed_workers), list(state.changed_reservations)) == ([], [])
    scene.finishes(1, 1)
    assert (list(state.changed_workers), list(state.changed_reservations)) == ([1], [1])


def test_wake_at_is_when_time_alone_changes_something() -> None:
    scene = Scene()
    scene.serve(1)
    scene.finishes(1, 1)
    scene.pass_time(9.999)
    assert of(scene.commands, commands.Destroy) == []
    scene.pass_time(0.001)
    assert len(of(scene.commands, commands.Destroy)) == 1


def test_a_late_wake_up_within_five_seconds_is_no_suspension() -> None:
    scene = Scene(min_load=100.0, inactivity_timeout=1000.0)
    scene.up(1)
    scene.oversleep(limits.UNRESPONSIVE_AFTER_S + limits.SUSPENDED_AFTER_S)
    assert scene.worker(1).trust.unresponsive
    scene = Scene(min_load=100.0, inactivity_timeout=1000.0)
    scene.up(1)
    scene.oversleep(limits.UNRESPONSIVE_AFTER_S + limits.SUSPENDED_AFTER_S + 1)
    assert not scene.worker(1).trust.unresponsive


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.endpoints[1].free.popitem(),
        lambda state: state.endpoints[1].idle.popitem(),
        lambda state: state.workers.popitem(),
        lambda state: state.reservations.popitem(),
        lambda state: state.reservations[2].__setattr__("worker_id", 99),
        lambda state: state.workers[2].held.clear(),
        lambda state: setattr(state.workers[2], "grant_count", 5),
        lambda state: setattr(state.endpoints[1], "ready_perf", 7.0),
        lambda state: setattr(state.endpoints[1], "slots", 7),
        lambda state: setattr(state.endpoints[1], "awaiting_report", 7),
        lambda state: state.endpoints[2].line.waiting.popitem(),
        lambda state: state.endpoints[2].line.order.clear(),
        lambda state: setattr(state.endpoints[2].line, "overdue_count", 7),
        lambda state: state.mark_dirty(1),
        lambda state: setattr(state.workergroups[1], "booting", 7),
    ],
)
def test_invariants_see_a_table_that_contradicts_another(spoil: Callable[[EngineState], object]) -> None:
    scene = Scene()
    scene.serve(2)
    scene.finishes(1, 1)
    scene.send(events.EndpointPut(2, "without workergroups", scene.parameters))
    scene.ask(3, endpoint_id=2)
    invariants.check(scene.engine)
    spoiled = copy.deepcopy(scene.engine)
    spoil(spoiled.state)
    with pytest.raises(InvariantBroken):
        invariants.check(spoiled)


def test_a_parameter_out_of_its_bounds_is_named() -> None:
    with pytest.raises(ParameterError, match=r"target_util is 1\.5, and must be from 0\.01 to 1") as caught:
        Parameters(target_util=1.5)
    assert caught.value.name == "target_util"
    with pytest.raises(ParameterError, match="min_load must be a number"):
        Parameters(min_load=float("nan"))
    for wrong in (
        {"perf": 0.0},
        {"occupancy": 0},
        {"price_per_hour": -1.0},
        {"boot_timeout_s": 0.0},
        {"max_workers": -1},
    ):
        (name,) = wrong
        with pytest.raises(ParameterError) as refused:
            WorkergroupSpec(1, 1, "f", **wrong)
        assert refused.value.name == name


def test_the_bounds_themselves_are_allowed() -> None:
    WorkergroupSpec(1, 1, "f", perf=1e9, occupancy=1, price_per_hour=1e6, max_workers=0, boot_timeout_s=1e6)
    WorkergroupSpec(1, 1, "f", price_per_hour=0.0)
    for name, bounds in BOUNDS.items():
        for bound in bounds:
            changed: dict[str, Any] = {name: bound}
            assert getattr(replace(TESTED_PARAMETERS, **changed), name) == bound


def test_a_snapshot_reads_plainly() -> None:
    scene = Scene(max_workers=2)
    scene.serve(2)
    scene.ask(3)
    (endpoint,) = views.endpoints(scene.engine)
    assert endpoint == views.endpoint(scene.engine, 1)
    assert views.endpoint(scene.engine, 9) is None
    assert endpoint.wanted.places == 1
    assert endpoint.observed == views.Observed(ready=0, held=2, perf=200.0)
    assert endpoint.workers == {"held": 2}
    assert endpoint.why_code == Blocker.AT_CAP.value
    assert "max_workers is 2" in endpoint.why
    assert [worker.request_idxs for worker in views.workers(scene.engine, 1)] == [(1,), (2,)]
    assert views.workers(scene.engine, 9) == []
    assert [waiter.request_idx for waiter in views.waiters(scene.engine, 1)] == [3]
    assert views.waiters(scene.engine, 9) == []


def test_an_event_is_taken_in_by_its_kind() -> None:
    scene = Scene()
    assert scene.send(events.TimePassed()) == []


@pytest.mark.promise("P14")
def test_reminders_of_one_worker_do_not_multiply() -> None:
    scene = Scene(min_load=100.0)
    scene.up(1)
    for _ in range(50):
        scene.pass_time(limits.UNRESPONSIVE_AFTER_S + 1)
        scene.report(1)
    assert len(scene.engine.state.timers) <= 3
