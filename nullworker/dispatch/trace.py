"""Writes a trace for ``nullworker simulate``: when each reservation was requested and for how long it was held."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write_trace(path: Path, rows: Sequence[tuple[float, float]]) -> None:
    """Writes a CSV with ``arrival_s``, in seconds from the first, and ``duration_s``; replaces the file in one step.

    Args:
        path: the file.
        rows: Unix time of the request and seconds held of each reservation, in the order of the requests.

    Raises:
        OSError: it cannot be written.
    """
    unfinished = path.with_name(path.name + ".part")
    with unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("arrival_s", "duration_s"))
        for asked_at_s, held_s in rows:
            writer.writerow((f"{asked_at_s - rows[0][0]:.3f}", f"{held_s:.3f}"))
    unfinished.replace(path)
