"""What happened during the demo: the engine's state at every moment that it was looked at, and its sums."""

from __future__ import annotations

from dataclasses import dataclass, field

BOOTING = ("asked", "creating", "loading", "starting")
LEAVING = ("draining", "stopping", "inactive", "destroying", "error")


@dataclass(frozen=True, slots=True)
class Moment:
    """The state at one moment; ``at_s`` from the demo's beginning."""

    at_s: float
    waiting_jobs: int
    waiters: int
    booting: int
    ready: int
    held: int
    leaving: int
    done: int


@dataclass(slots=True)
class History:
    """Moments in order; between two, the earlier one lasts."""

    moments: list[Moment] = field(default_factory=list)

    def add(self, moment: Moment) -> None:
        """Keeps a moment."""
        self.moments.append(moment)

    def _seconds(self, name: str) -> float:
        pairs = zip(self.moments, self.moments[1:], strict=False)
        return sum(float(getattr(a, name)) * (b.at_s - a.at_s) for a, b in pairs)

    @property
    def held_s(self) -> float:
        """Worker-seconds held."""
        return self._seconds("held")

    @property
    def idle_s(self) -> float:
        """Worker-seconds ready and free."""
        return self._seconds("ready")

    @property
    def booting_s(self) -> float:
        """Worker-seconds on the way to ready."""
        return self._seconds("booting")

    @property
    def peak_workers(self) -> int:
        """The most workers that were active or booting at once."""
        return max((m.booting + m.ready + m.held for m in self.moments), default=0)
