"""The hunt for broken promises of the dispatcher behind ``nullworker simulate --dispatcher``."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.simulation.queueing.run import QueueOutcome

#: So many rounds of a failing seed are printed, up to the last one that its sentence speaks of.
ROUNDS_MAX = 40
#: From so many seeds on it is said which things have not occurred.
SEEN_FROM = 100
PACKAGE = Path(__file__).resolve().parents[1]


def hunt_dispatcher(options: dict[str, Any]) -> int:
    """Runs one seed or some; the exit code is 1 when a promise was broken."""
    from nullworker.simulation.queueing.run import run_seed

    first, count = (1 if options["seed"] is None else options["seed"]), options["seeds"] or 1
    show = sys.stderr.isatty() and not options["as_json"] and count > 1
    seen: Counter[str] = Counter()
    failures, simulated_s, began = 0, 0.0, time.monotonic()
    for number, seed in enumerate(range(first, first + count), 1):
        outcome = run_seed(seed)
        failures += bool(outcome.broken)
        simulated_s += outcome.simulated_s
        seen.update(name for name, times in outcome.seen.items() if times)
        if show:
            print(f"\r\033[K{number} of {count} seeds, {failures} failures ", end="", file=sys.stderr, flush=True)
        if options["as_json"]:
            print(json.dumps(_row(seed, outcome)), flush=True)
        elif outcome.broken or count == 1:
            if show:
                print("\r\033[K", end="", file=sys.stderr, flush=True)
            for line in _told(seed, outcome):
                print(line)
    if show:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if count > 1 and not options["as_json"]:
        print(_summary(count, failures, simulated_s / max(1e-9, time.monotonic() - began), seen))
    return 1 if failures else 0


def _row(seed: int, outcome: QueueOutcome) -> dict[str, Any]:
    return {
        "seed": seed,
        "failure": "; ".join(each.what for each in outcome.broken),
        "jobs": len(outcome.plan.arrivals),
        "reservations": outcome.opened,
        "simulated_s": round(outcome.simulated_s, 1),
        "seen": sorted(name for name, times in outcome.seen.items() if times),
    }


def _told(seed: int, outcome: QueueOutcome) -> Iterator[str]:
    """A seed's outcome; of one that breaks a promise with what the dispatcher read, believed and decided."""
    from nullworker.simulation.queueing.run import run_seed

    occurred = ", ".join(name for name, times in outcome.seen.items() if times)
    if not outcome.broken:
        yield (
            f"seed {seed}: kept, {len(outcome.plan.arrivals)} jobs, {outcome.opened} reservations, "
            f"{outcome.simulated_s:.0f} s simulated; occurred: {occurred}"
        )
        return
    rounds = run_seed(seed, tells=True).rounds
    until_s = outcome.broken[0].at_s
    for at_s, line in [(at_s, line) for at_s, line in rounds if at_s <= until_s][-ROUNDS_MAX:]:
        yield f"{at_s:10.1f} s: {line}"
    plan = outcome.plan
    yield f"broker: {plan.traits}"
    yield f"limits: {plan.limits}"
    for each in outcome.broken:
        yield f"seed {seed}: {each.what}"
    yield f"  nullworker simulate --dispatcher --seed {seed}"


def _summary(count: int, failures: int, times: float, seen: Counter[str]) -> str:
    from nullworker.simulation.queueing.checkers import unseen

    text = (
        f"{count:,} seeds, {failures} failures, {times:,.0f} times real time; the code of demand and its simulator: "
        f"{queueing_digest()}"
    )
    missing = unseen(set(seen)) if count >= SEEN_FROM else []
    return text + (f"; never occurred: {', '.join(missing)}" if missing else "")


def queueing_digest() -> str:
    """Names the code of `nullworker.demand` and its simulator: what was run on another does not hold for it."""
    digest = hashlib.sha256()
    paths = [*(PACKAGE / "demand").rglob("*.py"), *(PACKAGE / "simulation" / "queueing").rglob("*.py")]
    for path in sorted([*paths, PACKAGE / "simulation" / "event_queue.py"]):
        digest.update(f"{path.relative_to(PACKAGE)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
