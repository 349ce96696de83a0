"""Charts that commands draw: demand, workers and waiting over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: More points than this cannot be told apart on paper, and make the file large.
POINTS_MAX = 20_000


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
