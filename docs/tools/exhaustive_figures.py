"""Writes the tables of docs/exhaustive.md: the scopes, the last walk, and the planted bugs that are found.

nullworker simulate --exhaustive --states 100000 --json > docs/exhaustive.json
python -m docs.tools.exhaustive_figures
"""

from __future__ import annotations

import json

from docs.tools import tables
from nullworker.simulation.exhaustive.scope import SCOPES
from tests.simulation.exhaustive_bugs import ALL, CAUGHT

PAGE = tables.ROOT / "docs" / "exhaustive.md"
WALKS = tables.ROOT / "docs" / "exhaustive.json"


def scopes() -> list[str]:
    """The worlds."""
    rows = ["| Scope | What it is | Clients | What may go wrong |", "| --- | --- | --- | --- |"]
    return rows + [
        f"| `{name}` | {scope.about} | {scope.clients} | {', '.join(scope.faults) or 'nothing'} |"
        for name, scope in SCOPES.items()
    ]


def walks() -> list[str]:
    """The last walk."""
    walked = json.loads(WALKS.read_text())
    columns = ("Scope", "States", "Transitions", "All to depth", "Followed to rest", "in moves", "CPU s")
    columns += ("Moves a second", "Broken")
    rows = [
        f"On the code `{' '.join(sorted({row['code'] for row in walked}))}`:",
        "",
        f"| {' | '.join(columns)} |",
        f"| {' | '.join('---' for _ in columns)} |",
    ]
    for row in walked:
        cells = (
            f"`{row['scope']}`",
            *[f"{row[each]:,}" for each in ("states", "transitions", "depth", "settled", "settling_moves")],
            f"{row['cpu_s']}",
            f"{row['moves_per_s']:,}",
            row["broken"] or "none",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def bugs() -> list[str]:
    """What was planted, and what was found of it."""
    found = json.loads(CAUGHT.read_text())
    count = sum(caught is not None for caught in found.values())
    rows = [f"{count} of the {len(found)} that were hunted are found:", ""]
    rows += [
        "| Planted in the core | Found | Broken | Scope | Moves | States |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for mutation in [mutation for mutation in ALL if mutation.name in found]:
        caught = found[mutation.name]
        if caught is None:
            rows.append(f"| {mutation.name} | no | | | | |")
            continue
        by = {"invariant": "the tables' invariants", "error": "an impossible step"}.get(
            caught["promise"], caught["promise"]
        )
        rows.append(
            f"| {mutation.name} | yes | {by} | `{caught['scope']}` | {caught['steps']} | {caught['states']:,} |"
        )
    return rows


TABLES = {"scopes": scopes, "walks": walks, "bugs": bugs}


def filled(page: str) -> str:
    """The page with every table made again."""
    return tables.filled(page, "exhaustive_figures", TABLES)


if __name__ == "__main__":
    tables.write(PAGE, filled(PAGE.read_text()))
