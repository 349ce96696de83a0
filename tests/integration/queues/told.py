"""What docs/queues.md says that a queue tells, compared with what the conformance kit saw of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nullworker.testing.queues import CheckResult, QueueDriver

PAGE = Path(__file__).parents[3] / "docs" / "queues.md"
BEGIN = "| Kind | "


def rows() -> dict[str, list[str]]:
    """The rows of the page's table of what each queue tells, by kind of queue."""
    lines = iter(PAGE.read_text().splitlines())
    for line in lines:
        if line.startswith(BEGIN):
            break
    next(lines)
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        kind, *cells = (cell.strip() for cell in line.strip("|").split(" | "))
        found[kind.strip("`")] = cells
    return found


def named_kinds() -> set[str]:
    """The kinds of queues of which the page says that they tell which consumer has which job."""
    section = PAGE.read_text().partition("## Which job a reservation is for")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))


def check_told(driver: QueueDriver, result: CheckResult) -> None:
    """The page says what was seen: what is known of what is in flight, and how a dead consumer's job shows."""
    assert (result.info.kind in named_kinds()) == driver.names_consumers
    in_flight, left, _, _ = rows()[result.info.kind]
    if driver.tells_in_flight:
        assert in_flight != "unknown", f"{result.info.kind}: what is in flight is known"
    else:
        assert "unknown" in in_flight, f"{result.info.kind}: what is in flight is unknown here"
    assert result.left in left if result.left else "lost" in left, (
        f"{result.info.kind}: the job of a dead consumer showed as {result.left or 'lost'}, not as {left}"
    )
