"""An engine of a small world with something to show in each of its metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from nullworker.core import views as core_views
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.engine.decisions import Decisions
from nullworker.engine.dispatchers import Dispatchers
from nullworker.engine.metrics.collector import registry_of
from nullworker.engine.metrics.measurements import Measurements
from nullworker.engine.metrics.sources import MetricSources
from nullworker.engine.usage import Usage
from nullworker.testing.small_world import SmallWorld
from nullworker.views.costs import HELD, IDLE, UNITS
from nullworker.views.feed import feed
from nullworker.views.history import History
from nullworker.wire.types import DispatcherReport, QueueReport

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from nullworker.core.commands import Command
    from nullworker.core.events import Event


class MetricWorld(SmallWorld):
    """A small world whose engine is measured; workers take 40 s to start."""

    def __init__(self) -> None:
        self.history = History()
        self.measurements = Measurements(self.history)
        self.decisions = Decisions(lambda _: 1)
        self.dispatchers = Dispatchers()
        self.usage = Usage(None, {})
        self.refused: Counter[str] = Counter()
        self.limited: Counter[str] = Counter()
        self.spent: Counter[tuple[int, str]] = Counter()
        super().__init__(TESTED_PARAMETERS, boot_s=40.0)

    def send(self, event: Event) -> list[Command]:
        decided = super().send(event)
        changes = core_views.changes(self.engine)
        if changes is not None:
            feed(self.history, self.engine, changes, self.now)
            for worker_id in changes.workers:
                self.usage.changed(worker_id, core_views.worker_record(self.engine, worker_id), self.now)
        for command in decided:
            self.decisions.add(command, self.now)
        self.measurements.decisions.observe(0.00002)
        return decided

    def registry(self) -> CollectorRegistry:
        """What is scraped of it."""
        return registry_of(
            MetricSources(
                self.engine, self.measurements, self.decisions, self.dispatchers, self.usage, self.refused,
                self.limited.copy, self.spent,                lambda: self.now, lambda: 1, lambda: 2, list, "1.2.3",
            )
        )  # fmt: skip


def busy_world() -> MetricWorld:
    """One that has had reservations, calls of its fleet, a refusal and a dispatcher."""
    world = MetricWorld()
    for request_idx in (1, 2, 3):
        world.ask(request_idx)
    world.pass_time(60.0)
    world.close(1)
    world.ask(4)
    world.pass_time(5.0)
    world.measurements.fleet_called("small", "create", "ok", 0.2)
    world.refused["auth_error"] += 1
    world.limited["wrong_keys"] += 1
    world.spent.update({(1, HELD): 3 * UNITS // 2, (9, IDLE): UNITS, (8, IDLE): UNITS})
    queue = QueueReport("redis://h/0?queue=a", "null", 5, 2, 1, 1, want=7, held=3, asked=1, read_s_ago=0.5)
    world.dispatchers.heard(DispatcherReport("host process 1", [queue]), world.now)
    return world
