"""What a change would do is what it does; trying it out changes nothing."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from nullworker.core import events
from nullworker.core import views as core_views
from nullworker.core.commands import Create
from nullworker.core.parameters import EndpointState
from nullworker.engine import preview as module
from nullworker.engine.preview import preview, replacement
from nullworker.testing.small_world import ENDPOINT
from nullworker.wire.errors import TooManyError
from tests.unit.views.worlds import BOOT_S, WatchedWorld

if TYPE_CHECKING:
    from nullworker.core.parameters import Parameters


def changed(world: WatchedWorld, **changes: object) -> Parameters:
    return replace(world.engine.state.endpoints[ENDPOINT].parameters, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("min_load", [0.0, 100.0, 250.0])
def test_it_says_what_then_comes(min_load: float) -> None:
    world = WatchedWorld()
    parameters = changed(world, min_load=min_load)
    before = pickle.dumps(world.engine)
    said = preview(world.engine, ENDPOINT, parameters, world.now)
    assert pickle.dumps(world.engine) == before
    decided = world.send(events.EndpointPut(ENDPOINT, "null", parameters))
    assert said.creates == sum(isinstance(command, Create) for command in decided)


def test_free_workers_that_would_go_are_counted_with_the_time_that_is_left() -> None:
    world = WatchedWorld(min_load=300.0, inactivity_timeout=10.0)
    world.pass_time(BOOT_S + 5)
    said = preview(world.engine, ENDPOINT, changed(world, min_load=100.0), world.now)
    assert (said.creates, said.stops) == (0, 2)
    assert 0 < said.within_s <= 10
    assert said.text.startswith("This would end 2 free workers within ")
    world.send(events.EndpointPut(ENDPOINT, "null", changed(world, min_load=100.0)))
    world.pass_time(said.within_s + 3)
    assert world.running() == 1


def test_held_workers_stay() -> None:
    world = WatchedWorld()
    world.ask(1)
    world.pass_time(BOOT_S + 5)
    said = preview(world.engine, ENDPOINT, changed(world, max_workers=0), world.now)
    assert (said.creates, said.starts, said.stops) == (0, 0, 0)
    assert said.text == "This would create, start and stop nothing now."


def test_a_suspended_endpoint_creates_and_ends_nothing() -> None:
    world = WatchedWorld(min_load=300.0)
    world.pass_time(BOOT_S + 5)
    said = preview(world.engine, ENDPOINT, changed(world, min_load=900.0, state=EndpointState.SUSPENDED), world.now)
    assert (said.creates, said.stops) == (0, 0)


def test_a_worker_of_the_cold_reserve_would_be_started() -> None:
    world = WatchedWorld(cold_workers=2)
    world.pass_time(BOOT_S * 2)
    said = preview(world.engine, ENDPOINT, changed(world, min_load=100.0), world.now)
    assert (said.creates, said.starts) == (0, 1)
    assert said.text == "This would start 1 worker."


def test_an_engine_that_is_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKERS_MAX", -1)
    world = WatchedWorld(min_load=100.0)
    with pytest.raises(TooManyError):
        preview(world.engine, ENDPOINT, changed(world), world.now)


def test_a_replacement_says_what_comes_in_the_worker_s_place() -> None:
    world = WatchedWorld(min_load=100.0)
    world.pass_time(BOOT_S + 5)
    (free,) = core_views.workers(world.engine)
    before = pickle.dumps(world.engine)
    said = replacement(world.engine, free, world.now)
    assert pickle.dumps(world.engine) == before
    assert said.text == "Worker 1 goes with its next report; in its place 1 new worker, within 10 s."
    world.send(events.EndpointPut(ENDPOINT, "null", changed(world, min_load=0.0)))
    world.ask(1)
    world.pass_time(1)
    (held,) = core_views.workers(world.engine)
    said = replacement(world.engine, held, world.now)
    assert said.text.startswith("Worker 1 goes after request 1; no other is wanted now")
