"""A small world whose history is kept: what the tests of views are made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nullworker.core import views as core_views
from nullworker.core.parameters import TESTED_PARAMETERS
from nullworker.testing.clock import HandClock
from nullworker.testing.small_world import ENDPOINT, SmallWorld
from nullworker.views.build import Sources
from nullworker.views.feed import feed
from nullworker.views.history import History

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.events import Event

#: Unix time of the world's second 0.
EPOCH_S = 1_700_000_000.0
BOOT_S = 40.0


class Watched(HandClock):
    """Tells a history of every event."""

    history: History

    def send(self, event: Event) -> list[Command]:
        decided = super().send(event)
        changes = core_views.changes(self.engine)
        if changes is not None:
            feed(self.history, self.engine, changes, EPOCH_S + self.now)
        return decided


class WatchedWorld(SmallWorld, Watched):
    """A small world, and its history; workers take 40 s to start."""

    def __init__(self, **parameters: Any) -> None:
        self.history = History()
        super().__init__(replace(TESTED_PARAMETERS, **parameters), boot_s=BOOT_S)

    @property
    def wall_s(self) -> float:
        return EPOCH_S + self.now

    @property
    def sources(self) -> Sources:
        return Sources(
            self.engine,
            self.history,
            lambda _: self.engine.state.endpoints[ENDPOINT].parameters,
            lambda endpoint_id: "null" if endpoint_id == ENDPOINT else "",
            self.wall_s,
            self.now,
        )
