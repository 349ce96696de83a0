"""Plants the bugs of `mutations` in copies of the package and hunts: ``python -m tests.simulation.mutants``."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.simulation.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
CAUGHT = Path(__file__).with_name("caught.json")
SEEDS_MAX = 500

_HUNT = """
import json, sys
from nullworker.simulation.run import run
first, count = int(sys.argv[1]), int(sys.argv[2])
for seed in range(first, first + count):
    result = run(seed, check_every=1)
    if result.failure is not None:
        print(json.dumps({"seed": seed, "scenario": result.scenario, "promise": result.failure.promise,
                          "message": result.failure.message.splitlines()[0][:200]}))
        break
"""


def hunt(mutation: Mutation | None, first: int, count: int) -> dict[str, Any] | None:
    """Runs seeds against a copy with the bug in it; what caught it first, or None. ``None`` plants no bug."""
    with TemporaryDirectory(prefix="nullworker-mutant-") as scratch:
        package = Path(scratch) / "nullworker"
        package.mkdir()
        (package / "__init__.py").touch()
        for part in ("core", "simulation"):
            shutil.copytree(ROOT / "nullworker" / part, package / part, ignore=shutil.ignore_patterns("__pycache__"))
        if mutation is not None:
            plant(mutation, package / "core")
        environ = {**os.environ, "PYTHONPATH": scratch}
        command = [sys.executable, "-c", _HUNT, str(first), str(count)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environ, cwd=scratch, timeout=300, check=True
            )
        except subprocess.TimeoutExpired:
            return None
        return json.loads(done.stdout) if done.stdout.strip() else None


def plant(mutation: Mutation, core: Path) -> None:
    """Changes one file of the copy.

    Raises:
        ValueError: what is to be changed does not stand there, once.
    """
    path = core / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise ValueError(f"{mutation.name}: its text stands {text.count(mutation.old)} times in {mutation.file}")
    path.write_text(text.replace(mutation.old, mutation.new))


def main() -> int:
    """Hunts for all, and keeps what caught each."""
    found: dict[str, Any] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for mutation, caught in zip(MUTATIONS, pool.map(lambda m: hunt(m, 1, SEEDS_MAX), MUTATIONS), strict=True):
            found[mutation.name] = caught
            print(f"{mutation.name}: {caught and (caught['promise'], caught['scenario'], caught['seed'])}", flush=True)
    CAUGHT.write_text(json.dumps(found, indent=2) + "\n")
    return sum(caught is None for caught in found.values())


if __name__ == "__main__":
    sys.exit(main())
