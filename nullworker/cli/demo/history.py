"""What happened during the demo: the engine's state at every moment that it was looked at, and its sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

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

    def draw(self, path: Path) -> None:
        """Draws workers and reservations over time into ``path`` (SVG or PNG, by its ending)."""
        import matplotlib as mpl

        mpl.use("Agg")
        import matplotlib.pyplot as plt

        at = [m.at_s for m in self.moments]
        figure, (workers, jobs) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), height_ratios=(2, 1))
        workers.stackplot(
            at,
            [m.held for m in self.moments],
            [m.ready for m in self.moments],
            [m.booting for m in self.moments],
            labels=("held", "free", "booting"),
            colors=("#2f6f4f", "#9fd3b5", "#e8c35a"),
            step="post",
        )
        workers.step(at, [m.waiters for m in self.moments], "k--", where="post", linewidth=1, label="waiting for one")
        workers.set_ylabel("workers")
        workers.yaxis.get_major_locator().set_params(integer=True)
        workers.legend(loc="upper right", fontsize=8)
        jobs.step(at, [m.waiting_jobs for m in self.moments], where="post", color="#b0413e", label="waiting")
        jobs.step(at, [m.done for m in self.moments], where="post", color="#2f6f4f", label="done")
        jobs.set_ylabel("jobs")
        jobs.set_xlabel("seconds")
        jobs.legend(loc="center right", fontsize=8)
        figure.suptitle("One worker for each job in flight, from zero and back")
        figure.savefig(path, bbox_inches="tight")
        plt.close(figure)
