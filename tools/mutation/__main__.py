"""Draws bugs at random from `nullworker/core` and tries whether anything notices them.

Each is a small change of one function: a comparison, a constant, a condition, a field, a statement that is left out.
Three nets are cast for each, one apart from the other: the core's unit tests, the first seeds of the simulator, and the
walk through all states of small worlds. Nothing in the working tree is changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.simulation.mutations import HELD_OUT, MUTATIONS, SHOWN_BY_JOURNAL, Mutation
from tests.simulation.plants import Unplantable, planted_trees
from tools.mutation import trial
from tools.mutation.draw import Mutant, draw

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = """examples:
  python -m tools.mutation --seed 7 --list        what would be planted
  python -m tools.mutation --seed 7 --count 50    all three nets for each: half an hour of one core
  python -m tools.mutation --seed 7 --net unit    the unit tests alone: some minutes
  python -m tools.mutation --seed 7 --keep docs/mutation.json
                                                  what is known already is not tried again; Ctrl-C loses nothing
  python -m tools.mutation --missed unit --keep docs/mutation.json
                                                  after new unit tests: those again that had got through
  python -m tools.mutation --planted --keep docs/mutation.json
                                                  the bugs of tests/simulation/mutations.py
"""
PLANTED = (*MUTATIONS, *SHOWN_BY_JOURNAL, *HELD_OUT)


class Record:
    """What is known of each bug, kept in a file after each trial."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        known: dict[str, Any] = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.planted: dict[str, dict[str, Any]] = known.get("planted", {})
        self.generated: dict[str, dict[str, Any]] = known.get("generated", {})

    def entry(self, bug: Mutant | Mutation) -> dict[str, Any]:
        """What is known of one."""
        if isinstance(bug, Mutation):
            return self.planted.setdefault(bug.name, {})
        return self.generated.setdefault(bug.name, {"mutant": bug._asdict()})

    def mutants(self) -> list[Mutant]:
        """All that were drawn."""
        return [Mutant(**entry["mutant"]) for entry in self.generated.values()]

    def as_json(self) -> str:
        """All of it."""
        return json.dumps({"planted": self.planted, "generated": self.generated}, indent=1, ensure_ascii=False) + "\n"

    def keep(self) -> None:
        """Writes the file, if there is one; one that is cut off is not left behind."""
        if self._path is not None:
            new = self._path.with_name(f"{self._path.name}.new")
            new.write_text(self.as_json())
            new.replace(self._path)


def told(verdict: trial.Verdict) -> str:
    """What noticed a bug, in a few words."""
    if verdict is None:
        return "missed"
    if "promise" in verdict:
        return (
            f"{verdict['promise']} in {verdict['scenario' if 'scenario' in verdict else 'scope']}"
            if len(verdict) > 2
            else "error"
        )
    return str(verdict.get("test", verdict.get("limit"))).rpartition("/")[2]


def try_all(
    bugs: Sequence[Mutant | Mutation], nets: Sequence[str], record: Record, options: argparse.Namespace
) -> None:
    """Casts the nets for all bugs of which the record does not say what came of it."""
    began = time.monotonic()
    limits = {"unit": (options.tests,), "simulator": (options.seeds,), "exhaustive": (options.states,)}
    for number, bug in enumerate(bugs, 1):
        entry = record.entry(bug)
        for net in nets:
            if net in entry and options.missed != net:
                continue
            trees = planted_trees(bug) if isinstance(bug, Mutation) else bug.planted()
            entry[net] = trial.trial(net, trees, *limits[net])
            record.keep()
            print(
                f"{time.monotonic() - began:5.0f} s  {number}/{len(bugs)}  {net}: {told(entry[net])}  {bug.name}",
                file=sys.stderr,
            )


def verify(bugs: Sequence[Mutant | Mutation], record: Record) -> list[str]:
    """Runs for each bug the one unit test that noticed it, by the record.

    Returns:
        The names of those that it does not notice any more, or of which the record says nothing.
    """
    unnoticed = []
    for bug in bugs:
        known = record.entry(bug)
        if "unit" in known and known["unit"] is None:
            continue  # docs/mutation.md says why
        noticed = known.get("unit") or {}
        trees = planted_trees(bug) if isinstance(bug, Mutation) else bug.planted()
        if "test" not in noticed or trial.trial("unit", trees, [noticed["test"]]) is None:
            unnoticed.append(bug.name)
    return unnoticed


