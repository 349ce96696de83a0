"""An endpoint and a queue in numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from nullworker.core import events
from nullworker.core.causes import Blocker
from nullworker.core.engine import Engine
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.views import gauges
from nullworker.views.gauges import REASONS, STATES, endpoint_gauges, queue_gauges
from nullworker.views.types import QueueRow
from tests.unit.views.worlds import BOOT_S, WatchedWorld

if TYPE_CHECKING:
    import pytest

ROW = QueueRow("host process 1", "redis://h/0", "null", 5, 2, 1, 0, False, 7, 3, 2, {}, "", "", (), 1.0, 4.0)


def test_an_endpoint_that_nothing_happened_at_has_zeros_for_all_that_may_be() -> None:
    world = WatchedWorld()
    (found,) = endpoint_gauges(world.engine, world.now)
    assert found.workers == dict.fromkeys(STATES, 0)
    assert found.waiting == dict.fromkeys(REASONS, 0)
    assert (found.wanted, found.requested, found.oldest_s) == (0, 0, 0.0)


def test_waiters_are_counted_by_why_they_wait_and_workers_by_state() -> None:
    world = WatchedWorld(max_workers=2)
    for request_idx in (1, 2, 3):
        world.ask(request_idx)
    world.pass_time(5.0)
    (found,) = endpoint_gauges(world.engine, world.now)
    assert sum(found.waiting.values()) == 3
    assert found.waiting["coming_up"] == 3
    assert sum(found.workers.values()) == 2
    assert (found.wanted, found.requested, found.max_workers) == (3, 2, 2)
    assert found.oldest_s == 5.0
    world.pass_time(BOOT_S)
    (found,) = endpoint_gauges(world.engine, world.now)
    assert found.workers["held"] == 2
    assert found.waiting["at_cap"] + found.waiting["client_silent"] == 1


def test_waiters_whose_clients_do_not_ask_are_counted_apart() -> None:
    engine = Engine()
    for event in (
        events.EndpointPut(1, "null", replace(TESTED_PARAMETERS, max_workers=0)),
        events.Asked(1, 1, 100.0),
        events.Asked(1, 2, 100.0),
        events.HoldEnded(1),
    ):
        engine.handle(event, 1_000.0)
    engine.handle(events.TimePassed(), 1_010.0)
    (found,) = endpoint_gauges(engine, 1_010.0)
    assert {reason: count for reason, count in found.waiting.items() if count} == {
        "client_silent": 1,
        "no_workergroup": 1,
    }
    assert found.oldest_s == 10.0


def test_every_reason_is_a_code_of_the_core() -> None:
    assert set(REASONS) < {blocker.value for blocker in Blocker}


def test_two_dispatchers_of_one_queue_are_one_queue_with_the_later_reading() -> None:
    other = replace_row(
        dispatcher="host process 2", waiting=9, want=1, held=1, asked=0, read_s_ago=0.2, heard_s_ago=9.0
    )
    (found,) = queue_gauges([ROW, other])
    assert (found.waiting, found.read_s_ago, found.heard_s_ago) == (9, 0.2, 4.0)
    assert (found.wanted, found.held, found.requested) == (8, 3, 3)


def test_queues_of_two_endpoints_are_two_and_there_is_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(queue_gauges([ROW, replace_row(endpoint="other")])) == 2
    monkeypatch.setattr(gauges, "QUEUES_MAX", 3)
    assert len(queue_gauges([replace_row(queue=f"redis://h/{number}") for number in range(5)])) == 3


def replace_row(**changes: object) -> QueueRow:
    return msgspec.structs.replace(ROW, **changes)
