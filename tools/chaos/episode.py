"""Runs one episode, in a process of its own: ``python -m tools.chaos.episode KIND SEED FOLDER REDIS OLD``.

Its last line of output is what broke, in JSON.
"""

from __future__ import annotations

import json
import random
import signal
import sys
from pathlib import Path

from tools.chaos.faults import KINDS
from tools.chaos.world import World


def episode(kind: str, seed: int, folder: Path, *, redis: bool, old: str) -> list[str]:
    """Runs one; returns its violations.

    Args:
        kind: of the fault.
        seed: of its random numbers.
        folder: an empty one, for its files.
        redis: whether a queue may be on Redis.
        old: where an earlier version of nullworker is; empty: nowhere.
    """
    fault = KINDS[kind]
    rng = random.Random(seed)
    world = World(folder, rng, broker=fault.broker or rng.choice(["sqlite", "sqlite", "redis" if redis else "sqlite"]))
    world.old = Path(old)
    try:
        if fault.prepare:
            fault.prepare(world)
        world.start()
        world.pause(rng.uniform(0.0, 5.0))
        fault.harm(world)
        world.enqueue_rest()
        found = world.settle()
    finally:
        world.end()
    about = f"it had {len(world.endpoints)} endpoints, {world.backend} workers, and its queues on {world.broker}"
    return [*found, about] if found else []


def main(kind: str, seed: str, folder: str, redis: str, old: str) -> None:
    """Prints what broke."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    found = episode(kind, int(seed), Path(folder), redis=redis == "redis", old=old)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