def scores(record: Record) -> list[str]:
    """How many of the bugs each net notices."""
    lines = []
    for title, entries in (("planted", record.planted), ("generated", record.generated)):
        for net in trial.NETS:
            tried = [entry[net] for entry in entries.values() if net in entry]
            if tried:
                caught = sum(verdict is not None for verdict in tried)
                lines.append(f"{title}, {net}: {caught} of {len(tried)} ({100 * caught / len(tried):.0f} %)")
        missed = [name for name, entry in entries.items() if all(entry.get(net, 0) is None for net in trial.NETS)]
        lines += [f"  missed by all: {name}" for name in missed]
    return lines


def chosen(options: argparse.Namespace, record: Record) -> list[Mutant | Mutation]:
    """The bugs that the options ask for."""
    bugs: list[Mutant | Mutation] = []
    if options.planted:
        bugs += PLANTED
    elif options.held_out:
        bugs += HELD_OUT
    if options.seed is not None:
        bugs += draw(options.seed, options.count)
    if options.missed:
        every: list[Mutant | Mutation] = [*PLANTED, *record.mutants()]
        bugs += [bug for bug in every if record.entry(bug).get(options.missed, {}) is None]
    return [bug for bug in bugs if options.only in bug.name]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0: all was tried (whatever was noticed), 1: it could not be, 130: interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutation",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, help="draws bugs; the same ones from the same code")
    parser.add_argument("--count", type=int, default=50, help="how many  [default: 50]")
    parser.add_argument("--planted", action="store_true", help="those of tests/simulation/mutations.py")
    parser.add_argument("--held-out", action="store_true", help="of these, those that others planted")
    parser.add_argument(
        "--missed", choices=trial.NETS, metavar="NET", help="those again that the record says this net missed"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="of these, only those with this text in their name")
    parser.add_argument(
        "--net", action="append", choices=trial.NETS, help="only this net; may be repeated  [default: all]"
    )
    parser.add_argument(
        "--seeds", type=int, default=trial.SEEDS_MAX, help=f"of the simulator  [default: {trial.SEEDS_MAX}]"
    )
    parser.add_argument("--states", type=int, default=8_000, help="of the walk, in each scope  [default: 8000]")
    parser.add_argument(
        "--tests",
        action="append",
        metavar="PATH",
        help=f"unit tests; may be repeated  [default: {trial.UNIT_TESTS[0]}]",
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="a record that is read, and written after each trial")
    parser.add_argument("--json", action="store_true", help="print the record as JSON; progress goes to standard error")
    parser.add_argument(
        "--verify", action="store_true", help="only run, of each, the unit test that noticed it by the record"
    )
    parser.add_argument("--list", action="store_true", help="only name the bugs")
    options = parser.parse_args(arguments)
    if options.seed is None and not (options.planted or options.held_out or options.missed):
        parser.error("say which bugs: --seed N, --planted, --held-out or --missed NET")
    if options.missed and options.keep is None:
        parser.error("--missed needs the record: --keep FILE")
    options.tests = options.tests or list(trial.UNIT_TESTS)
    record = Record(options.keep)
    bugs = chosen(options, record)
    if options.list:
        print("\n".join(bug.name for bug in bugs))
        return 0
    nets = options.net or ([options.missed] if options.missed else list(trial.NETS))
    try:
        if options.verify:
            unnoticed = verify(bugs, record)
            print("\n".join(f"not noticed any more: {name}" for name in unnoticed), file=sys.stderr)
            return int(bool(unnoticed))
        for net in nets:
            if (found := trial.trial(net, None, options.tests if net == "unit" else 1)) is not None:
                print(f"Without any bug, {net} fails ({told(found)}). Correct that first.", file=sys.stderr)
                return 1
        try_all(bugs, nets, record, options)
    except KeyboardInterrupt:
        print("interrupted; " + ("the record is kept" if options.keep else "nothing was changed"), file=sys.stderr)
        return 130
    except (Unplantable, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(record.as_json() if options.json else "\n".join(scores(record)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
