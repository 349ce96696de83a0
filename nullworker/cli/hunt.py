"""The hunt for broken promises behind ``nullworker simulate --seed`` and ``--soak``."""

from __future__ import annotations

import datetime as dt
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nullworker.cli.errors import UserError

#: Seeds that a process runs before it is asked again.
BATCH = 50
#: How often a soak looks whether it is to end.
LOOK_S = 0.2
#: The soaks' seeds begin where no test's reach.
FIRST_SEED = 1_000_000
YEAR_S = 365.25 * 86_400.0
RECORD = Path(__file__).resolve().parents[2] / "docs" / "soak.json"


def hunt(options: dict[str, Any]) -> int:
    """Runs one seed or some; the exit code is 1 when a promise was broken."""
    from nullworker.simulation.run import Reduction, run
    from nullworker.simulation.scenarios import SCENARIOS
    from nullworker.simulation.shrink import shrink

    scenario = options["scenario"]
    if scenario and scenario not in SCENARIOS:
        raise UserError(f"There is no scenario {scenario}; there are {', '.join(SCENARIOS)}.")
    reduction = Reduction(_known(options["without"]), _numbers(options["without_clients"]), options["until_s"])
    first = 1 if options["seed"] is None else options["seed"]
    failures = 0
    for seed in range(first, first + (options["seeds"] or 1)):
        result = run(seed, scenario, reduction, journal=True, check_every=1)
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
    from nullworker.simulation.scenarios import SCENARIOS

    if scenario and scenario not in SCENARIOS:
        raise UserError(f"There is no scenario {scenario}; there are {', '.join(SCENARIOS)}.")
    record = _read_record()
    until = time.monotonic() + minutes * 60
    added = _Sums()
    show = sys.stderr.isatty() and not as_json
    # Noted and not raised: where the pool happens to be in a callback of its own, Python would drop the exception.
    interrupted = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            _soak_until(until, pool, record, added, scenario, interrupted, show=show)
            if interrupted.is_set():
                for process in multiprocessing.active_children():
                    process.terminate()  # what it has in hand is lost; the record stays as it was
                raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
    _add(record, added)
    RECORD.write_text(json.dumps(record, indent=2) + "\n")
    if as_json:
        print(json.dumps({**added.figures(), "failures": added.failures}))
    else:
        figures = added.figures()
        print(
            f"{added.seeds} seeds, {figures['fleet_years']:.3f} fleet-years, {added.events:,} events, "
            f"{figures['times_real_time_a_core']:,} times real time a core, {len(added.failures)} failures; "
            f"in all {record['seeds']} seeds and {record['fleet_years']:.3f} fleet-years"
        )
    return 1 if added.failures else 0


def _soak_until(
    until: float,
    pool: ProcessPoolExecutor,
    record: dict[str, Any],
    added: _Sums,
    scenario: str,
    interrupted: threading.Event,
    *,
    show: bool,
) -> None:
    running: set[Future[_Sums]] = set()
    while not interrupted.is_set() and (running or time.monotonic() < until):
        while len(running) < 2 * (os.cpu_count() or 1) and time.monotonic() < until:
            # Processes that are started here ignore Ctrl-C, which reaches all of a terminal: this one ends them.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            running.add(pool.submit(_batch, int(record["next_seed"]), BATCH, scenario))
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            record["next_seed"] = int(record["next_seed"]) + BATCH
        done, running = wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        for future in done:
            batch = future.result()
            added.add(batch)
            for failure in batch.failures:
                print(failure, file=sys.stderr, flush=True)
        if show:
            left_s = max(0.0, until - time.monotonic())
            print(f"\r{added.seeds} seeds, {left_s:.0f} s left ", end="", file=sys.stderr, flush=True)


@dataclass(slots=True)
class _Sums:
    """What some seeds came to."""

    seeds: int = 0
    simulated_s: float = 0.0
    events: int = 0
    cpu_s: float = 0.0
    failures: list[str] = field(default_factory=list)

    def add(self, other: _Sums) -> None:
        """Takes the other in."""
        self.seeds += other.seeds
        self.simulated_s += other.simulated_s
        self.events += other.events
        self.cpu_s += other.cpu_s
        self.failures += other.failures

    def figures(self) -> dict[str, Any]:
        """As the record and the docs have them; an event is one that a core handled."""
        return {
            "seeds": self.seeds,
            "fleet_years": round(self.simulated_s / YEAR_S, 6),
            "events": self.events,
            "cpu_s": round(self.cpu_s),
            "events_per_cpu_s": round(self.events / max(self.cpu_s, 1e-9)),
            "times_real_time_a_core": round(self.simulated_s / max(self.cpu_s, 1e-9)),
        }


def _batch(first: int, count: int, scenario: str) -> _Sums:
    from nullworker.simulation.run import run
    from nullworker.simulation.shrink import shrink

    results = [run(seed, scenario) for seed in range(first, first + count)]
    failed = [result for result in results if result.failure is not None]
    return _Sums(
        len(results),
        sum(result.simulated_s for result in results),
        sum(result.events for result in results),
        sum(result.cpu_s for result in results),
        # Where much fails, it fails for one reason: the first is made short.
        [str((result if number else shrink(result)).failure) for number, result in enumerate(failed)],
    )


def _read_record() -> dict[str, Any]:
    if not RECORD.parent.is_dir():
        raise UserError("The record of soaks is docs/soak.json of the repository; run this from a clone.")
    if not RECORD.exists():
        return {"next_seed": FIRST_SEED, **_Sums().figures(), "last_soak": None, "failures": []}
    return dict(json.loads(RECORD.read_text()))


def _add(record: dict[str, Any], added: _Sums) -> None:
    """Adds to the totals; the speeds are those of all soaks together."""
    before = _Sums(record["seeds"], record["fleet_years"] * YEAR_S, record["events"], record["cpu_s"])
    today = dt.datetime.now(dt.timezone.utc).date().isoformat()
    record["last_soak"] = {"on": today, **added.figures(), "failures": len(added.failures)}
    record["failures"] += [{"on": today, "what": failure} for failure in added.failures]
    before.add(added)
    record.update(before.figures())
