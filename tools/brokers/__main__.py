"""The step: a line of progress for each need, then which tests will be skipped; its exit code is 0 in either case.

python -m tools.brokers            what the tests need
python -m tools.brokers --chaos    what ``make chaos`` needs as well
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from tools.brokers import debian, libraries
from tools.brokers.needs import (
    ARQ,
    CHAOS_PROGRAMS,
    NODE_FOLDERS,
    NODE_TESTS,
    PROGRAMS,
    Program,
    node_library,
    python_library,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


def main() -> int:
    """Gets what is missing, one after the other."""
    began_s = time.monotonic()
    wanted = (*PROGRAMS, *CHAOS_PROGRAMS) if sys.argv[1:] == ["--chaos"] else PROGRAMS
    skipped = programs(wanted) + packages()
    for line in skipped:
        print(f"  SKIPPED tests: {line}")
    how = f"{len(skipped)} needs are missing" if skipped else "all that the tests need is here"
    print(f"brokers: {how} ({time.monotonic() - began_s:.0f} s).", flush=True)
    return 0


def programs(wanted: Sequence[Program]) -> list[str]:
    """Installs the missing programs; returns what stays missing, with the tests that are skipped."""
    missing = [one for one in wanted if one.find() is None]
    if not missing:
        return []
    names = sorted({one.package for one in missing})
    reason = debian.install(names, say)
    return [_sentence(one, reason) for one in missing if one.find() is None]


def _sentence(one: Program, reason: str) -> str:
    return f"{one.tests} (no {one.name}, Debian package {one.package}: {reason or 'the package has no such program'})"


def packages() -> list[str]:
    """Gets the missing libraries; returns what stays missing, with the tests that are skipped."""
    skipped = []
    if not python_library(ARQ).exists():
        say(f"getting {ARQ} from PyPI …")
        if reason := libraries.get_python(ARQ):
            skipped.append(f"arq ({ARQ}: {reason})")
    for folder, tests in zip(NODE_FOLDERS, NODE_TESTS, strict=True):
        if not node_library(folder).exists():
            say(f"getting the libraries of {tests} from npm …")
            if reason := libraries.get_node(folder):
                skipped.append(f"{tests} (npm: {reason})")
    return skipped


def say(line: str) -> None:
    """One line of progress."""
    print(f"brokers: {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
