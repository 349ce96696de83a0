"""Requests that are made of schemas, at an engine, a worker and a classic backend: ``make fuzz MINUTES=60``.

Each of the three has a third of the time, in a process of its own, at once. What is printed, as JSON: how many requests
each got, how they were answered, and how to repeat those that got a 5xx. The exit code is 1 if any did.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.integration.fuzz_targets import fuzz_classic, fuzz_engine, fuzz_worker

TARGETS = {"engine": fuzz_engine, "worker": fuzz_worker, "classic": fuzz_classic}


def fuzz(target: str, seconds: float) -> dict[str, Any]:
    """Fuzzes one target for so long; returns its figures."""
    with tempfile.TemporaryDirectory(prefix="nullworker-fuzz-") as directory:
        found = asyncio.run(TARGETS[target](Path(directory), seconds=seconds))
    statuses = {str(status): count for status, count in sorted(found.statuses.items())}
    figures = {"requests": found.requests, "server_errors": found.server_errors, "statuses": statuses}
    return {"target": target, "seconds": seconds, **figures, "failures": found.failures}


def main() -> int:
    """Fuzzes all; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="for all targets together (3)")
    parser.add_argument("--only", choices=TARGETS, action="append", help="this target; can be given again (all)")
    arguments = parser.parse_args()
    targets = arguments.only or list(TARGETS)
    seconds = arguments.minutes * 60 / len(targets)
    with ProcessPoolExecutor(len(targets)) as pool:
        found = list(pool.map(fuzz, targets, [seconds] * len(targets)))
    where = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "python": platform.python_version()}
    print(json.dumps({"commit": _commit(), "nullworker": version("nullworker"), **where, "targets": found}, indent=1))
    return int(any(each["server_errors"] for each in found))


def _commit() -> str:
    """The commit that is fuzzed, with a + where files differ from it; "": there is no repository."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
