"""An engine whose clock is moved by hand: what tests of anything that decides by the core drive it with.

Time passes as it does in production: `pass_time` stops at each moment that the engine asked to be woken at. After every
event the engine's tables are checked against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nullworker.core import invariants, journal
from nullworker.core.engine import Engine
from nullworker.core.events import TimePassed

if TYPE_CHECKING:
    from nullworker.core.commands import Command
    from nullworker.core.events import Event


class HandClock:
    """An engine and the time. ``journal_lines`` is its journal so far; ``commands`` all that it ever wanted done."""

    def __init__(self, now: float = 1000.0, *, checked: bool = True) -> None:
        self.engine = Engine()
        self.now = now
        self.commands: list[Command] = []
        self.journal_lines: list[str] = []
        self._checked = checked

    def send(self, event: Event) -> list[Command]:
        """Handles one event now, and returns the commands that it led to.

        Raises:
            nullworker.core.invariants.InvariantBroken: the engine's tables contradict each other after it.
        """
        decided = self.engine.handle(event, self.now)
        self.commands += decided
        self.journal_lines.append(journal.encode(event, self.now, decided))
        if self._checked:
            invariants.check(self.engine)
        return decided

    def pass_time(self, seconds: float) -> list[Command]:
        """Lets ``seconds`` pass, waking the engine whenever it wants to be, and returns all commands on the way."""
        end = self.now + seconds
        decided: list[Command] = []
        while (due := self.engine.wake_at()) is not None and due <= end:
            self.now = max(self.now, due)
            decided += self.send(TimePassed())
        self.now = end
        return decided

    def oversleep(self, seconds: float) -> list[Command]:
        """Lets ``seconds`` pass without a single wake-up, as when the machine was suspended; then wakes the engine."""
        self.now += seconds
        return self.send(TimePassed())
