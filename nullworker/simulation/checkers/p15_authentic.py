"""P15: no state changes by a message about an object that is not its sender's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core.commands import Refuse
from nullworker.simulation.observer import Checker

if TYPE_CHECKING:
    from nullworker.core import events
    from nullworker.core.commands import Command
    from nullworker.core.engine import Engine
    from nullworker.simulation.truth import Truth


class Authentic(Checker):
    """Looks at what a forged message led to: a refusal at most."""

    promise = "P15"

    def __init__(self, truth: Truth) -> None:
        super().__init__(truth)
        self._forged = False

    def engine_killed(self) -> None:
        self._forged = False

    def about_to_forge(self) -> None:
        self._forged = True

    def handled(self, engine: Engine, event: events.Event, decided: list[Command]) -> None:
        if not self._forged:
            return
        self._forged = False
        wanted = [command for command in decided if not isinstance(command, Refuse)]
        self.require(not wanted, f"a forged {type(event).__name__} led to {wanted}")
        changed = [*engine.state.changed_workers, *engine.state.changed_reservations]
        self.require(not changed, f"a forged {type(event).__name__} changed {changed}")
