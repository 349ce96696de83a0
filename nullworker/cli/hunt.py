"""The hunt for broken promises behind ``nullworker simulate --seed`` and ``--soak``."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import hashlib
import json
import multiprocessing
import os
import secrets
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nullworker.cli.ending import noting_interrupts, starting_processes
from nullworker.cli.errors import UserError

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from nullworker.simulation.run import Reduction
    from nullworker.simulation.variations import Moment

#: Seeds that a process runs before it is asked again.
BATCH = 50
#: How often a soak looks whether it is to end.
LOOK_S = 0.2
#: A soak's batches begin at random numbers, which no test's seeds reach: so many that none is ever drawn twice. Nothing
#: has to be remembered for that: no interrupted soak and no other clone runs seeds again that showed a fault before.
SEEDS_FROM = 2**40
SEEDS_BELOW = 2**52
YEAR_S = 365.25 * 86_400.0
PACKAGE = Path(__file__).resolve().parents[1]
RECORD = PACKAGE.parent / "docs" / "soak.json"


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
    if options["crash_everywhere"]:
        return _crash_everywhere(first, scenario, reduction, as_json=options["as_json"])
    if options["decided"]:
        return _decided(first, scenario, reduction, as_json=options["as_json"])
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


def _crash_everywhere(seed: int, scenario: str, reduction: Reduction, *, as_json: bool) -> int:
    from nullworker.simulation.variations import crashes

    places = failures = 0
    for place, result in enumerate(crashes(seed, scenario, reduction), -1):
        places = max(places, place + 1)
        if result.failure is not None:
            failures += 1
            if not as_json:
                where = "as it is" if place < 0 else f"killed at place {place}"
                print(f"seed {seed} {result.scenario}, {where}: {result.failure.message}")
    if as_json:
        print(json.dumps({"seed": seed, "places": places, "failures": failures}))
    else:
        print(f"seed {seed}: killed at each of {places} places, {failures} failures")
    return 1 if failures else 0


def _decided(seed: int, scenario: str, reduction: Reduction, *, as_json: bool) -> int:
    from nullworker.simulation.run import run
    from nullworker.simulation.variations import decided_at

    failed = run(seed, scenario, reduction, check_every=1)
    if failed.failure is None:
        raise UserError(f"Seed {seed} of {failed.scenario} breaks no promise; give one that does.")

    def tell(moment: Moment) -> None:
        if not as_json:
            print(f"{moment.at_s:10.3f} s: {moment.broken} of {moment.futures} futures break {promise}", flush=True)

    promise = failed.failure.promise
    found = decided_at(failed, tell=tell)
    if as_json:
        print(json.dumps({"seed": seed, "promise": promise, "open_at_s": found.open_at_s, "at_s": found.decided_at_s}))
        return 1
    for line in found.journal:
        print(line[:400])
    print(
        f"{failed.failure}\n  inevitable from {found.decided_at_s:.3f} s on; the events above are those of that moment"
    )
    return 1


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


def soak(minutes: float, scenario: str, *, as_json: bool, record: Path | None = None) -> int:
    """Runs new seeds on all cores until the time is up; each batch is added to the record when it is done.

    Args:
        minutes: how long.
        scenario: the kind of world; "": each seed has one of its own.
        as_json: prints what was run as JSON.
        record: the file to add to; None: the one that the docs show.

    Returns:
        The exit code: 1 when a promise was broken.
    """
    from nullworker.simulation.scenarios import SCENARIOS

    if scenario and scenario not in SCENARIOS:
        raise UserError(f"There is no scenario {scenario}; there are {', '.join(SCENARIOS)}.")
    keeper = _Record(record or RECORD, code_digest())
    until = time.monotonic() + minutes * 60
    added = _Sums()
    show = sys.stderr.isatty() and not as_json
    with (
        noting_interrupts() as interrupted,
        ProcessPoolExecutor(cores(), multiprocessing.get_context("spawn")) as pool,
    ):
        _soak_until(until, pool, keeper, added, scenario, interrupted, show=show)
        if interrupted.is_set():
            for process in multiprocessing.active_children():
                process.terminate()  # what it has in hand is lost, and never drawn again
            raise KeyboardInterrupt
    figures, of_code = added.figures(), keeper.of_code()
    if as_json:
        print(json.dumps({**figures, "failures": added.failures, "code": keeper.code, "on_this_code": of_code}))
    else:
        print(
            f"{added.seeds} seeds, {figures['fleet_years']:.3f} fleet-years, {added.events:,} events, "
            f"{figures['times_real_time_a_core']:,} times real time a core, {len(added.failures)} failures; "
            f"on this code of core and simulator ({keeper.code}) {of_code['seeds']:,} seeds, "
            f"{of_code['fleet_years']:.3f} fleet-years, {of_code['failures']} failures"
        )
    return 1 if added.failures else 0


def _soak_until(
    until: float,
    pool: ProcessPoolExecutor,
    record: _Record,
    added: _Sums,
    scenario: str,
    interrupted: threading.Event,
    *,
    show: bool,
) -> None:
    """Hands batches out until the time is up, and at least one."""
    running: set[Future[_Sums]] = set()
    begun = False
    while not interrupted.is_set() and (running or not begun or time.monotonic() < until):
        while len(running) < 2 * cores() and (not begun or time.monotonic() < until):
            begun = True
            first = SEEDS_FROM + secrets.randbelow(SEEDS_BELOW - SEEDS_FROM)
            with starting_processes():
                running.add(pool.submit(_batch, first, BATCH, scenario))
        done, running = wait(running, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        for future in done:
            batch = future.result()
            added.add(batch)
            record.add(batch)
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


def cores() -> int:
    """How many processes compute at a time: on so many cores this one may run, by ``taskset`` as in a container."""
    own = getattr(os, "sched_getaffinity", None)  # macOS has none
    return len(own(0)) if own is not None else os.cpu_count() or 1


def code_digest(*others: str) -> str:
    """Names the code of the core and its simulator as it is now: what is said of another does not hold for it.

    Args:
        others: parts of the simulator that are left out. By default those that a soak runs none of: the dispatcher's
            worlds (``queueing``) and the walk (``exhaustive``).
    """
    digest = hashlib.sha256()
    left_out = [PACKAGE / "simulation" / name for name in others or ("queueing", "exhaustive")]
    for folder in ("core", "simulation"):
        for path in sorted((PACKAGE / folder).rglob("*.py")):
            if any(path.is_relative_to(other) for other in left_out):
                continue
            digest.update(f"{path.relative_to(PACKAGE)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


class _Record:
    """The file that soaks add to: what was run in all, and on the code as it is now, for which it begins at 0."""

    def __init__(self, path: Path, code: str) -> None:
        """Takes where it is, and the digest of the code that is run.

        Raises:
            UserError: there is no such folder.
        """
        if not path.parent.is_dir():
            raise UserError("The record of soaks is docs/soak.json of the repository; run this from a clone.")
        self._path = path
        self.code = code

    def add(self, batch: _Sums) -> None:
        """Adds a batch; other soaks may do so at the same time."""
        today = dt.datetime.now(dt.timezone.utc).date().isoformat()
        with self._changed() as record:
            self._begin(record, today)
            for part in (record, record["on_this_code"]):
                sums = _Sums(part["seeds"], part["fleet_years"] * YEAR_S, part["events"], part["cpu_s"])
                sums.add(batch)
                part.update(sums.figures())
            record["on_this_code"]["failures"] += len(batch.failures)
            record["failures"] += [{"on": today, "code": self.code, "what": failure} for failure in batch.failures]

    def _begin(self, record: dict[str, Any], today: str) -> None:
        if record.get("code") != self.code:
            record["code"] = self.code
            record["on_this_code"] = {"since": today, **_Sums().figures(), "failures": 0}

    def of_code(self) -> dict[str, Any]:
        """What was run on the code as it is now, by all soaks so far."""
        record = self._read()
        return dict(record["on_this_code"]) if record.get("code") == self.code else {**_Sums().figures(), "failures": 0}

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {**_Sums().figures(), "failures": []}
        return dict(json.loads(self._path.read_text()))

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The record, to be changed by one soak at a time, and written whole or not at all."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            record = self._read()
            yield record
            written = self._path.with_suffix(".new")
            written.write_text(json.dumps(record, indent=2) + "\n")
            written.replace(self._path)
        finally:
            os.close(folder)
