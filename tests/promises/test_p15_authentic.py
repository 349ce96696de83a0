"""P15: no state changes by a message that is not authorised for that very object.

Here: what the core does with messages about objects that are not their sender's, or are not there. Who a sender is, the
engine's HTTP surface finds out: tests/integration/engine/test_bad_input.py and test_security.py.
"""

from __future__ import annotations

import pytest

from nullworker.core import commands, events, views
from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec
from nullworker.testing.small_world import ENDPOINT, GROUP, SmallWorld

pytestmark = pytest.mark.promise("P15")

OTHER = 2


def table(world: SmallWorld) -> list[object]:
    """All that the engine knows, but for the time of day."""
    rows = [
        *views.endpoints(world.engine),
        *views.workers(world.engine),
        *views.waiters(world.engine, ENDPOINT),
    ]
    held = sorted(
        (idx, r.stage.value, r.worker_id, r.endpoint_id) for idx, r in world.engine.state.reservations.items()
    )
    return [rows, held, sorted(world.engine.state.endpoints), world.engine.state.next_worker_id]


@pytest.fixture
def world() -> SmallWorld:
    """Request 1 holds worker 1, request 2 holds worker 2; endpoint 2 is somebody else's."""
    world = SmallWorld(TESTED_PARAMETERS)
    world.send(events.EndpointPut(OTHER, "other", TESTED_PARAMETERS))
    world.send(events.WorkergroupPut(WorkergroupSpec(OTHER, OTHER, "small", occupancy=1)))
    world.ask(1)
    world.ask(2)
    world.pass_time(5)
    assert world.holders() == {1: 1, 2: 2}
    world.send(events.TimePassed())  # ages are told as of the last event
    return world


@pytest.mark.parametrize(
    "message",
    [
        events.WorkerReported(99, "http://evil:80", True, "", 100.0, 0.0, ()),
        events.WorkerReported(99, "http://evil:80", True, "it broke", 100.0, 0.0, (1, 2)),
        events.RequestsFinished(99, (events.Finished(1, "Success"),)),
        events.RequestsFinished(2, (events.Finished(1, "Success", 5.0),)),
        events.RequestsFinished(2, (events.Finished(1, "Rejected", 6.0),)),
        events.WorkerJoined(1, OTHER),
        events.WorkerJoined(50, 77),
        events.WaiterGone(77),
        events.WaiterGone(1),
        events.HoldEnded(1),
        events.InstanceStopped(1),
        events.InstanceFailed(1, "destroy", "no"),
        events.InstanceExited(99, "bang"),
        events.InstanceGone(99),
        events.EndpointDeleted(77, force=True),
        events.WorkergroupDeleted(77),
        events.WorkersUpdated(77),
        events.WorkergroupPut(WorkergroupSpec(GROUP, OTHER, "small")),
        events.WorkergroupPut(WorkergroupSpec(5, 77, "small")),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_about_what_is_not_its_senders_changes_nothing(world: SmallWorld, message: events.Event) -> None:
    before = table(world)
    decided = world.send(message)
    assert decided == []
    assert table(world) == before


def test_a_request_of_another_endpoint_is_refused_and_stays_whose_it_is(world: SmallWorld) -> None:
    before = table(world)
    (refusal,) = world.send(events.Asked(OTHER, 1, 100.0))
    assert isinstance(refusal, commands.Refuse)
    assert table(world) == before


def test_a_session_that_a_worker_claims_of_anothers_request_does_not_take_it_away(world: SmallWorld) -> None:
    """It may be true (two workers gave a session): so that worker is not free. But the first one's holder keeps it."""
    claimed = events.WorkerReported(2, "http://worker-2:80", True, "", 100.0, 200.0, (2, 1), received=9)
    world.send(claimed)
    assert world.engine.state.reservations[1].worker_id == 1
    world.send(events.RequestsFinished(2, (events.Finished(1, "Success", 7.0),)))
    assert world.engine.state.reservations[1].worker_id == 1
    assert world.holders() == {1: 1, 2: 2}
