"""The demo's picture of workers and jobs over time, as SVG, written without a library: it is two charts of steps."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from nullworker.cli.demo.history import Moment

WIDTH, HEIGHT = 900, 520
LEFT, RIGHT = 60, 880
#: Top and bottom of the two charts. The legends are above the charts, where they hide nothing.
WORKERS, JOBS = (80, 310), (370, 470)
GREEN, LIGHT_GREEN, YELLOW, RED = "#2f6f4f", "#9fd3b5", "#e8c35a", "#b0413e"
GRID_LINES_MAX = 6

#: From the bottom of the stack to its top.
STACK = (("held", "held", GREEN), ("free", "ready", LIGHT_GREEN), ("booting", "booting", YELLOW))


def timeline(moments: Sequence[Moment]) -> str:
    """The picture of moments in their order; an empty one of none."""
    end_s = max((m.at_s for m in moments), default=0.0) or 1.0
    workers_most = max((m.held + m.ready + m.booting for m in moments), default=0)
    workers_most = max(1, workers_most, *(m.waiters for m in moments)) if moments else 1
    jobs_most = max(1, *(max(m.waiting_jobs, m.done) for m in moments)) if moments else 1

    def x_of(at_s: float) -> float:
        return LEFT + (RIGHT - LEFT) * at_s / end_s

    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 24, "One worker for each job in flight, from zero and back", size=16, anchor="middle"),
    ]
    y_workers, y_jobs = _scale(WORKERS, workers_most), _scale(JOBS, jobs_most)
    parts += _grid(WORKERS, workers_most, y_workers, "workers") + _grid(JOBS, jobs_most, y_jobs, "jobs")
    below = [0] * len(moments)
    for _, name, colour in STACK:
        above = [low + int(getattr(m, name)) for low, m in zip(below, moments, strict=True)]
        upper = _steps(moments, above, x_of, y_workers)
        lower = list(reversed(_steps(moments, below, x_of, y_workers)))
        parts.append(f'<polygon points="{" ".join(upper + lower)}" fill="{colour}"/>')
        below = above
    lines = (
        ([m.waiters for m in moments], y_workers, "black", ' stroke-dasharray="4 3"'),
        ([m.waiting_jobs for m in moments], y_jobs, RED, ""),
        ([m.done for m in moments], y_jobs, GREEN, ""),
    )
    for values, y_of, colour, style in lines:
        points = " ".join(_steps(moments, values, x_of, y_of))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"{style}/>')
    parts += _legend([(label, colour) for label, _, colour in STACK] + [("waiting for a worker", "black")], WORKERS[0])
    parts += _legend([("waiting", RED), ("done", GREEN)], JOBS[0])
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(_text(x_of(end_s * share), JOBS[1] + 18, f"{end_s * share:.0f}", anchor="middle"))
    parts.append(_text((LEFT + RIGHT) / 2, JOBS[1] + 38, "seconds", anchor="middle"))
    return "\n".join([*parts, "</svg>", ""])


def draw(moments: Sequence[Moment], path: Path) -> None:
    """Writes the picture into a file."""
    path.write_text(timeline(moments), encoding="utf-8")


def _scale(chart: tuple[int, int], most: int) -> Callable[[float], float]:
    top, bottom = chart
    return lambda value: bottom - (bottom - top) * value / most


def _steps(
    moments: Sequence[Moment], values: Sequence[float], x_of: Callable[[float], float], y_of: Callable[[float], float]
) -> list[str]:
    """Points of a line in which each value lasts until the next moment; only where it changes, and at both ends."""
    points = []
    for index, (moment, value) in enumerate(zip(moments, values, strict=True)):
        is_last = index == len(moments) - 1
        if index and (value != values[index - 1] or is_last):
            points.append(f"{x_of(moment.at_s):.1f},{y_of(values[index - 1]):.1f}")
        if not index or value != values[index - 1]:
            points.append(f"{x_of(moment.at_s):.1f},{y_of(value):.1f}")
    return points


def _grid(chart: tuple[int, int], most: int, y_of: Callable[[float], float], label: str) -> list[str]:
    step = max(1, -(-most // GRID_LINES_MAX))
    parts = []
    for value in range(0, most + 1, step):
        y = y_of(value)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 8, y + 4, str(value), anchor="end"))
    middle = (chart[0] + chart[1]) / 2
    turned = f'transform="translate(20 {middle:.0f}) rotate(-90)"'
    parts.append(f'<text {turned} font-size="12" text-anchor="middle">{escape(label)}</text>')
    return parts


def _legend(entries: Sequence[tuple[str, str]], top: int) -> list[str]:
    parts, x, y = [], LEFT, top - 18
    for label, colour in entries:
        parts.append(f'<rect x="{x}" y="{y - 9}" width="12" height="10" fill="{colour}"/>')
        parts.append(_text(x + 17, y, label))
        x += 40 + 7 * len(label)
    return parts


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(text)}</text>'
