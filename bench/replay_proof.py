"""The proof that a rebuilt core decides as the one before it did.

``record`` runs seeds of all scenarios in the simulator and writes what the core was told and what it ordered: run it on
the code before the change. ``check`` feeds the events to the core of the present code and compares the orders: run it
on the code after the change. Only the core takes part in ``check``, so the simulator may change meanwhile.

    python -m bench.replay_proof record build/journals --seeds 10000    # before
    python -m bench.replay_proof check build/journals                   # after

Causes (codes) are not compared, since older recordings have none. Sentences are, unless ``--not-sentences`` is given.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from nullworker.core import journal
from nullworker.core.engine import Engine
from nullworker.simulation.run import run

SEEDS_PER_FILE = 250
#: Fields of commands that say why, not what.
_CODES = ("cause", "event_number")


class Outcome(NamedTuple):
    """What the comparison of one file gave."""

    seeds: int
    events: int
    commands: int
    differences: list[str]


def record_file(path: Path, first_seed: int, count: int) -> tuple[int, int]:
    """Writes the journals of ``count`` seeds from ``first_seed`` to ``path``, gzip'd; returns (seeds, lines)."""
    lines = 0
    with gzip.open(path, "wt", compresslevel=5) as file:
        for seed in range(first_seed, first_seed + count):
            result = run(seed, journal=True)
            file.write(json.dumps({"seed": seed, "scenario": result.scenario}) + "\n")
            for line in result.journal:
                file.write(line + "\n")
            lines += len(result.journal)
    return count, lines


def check_file(path: Path, *, sentences: bool) -> Outcome:
    """Feeds a recording to the present core, and compares its orders with the recorded ones.

    Args:
        path: a file that `record_file` wrote.
        sentences: whether the wording of reasons is compared, too.
    """
    events = commands = 0
    differences: list[str] = []
    seeds = _seeds(path)
    for seed, lines in seeds.items():
        records = [json.loads(line) for line in lines]
        starts = _starts(records)
        engine = Engine()
        for number, record in enumerate(records):
            if number in starts:
                engine = Engine()
            event, now = journal.unpack_event(*_event_of(record)), record["now"]
            replayed = [_plain(command, sentences=sentences) for command in engine.handle(event, now)]
            recorded = [_plain(command, sentences=sentences) for command in record["commands"]]
            events += 1
            commands += len(recorded)
            if replayed != recorded:
                differences.append(f"{seed} at {now}: {type(event).__name__}\n  then {recorded}\n  now  {replayed}")
                break  # what follows in this seed is of a state that differs already
    return Outcome(len(seeds), events, commands, differences)


def _seeds(path: Path) -> dict[str, list[str]]:
    """The lines of each seed in a file, by the line that begins it."""
    seeds: dict[str, list[str]] = {}
    lines: list[str] = []
    with gzip.open(path, "rt") as file:
        for line in file:
            if line.startswith('{"seed":'):
                lines = seeds.setdefault(line.strip(), [])
            else:
                lines.append(line)
    return seeds


def _starts(records: list[dict[str, Any]]) -> set[int]:
    """Where an engine was started again: at the first definition of those that come right before a `Restored`."""
    starts = set()
    for number, record in enumerate(records):
        if record["event"][0] != "Restored":
            continue
        first, defined = number, set()
        for kind, name in (("WorkergroupPut", "workergroup"), ("EndpointPut", "endpoint_id")):
            while first and records[first - 1]["event"][0] == kind:
                value = records[first - 1]["event"][1][name]
                key = (kind, value["workergroup_id"] if isinstance(value, dict) else value)
                if key in defined:
                    break
                defined.add(key)
                first -= 1
        starts.add(first)
    return starts


def _event_of(record: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The kind and fields of a recorded event; older recordings have a sentence where there is a cause now."""
    kind, fields = record["event"]
    if kind == "Restored":
        for worker in fields["workers"]:
            worker["retire"] = _RETIRE.get((worker["retire"] or "").split(" ")[0], worker["retire"])
    return kind, fields


#: The first word of the sentence that there was -> the cause that there is now.
_RETIRE = {"": None, "its": "updated", "endpoint": "endpoint_deleted", "workergroup": "workergroup_deleted"}


def _plain(command: Any, *, sentences: bool) -> tuple[str, list[tuple[str, Any]]]:
    """A command (recorded, or of the present core) as comparable values."""
    if isinstance(command, list):
        kind, fields = command
    else:
        kind = type(command).__name__
        fields = {name: getattr(command, name) for name in type(command).__dataclass_fields__}
    dropped = _CODES if sentences else (*_CODES, "reason")
    return kind, sorted((name, value) for name, value in fields.items() if name not in dropped)


def _check_one(job: tuple[Path, bool]) -> Outcome:
    return check_file(job[0], sentences=job[1])


def main() -> int:
    """The command; 0 where nothing differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["record", "check"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=5_000_000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--files", type=int, default=0, help="check only so many files, evenly spread (0: all)")
    parser.add_argument("--not-sentences", action="store_true", help="compare what is ordered, not how it is worded")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(args.jobs) as pool:
        if args.what == "record":
            firsts = range(args.first_seed, args.first_seed + args.seeds, SEEDS_PER_FILE)
            paths = [args.folder / f"{first}.jsonl.gz" for first in firsts]
            done = list(pool.map(record_file, paths, firsts, [SEEDS_PER_FILE] * len(paths)))
            print(f"{sum(d[0] for d in done):,} seeds, {sum(d[1] for d in done):,} events recorded in {args.folder}")
            return 0
        paths = sorted(args.folder.glob("*.jsonl.gz"))
        if args.files:
            paths = paths[:: max(1, len(paths) // args.files)]
        outcomes = list(pool.map(_check_one, [(path, not args.not_sentences) for path in paths]))
    differences = [difference for outcome in outcomes for difference in outcome.differences]
    for difference in differences[:5]:
        print(difference)
    seeds, events, commands = (sum(column) for column in list(zip(*outcomes, strict=True))[:3])
    print(f"{seeds:,} seeds, {events:,} events, {commands:,} commands: {len(differences)} seeds differ")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
