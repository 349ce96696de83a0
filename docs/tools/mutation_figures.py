"""Writes the tables of docs/mutation.md: the scores, the bugs that were planted and drawn, and what notices each.

python -m tools.mutation --planted --seed 10 --keep docs/mutation.json
python -m docs.tools.mutation_figures
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from docs.tools import tables
from docs.tools.mutation_equivalent import EQUIVALENT
from tests.simulation import exhaustive_bugs, mutants
from tests.simulation.mutations import HELD_OUT, MUTATIONS, SHOWN_BY_JOURNAL

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = tables.ROOT / "docs" / "mutation.md"
RECORD = tables.ROOT / "docs" / "mutation.json"
NETS = ("unit", "simulator", "exhaustive")
#: Modules that decide nothing: they show, record and read what the others decide. Only unit tests look at them.
READING = frozenset({"explain", "views", "journal"})

Entries = dict[str, dict[str, Any]]


def generated() -> Entries:
    """Bugs that were drawn at random. Some were tried on the unit tests alone."""
    entries: Entries = json.loads(RECORD.read_text())["generated"]
    return entries


def planted() -> Entries:
    """Bugs that were planted by hand. What the simulator and the walk find of the first ones is kept with them."""
    record: Entries = json.loads(RECORD.read_text())["planted"]
    simulated, walked = json.loads(mutants.CAUGHT.read_text()), json.loads(exhaustive_bugs.CAUGHT.read_text())
    simulated |= {bug.name: None for bug in SHOWN_BY_JOURNAL}  # no seed that was tried shows them
    entries = {}
    for bug in (*MUTATIONS, *SHOWN_BY_JOURNAL):
        tried = {"unit": record[bug.name]["unit"]}
        for net, found in (("simulator", simulated), ("exhaustive", walked)):
            if bug.name in found:
                tried[net] = found[bug.name]
        entries[bug.name] = tried
    return entries


def held_out() -> Entries:
    """Bugs that were planted by others."""
    record: Entries = json.loads(RECORD.read_text())["planted"]
    return {bug.name: record[bug.name] for bug in HELD_OUT}


def scores() -> list[str]:
    """How many of the bugs each net notices, apart from the others."""
    drawn = generated()
    mistakes = {name: entry for name, entry in drawn.items() if name not in EQUIVALENT}
    deciding = {name: entry for name, entry in mistakes.items() if entry["mutant"]["module"] not in READING}
    rows = ["| Bugs | Unit tests | Simulator | Walk | Any |", "| --- | --- | --- | --- | --- |"]
    for title, entries in (
        ("planted by us", planted()),
        ("planted by others", held_out()),
        ("drawn at random", drawn),
        ("of these, no equivalent ones", mistakes),
        ("of these, in modules that decide", deciding),
    ):
        tried = {net: [entry[net] for entry in entries.values() if net in entry] for net in NETS}
        tried["any"] = [any(entry.get(net) for net in NETS) or None for entry in entries.values()]
        rows.append(f"| {title} | {' | '.join(_share(verdicts) for verdicts in tried.values())} |")
    return rows


def _share(verdicts: Sequence[object]) -> str:
    caught = sum(verdict is not None for verdict in verdicts)
    return f"{caught} of {len(verdicts)} ({100 * caught // len(verdicts)} %)" if verdicts else "not tried"


def _cell(verdict: dict[str, Any] | None) -> str:
    if verdict is None:
        return "no"
    if "test" in verdict:
        return f"`{verdict['test'].rpartition('/')[2].partition('::')[0]}`"
    if "limit" in verdict:
        return "never ends"
    by = {"invariant": "invariants", "error": "exception"}.get(verdict["promise"], verdict["promise"])
    where = verdict.get("scenario", verdict.get("scope"))
    return f"{by}, `{where}`" if where else by


def _rows(entries: Entries, *, of_code: bool = False) -> list[str]:
    rows = ["| Bug | Unit tests | Simulator | Walk |", "| --- | --- | --- | --- |"]
    for name, entry in entries.items():
        cells = " | ".join(_cell(entry[net]) if net in entry else "" for net in NETS)
        rows.append(f"| {_code(entry['mutant']) if of_code else name} | {cells} |")
    return rows


def _code(mutant: dict[str, Any]) -> str:
    after = f"`{_short(mutant['after'])}`" if mutant["after"] else "(left out)"
    which = f" ({mutant['occurrence']})" if mutant["occurrence"] > 1 else ""
    return f"`{mutant['module']}:{mutant['function']}`: `{_short(mutant['before'])}` → {after}{which}"


def _short(code: str) -> str:
    line = " ".join(code.split()).replace("|", "\\|")
    return line if len(line) <= 90 else f"{line[:89]}…"


def equivalent() -> list[str]:
    """Mutants that nothing notices, and why they are no mistakes."""
    drawn = generated()
    rows = ["| Change | Why it changes nothing that is promised |", "| --- | --- |"]
    return rows + [
        f"| {_code(drawn[name]['mutant']) if name in drawn else name} | {why} |" for name, why in EQUIVALENT.items()
    ]


TABLES = {
    "scores": scores,
    "planted": lambda: _rows(planted()),
    "held_out": lambda: _rows(held_out()),
    "generated": lambda: _rows(generated(), of_code=True),
    "equivalent": equivalent,
}


def filled(page: str) -> str:
    """The page with every table made again."""
    return tables.filled(page, "mutation_figures", TABLES)


if __name__ == "__main__":
    tables.write(PAGE, filled(PAGE.read_text()))
