"""Charts that commands draw: demand, workers and waiting over time; what choices cost, and how long they let wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

#: More points than this cannot be told apart on paper, and make the file large.
POINTS_MAX = 20_000


class Choice(NamedTuple):
    """A set of parameters, or a rival's rule, and its outcome."""

    label: str  # "" for one that is not to be named
    cost: float
    wait_s: float
    marked: bool  # on the frontier, or ours
    kills: bool


def draw_timeline(timeline: Sequence[tuple[float, int, int, int]], path: Path) -> None:
    """Draws (at_s, demand, workers, waiting) into ``path``, a PNG or SVG by its ending.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    step = max(1, len(timeline) // POINTS_MAX)
    points = timeline[::step]
    hours = [at_s / 3600 for at_s, *_ in points]
    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, figsize=(10, 5), height_ratios=(2, 1))
    top.step(hours, [demand for _, demand, _, _ in points], where="post", label="demand", color="#b0413e", linewidth=1)
    top.step(
        hours, [workers for _, _, workers, _ in points], where="post", label="workers", color="#2f6f4f", linewidth=1
    )
    top.set_ylabel("count")
    top.legend(loc="upper left", fontsize=8)
    bottom.step(hours, [waiting for _, _, _, waiting in points], where="post", color="#e8a33a", linewidth=1)
    bottom.set_ylabel("waiting")
    bottom.set_xlabel("hours")
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)


def draw_choices(panels: Mapping[str, Sequence[Choice]], cost: str, path: Path) -> None:
    """Draws each choice by what it costs (``cost`` says in what) and its p95 wait in seconds, a panel for each trace.

    What kills jobs is a cross, what is marked a diamond.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(1, len(panels), figsize=(max(7.0, 4.0 * len(panels)), 5), squeeze=False)
    for axes, (name, choices) in zip(grid[0], panels.items(), strict=True):
        for place, choice in enumerate(choices):
            axes.plot(
                choice.cost,
                choice.wait_s,
                "X" if choice.kills else "D" if choice.marked else "o",
                color=f"C{place % 10}" if choice.label else "#bbbbbb",
                markersize=9 if choice.marked else 6,
                label=choice.label,
                alpha=0.8,
            )
        # Rules that kill start jobs again and again: they are orders of magnitude from the rest.
        if max(c.cost for c in choices) > 20 * min(c.cost for c in choices) > 0:
            axes.set_xscale("log")
        if max(c.wait_s for c in choices) > 20 * min(c.wait_s for c in choices):
            axes.set_yscale("symlog", linthresh=1.0)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(cost)
        axes.margins(0.1)
    grid[0][0].set_ylabel("p95 wait, s")
    grid[0][-1].legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=8)
    figure.savefig(path, bbox_inches="tight")
    plt.close(figure)
