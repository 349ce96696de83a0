"""The hunt for broken promises behind ``nullworker simulate --seed`` and ``--soak``."""

from __future__ import annotations

import datetime as dt
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from nullworker.cli.errors import UserError

#: Seeds that a process runs before it is asked again.
BATCH = 50
YEAR_S = 365.25 * 86_400.0
RECORD = Path(__file__).resolve().parents[2] / "docs" / "soak.json"


def hunt(options: dict[str, Any]) -> int:
    """Runs one seed or some; the exit code is 1 when a promise was broken."""
    from nullworker.simulation.run import Less, run
    from nullworker.simulation.scenarios import SCENARIOS
    from nullworker.simulation.shrink import shrink

    scenario = options["scenario"]
    if scenario and scenario not in SCENARIOS:
        raise UserError(f"There is no scenario {scenario}; there are {', '.join(SCENARIOS)}.")
    less = Less(_known(options["without"]), _numbers(options["without_clients"]), options["until_s"])
    first = 1 if options["seed"] is None else options["seed"]
    failures = 0
    for seed in range(first, first + (options["seeds"] or 1)):
        result = run(seed, scenario, less, journal=True, check_every=1)
        if result.failure is not None:
            failures += 1
            if options["shrinks"]:
                result = shrink(result)
        if options["as_json"]:
            print(json.dumps({"seed": seed, "scenario": result.scenario, "failure": str(result.failure or "")}))
        elif result.failure is not None:
            for line in result.failure.history:
                print(line[:400])
            print(result.failure)
        else:
            times = result.simulated_s / max(result.cpu_s, 1e-9)
            faults = ", ".join(result.faults) or "none"
            print(
                f"seed {seed} {result.scenario}: kept, {result.simulated_s:.0f} s simulated at {times:,.0f} times real "
                f"time, {result.events} events, {result.clients} clients; faults: {faults}"
            )
    return 1 if failures else 0


def _known(names: tuple[str, ...]) -> frozenset[str]:
    from nullworker.simulation.faults import ALL

    for name in names:
        if name not in ALL:
            raise UserError(f"--without {name}: there is no such fault; there are {', '.join(ALL)}.")
    return frozenset(names)


def _numbers(text: str) -> frozenset[int]:
    """Reads a list such as 1-4,7."""
    numbers: set[int] = set()
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            numbers.update(range(int(first), int(last or first) + 1))
    except ValueError:
        raise UserError(f"--without-clients {text} is not a list of numbers, such as 3,7-9.") from None
    return frozenset(numbers)


def soak(minutes: float, scenario: str, *, as_json: bool) -> int:
    """Runs new seeds on all cores until the time is up, and adds what was run to the record that the docs show."""
    record = _read_record()
    until = time.monotonic() + minutes * 60
    added: dict[str, Any] = {"seeds": 0, "simulated_s": 0.0, "events": 0, "cpu_s": 0.0, "failures": []}
    cores = os.cpu_count() or 1
    show = sys.stderr.isatty() and not as_json
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        running: set[Future[dict[str, Any]]] = set()
        while running or time.monotonic() < until:
            while len(running) < 2 * cores and time.monotonic() < until:
                running.add(pool.submit(_batch, int(record["next_seed"]), scenario))
                record["next_seed"] = int(record["next_seed"]) + BATCH
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                for name, value in future.result().items():
                    added[name] += value
            for failure in added["failures"][len(record.setdefault("_told", [])) :]:
                record["_told"].append(failure)
                print(failure, file=sys.stderr, flush=True)
            if show:
                left_s = max(0.0, until - time.monotonic())
                print(f"\r{added['seeds']} seeds, {left_s:.0f} s left ", end="", file=sys.stderr, flush=True)
    record.pop("_told", None)
    _add(record, added)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    years, times = added["simulated_s"] / YEAR_S, added["simulated_s"] / max(added["cpu_s"], 1e-9)
    if as_json:
        print(json.dumps(added))
    else:
        print(
            f"{added['seeds']} seeds, {years:.3f} fleet-years, {added['events']:,} events, "
            f"{times:,.0f} times real time a core, {len(added['failures'])} failures; "
            f"in all {record['seeds']} seeds and {record['fleet_years']:.3f} fleet-years"
        )
    return 1 if added["failures"] else 0


def _batch(first: int, scenario: str) -> dict[str, Any]:
    from nullworker.simulation.run import run
    from nullworker.simulation.shrink import shrink

    results = [run(seed, scenario) for seed in range(first, first + BATCH)]
    failed = [result for result in results if result.failure is not None]
    return {
        "seeds": len(results),
        "simulated_s": sum(result.simulated_s for result in results),
        "events": sum(result.events for result in results),
        "cpu_s": sum(result.cpu_s for result in results),
        # Where much fails, it fails for one reason: the first is made short.
        "failures": [str((result if number else shrink(result)).failure) for number, result in enumerate(failed)],
    }


def _read_record() -> dict[str, Any]:
    if not RECORD.parent.is_dir():
        raise UserError("The record of soaks is docs/soak.json of the repository; run this from a clone.")
    if not RECORD.exists():
        return {
            "next_seed": 1_000_000,
            "seeds": 0,
            "fleet_years": 0.0,
            "events": 0,
            "events_per_cpu_s": 0,
            "failures": [],
        }
    return dict(json.loads(RECORD.read_text()))


def _add(record: dict[str, Any], added: dict[str, Any]) -> None:
    record["seeds"] += added["seeds"]
    record["fleet_years"] += added["simulated_s"] / YEAR_S
    record["events"] += added["events"]
    record["events_per_cpu_s"] = round(added["events"] / max(added["cpu_s"], 1e-9))
    today = dt.datetime.now(dt.timezone.utc).date().isoformat()
    record["failures"] += [{"on": today, "what": failure} for failure in added["failures"]]
