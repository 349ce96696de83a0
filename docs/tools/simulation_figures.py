"""Writes the tables of docs/simulation.md: faults, planted bugs and what caught them, the record of the soaks.

python -m docs.tools.simulation_figures
"""

from __future__ import annotations

import json
import re

from docs.tools import tables
from nullworker.simulation.queueing.checkers import SOMETIMES
from nullworker.simulation.scenarios import SCENARIOS
from tests.simulation import queueing_mutants
from tests.simulation.mutants import CAUGHT
from tests.simulation.mutations import MUTATIONS
from tests.simulation.plants import DEMAND, place_of
from tests.simulation.queueing_mutations import QUEUEING_MUTATIONS

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


def sometimes() -> list[str]:
    """What must occur in some of the dispatcher's worlds."""
    return ["| What | When |", "| --- | --- |", *(f"| {name} | {when} |" for name, when in SOMETIMES.items())]


def demand() -> list[str]:
    """What was planted in `nullworker.demand`, and what caught it."""
    found = json.loads(queueing_mutants.CAUGHT.read_text())
    rows = ["| Planted in `nullworker.demand` | File | Seed | What the checker said |", "| --- | --- | --- | --- |"]
    for mutation in QUEUEING_MUTATIONS:
        caught = found[mutation.name]
        file = place_of(mutation.changes[0], DEMAND).path.name
        rows.append(f"| {mutation.name} | `{file}` | {caught['seed']} | {caught['message']} |")
    return rows


def soak() -> list[str]:
    """The record of the soaks: of the code that the last of them ran, and of all."""
    record = json.loads(SOAK.read_text())
    nothing = {"seeds": 0, "fleet_years": 0.0, "events": 0, "events_per_cpu_s": 0, "times_real_time_a_core": 0}
    of_code = record.get("on_this_code", {**nothing, "failures": 0})
    rows = [
        f"| | On the code {record.get('code', 'as it is now')} | All soaks |",
        "| --- | --- | --- |",
        f"| seeds | {of_code['seeds']:,} | {record['seeds']:,} |",
        f"| fleet-years | {of_code['fleet_years']:.3f} | {record['fleet_years']:.3f} |",
        f"| events that a core handled | {of_code['events']:,} | {record['events']:,} |",
        f"| events a second of a core's time | {of_code['events_per_cpu_s']:,} | {record['events_per_cpu_s']:,} |",
        f"| times real time, a core | {of_code['times_real_time_a_core']:,} | {record['times_real_time_a_core']:,} |",
        f"| failures | {of_code['failures']} | {len(record['failures'])} |",
    ]
    if record["failures"]:
        failure = record["failures"][-1]
        rows += ["", f"The last failure ({failure['on']}):", "", "```", failure["what"], "```"]
    return rows


TABLES = {
    "faults": faults,
    "scenarios": scenarios,
    "bugs": bugs,
    "soak": soak,
    "sometimes": sometimes,
    "demand": demand,
}


def filled(page: str) -> str:
    """The page with every table made again."""
    return tables.filled(page, "simulation_figures", TABLES)


if __name__ == "__main__":
    tables.write(PAGE, filled(PAGE.read_text()))
