"""Writes the tables of docs/simulation.md: faults, planted bugs and what caught them, the record of the soaks.

python -m docs.tools.simulation_figures
"""

from __future__ import annotations

import json
import re

from docs.tools import tables
from nullworker.simulation.scenarios import SCENARIOS
from tests.simulation.mutants import CAUGHT
from tests.simulation.mutations import MUTATIONS
from tests.simulation.plants import place_of

PAGE = tables.ROOT / "docs" / "simulation.md"
FAULTS = tables.ROOT / "nullworker" / "simulation" / "faults.py"
SOAK = tables.ROOT / "docs" / "soak.json"


def faults() -> list[str]:
    """What can go wrong, as the source says it."""
    rows = ["| Where | Fault | What it is |", "| --- | --- | --- |"]
    where = ""
    for line in FAULTS.read_text().splitlines():
        heading = re.fullmatch(r"    # --- (.*)", line)
        fault = re.fullmatch(r"    (\w+): float = 0\.0(?:  # (.*))?", line)
        if heading:
            where = heading[1]
        elif fault:
            rows.append(f"| {where} | `{fault[1]}` | {fault[2] or 'as its name says'} |")
    return rows


def scenarios() -> list[str]:
    """The kinds of worlds."""
    rows = ["| Scenario | What it is |", "| --- | --- |"]
    return rows + [f"| `{name}` | {scenario.about} |" for name, scenario in SCENARIOS.items()]


def bugs() -> list[str]:
    """What was planted, and what caught it."""
    found = json.loads(CAUGHT.read_text())
    rows = ["| Planted in the core | File | Caught by | Scenario | Seed |", "| --- | --- | --- | --- | --- |"]
    for mutation in MUTATIONS:
        caught = found[mutation.name]
        by = {"invariant": "the tables' invariants", "error": "an impossible step"}.get(
            caught["promise"], caught["promise"]
        )
        file = place_of(mutation.changes[0]).path.name
        rows.append(f"| {mutation.name} | `{file}` | {by} | `{caught['scenario']}` | {caught['seed']} |")
    return rows


def soak() -> list[str]:
    """The record of the soaks."""
    record = json.loads(SOAK.read_text())
    last = record["last_soak"]
    rows = [
        "| | All soaks | The last one |",
        "| --- | --- | --- |",
        f"| seeds | {record['seeds']:,} | {last['seeds']:,} |",
        f"| fleet-years | {record['fleet_years']:.3f} | {last['fleet_years']:.3f} |",
        f"| events that a core handled | {record['events']:,} | {last['events']:,} |",
        f"| events a second of a core's time | {record['events_per_cpu_s']:,} | {last['events_per_cpu_s']:,} |",
        f"| times real time, a core | {record['times_real_time_a_core']:,} | {last['times_real_time_a_core']:,} |",
        f"| failures | {len(record['failures'])} | {last['failures']} |",
    ]
    if record["failures"]:
        failure = record["failures"][-1]
        rows += ["", f"The last failure ({failure['on']}):", "", "```", failure["what"], "```"]
    return rows


TABLES = {"faults": faults, "scenarios": scenarios, "bugs": bugs, "soak": soak}


def filled(page: str) -> str:
    """The page with every table made again."""
    return tables.filled(page, "simulation_figures", TABLES)


if __name__ == "__main__":
    tables.write(PAGE, filled(PAGE.read_text()))
