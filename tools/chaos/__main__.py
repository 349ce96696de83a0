"""``make chaos``: each kind of fault some times, at random moments, and a table of what came of it."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from nullworker.queues import sqlite_jobs
from tools.chaos.faults import FAULTS
from tools.chaos.world import World


def episode(kind: str, seed: int) -> list[str]:
    """Runs one episode; returns its violations. With any, its folder stays, and is named."""
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    world = World(folder, rng)
    try:
        world.start()
        world.pause(rng.uniform(0.0, 5.0))
        FAULTS[kind](world)
        sqlite_jobs.enqueue(world.queue, world.history.jobs[5:])
        found = world.settle()
    finally:
        world.end()
    if found:
        return [*found, f"its folder: {folder}"]
    shutil.rmtree(folder)
    return []


def main() -> int:
    """Runs episodes; returns 1 if any promise broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=1, help="of each kind  [default: 1]")
    parser.add_argument("--kind", action="append", choices=sorted(FAULTS), help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, help="of the first episode  [default: random]")
    options = parser.parse_args()
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    broken: Counter[str] = Counter()
    kinds = options.kind or list(FAULTS)
    print(f"{'kind':<24} {'episodes':>8} {'broken':>6} {'seconds':>8}")
    for kind in kinds:
        began = time.monotonic()
        for number in range(options.episodes):
            for sentence in (found := episode(kind, seed + number)):
                print(f"  {kind} --seed {seed + number}: {sentence}", flush=True)
            broken[kind] += bool(found)
        took_s = (time.monotonic() - began) / max(1, options.episodes)
        print(f"{kind:<24} {options.episodes:>8} {broken[kind]:>6} {took_s:>8.1f}", flush=True)
    print(f"{len(kinds) * options.episodes} episodes of {len(kinds)} kinds, {broken.total()} broken")
    return 1 if broken.total() else 0


if __name__ == "__main__":
    sys.exit(main())
