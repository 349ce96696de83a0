"""Seconds of workers by workergroup and state."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from nullworker.core import events, views
from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec
from nullworker.engine import usage
from nullworker.engine.store import Store
from nullworker.engine.usage import Usage
from nullworker.testing.clock import HandClock

if TYPE_CHECKING:
    from pathlib import Path

GROUP = 2


class Counted(HandClock):
    """An engine with a worker, and what is counted of it."""

    def __init__(self, counted: Usage) -> None:
        super().__init__()
        self.usage = counted
        self.handle(events.EndpointPut(1, "e", TESTED_PARAMETERS))
        self.handle(events.WorkergroupPut(WorkergroupSpec(GROUP, 1, "f", occupancy=1)))
        self.handle(events.Asked(1, 1, 100.0))

    def handle(self, event: events.Event) -> None:
        self.send(event)
        self.usage.pass_time(self.now)
        changes = views.changes(self.engine)
        for worker_id in () if changes is None else changes.workers:
            self.usage.changed(worker_id, views.worker_record(self.engine, worker_id), self.now)

    def later(self, seconds: float, event: events.Event) -> None:
        self.now += seconds
        self.handle(event)


def ready(*held: int) -> events.WorkerReported:
    return events.WorkerReported(1, "http://w:1", True, "", 100.0, 0.0, held, received=len(held))


def test_each_state_is_counted_for_as_long_as_it_lasts() -> None:
    life = Counted(Usage(None, {(GROUP, "held"): 5.0}))
    life.later(1.0, events.InstanceCreated(1))
    life.later(2.0, ready())  # and is granted at once
    life.later(3.0, ready(1))
    assert life.usage.by_group(life.now + 1.0) == {GROUP: {"asked": 1.0, "creating": 2.0, "held": 9.0}}
    life.later(1.0, events.InstanceExited(1, "exit code 1"))
    life.later(10.0, events.InstanceGone(1))
    assert life.usage.by_group(life.now + 100.0)[GROUP]["destroying"] == 10.0


def test_what_lasts_is_written_down_now_and_then(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "engine.db")) as store:
        life = Counted(Usage(store, {}))
        life.later(1.0, ready())
        life.later(usage.SETTLE_PERIOD_S, events.TimePassed())
        life.later(usage.SETTLE_PERIOD_S, events.TimePassed())
        assert store.load().usage[GROUP, "held"] >= usage.SETTLE_PERIOD_S
        assert life.usage.by_group(life.now) == {GROUP: {"asked": 1.0, "held": 2 * usage.SETTLE_PERIOD_S}}
