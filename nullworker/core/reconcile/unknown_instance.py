"""An instance that a fleet lists under our mark and that the engine does not know, for the store lost it."""

from __future__ import annotations

from dataclasses import dataclass

from nullworker.core import limits


@dataclass(slots=True, eq=False)
class UnknownInstance:
    """What is known of one."""

    since: float  # when a list first showed it
    held_at: float | None = None  # when it last reported that it holds something; None: its last report lists nothing
    kept: bool = False  # whether it was recorded that it is left alone because it holds something

    def holds(self, now: float) -> bool:
        """Whether it holds something by its own report. After as long a silence as ends a known one, it does not."""
        return self.held_at is not None and now - self.held_at < limits.SILENCE_FAILS_HELD_S
