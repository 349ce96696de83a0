"""The engines of several checkouts in turn: what each takes for a second of its core, and one call at a time.

    python -m bench.versions BEFORE_DIR AFTER_DIR

Each directory is a checkout with its own ``.venv``. All engines run at once and are loaded in turn, half a second each,
so that what else runs on the machine slows all alike. Ratios are the medians of the turns' ratios to the first one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.http import Load, Turn, report

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Run with a checkout's own code: its engine, until its standard input ends.
_SERVE = """
import json, sys
sys.path.insert(0, ".")
from bench.http import engine_with_workers
with engine_with_workers({workers}) as (engine, tokens):
    names = ("url", "pid", "endpoint", "api_key")
    print(json.dumps({{name: getattr(engine, name) for name in names}} | {{"tokens": tokens}}), flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def engine_of(checkout: Path, workers: int) -> Iterator[tuple[Load, Load]]:
    """Runs a checkout's engine with so many workers; the loads of reports and of reservations on it."""
    process = subprocess.Popen(
        [checkout / ".venv" / "bin" / "python", "-c", _SERVE.format(workers=workers)],
        cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        engine = json.loads(process.stdout.readline())
        url, pid, tokens = engine.pop("url"), engine.pop("pid"), engine["tokens"]
        said = [report(worker_id, token) for worker_id, token in enumerate(tokens, 1)]
        with (
            contextlib.closing(Load(url, pid, reports=said)) as reports,
            contextlib.closing(Load(url, pid, reserve=engine)) as reservations,
        ):
            reports.turn(3.0)  # all are heard of
            yield reports, reservations
    finally:
        process.communicate()


def compare(checkouts: list[Path], workers: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """The turns' medians of each checkout, and the medians of their ratios to the first one.

    Args:
        checkouts: directories.
        workers: how many report to each engine.
        rounds: turns of each load and engine.
    """
    turns: dict[str, list[list[Turn]]] = {name: [[] for _ in checkouts] for name in ("reports", "routes", "single")}
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(engine_of(each, workers)) for each in checkouts]
        for round_number in range(rounds):
            print(f"\rround {round_number + 1} of {rounds}", end="", file=sys.stderr, flush=True)
            for n, (reports, reservations) in enumerate(engines):
                turns["reports"][n].append(reports.turn())
                turns["routes"][n].append(reservations.turn())
                turns["single"][n].append(reservations.turn(connections=1))
    print(file=sys.stderr)
    figures = {
        "reports per core-second": [[turn.per_core_second for turn in each] for each in turns["reports"]],
        "routes and ends per core-second": [[turn.per_core_second for turn in each] for each in turns["routes"]],
        "one call at a time, p50 ms": [[turn.p50_ms for turn in each] for each in turns["single"]],
        "one call at a time, p99 ms": [[turn.p99_ms for turn in each] for each in turns["single"]],
    }
    return {
        name: [
            {
                "checkout": str(checkout),
                "median": statistics.median(each),
                "ratio": statistics.median(ours / first for ours, first in zip(each, values[0], strict=True)),
            }
            for checkout, each in zip(checkouts, values, strict=True)
        ]
        for name, values in figures.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--workers", type=int, default=2_000, help="how many report to each engine (default: 2000)")
    parser.add_argument("--rounds", type=int, default=25, help="turns of each load and engine (default: 25)")
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args()
    missing = [each for each in options.checkouts if not (each / ".venv" / "bin" / "python").exists()]
    if missing:
        parser.error(f"{missing[0]} has no .venv/bin/python; run `make check` there first.")
    found = compare([each.resolve() for each in options.checkouts], options.workers, options.rounds)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    for name, each in found.items():
        print(name)
        for of_one in each:
            print(f"  {of_one['median']:10.3f}  x{of_one['ratio']:.3f}  {of_one['checkout']}")


if __name__ == "__main__":
    main()
