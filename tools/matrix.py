"""``make matrix``: the tests that start no servers, on each supported Python that this machine has.

Each has an environment of its own, ``.venv-3.x``. A version that is not here is said to be not here, and is no failure.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tools.pythons import ROOT, interpreter, supported

if TYPE_CHECKING:
    from pathlib import Path

TESTS = ("tests/unit", "tests/promises", "tests/simulation/test_regressions.py", "tests/simulation/test_traces.py")
SIMULATION = ("simulate", "--seeds", "30")


def succeeds(python: Path, log: Path, *arguments: str) -> bool:
    """Runs ``python -m arguments``; what it prints is added to the log."""
    with log.open("a") as out:
        command = [str(python), "-m", *arguments]
        return (
            subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False).returncode
            == 0
        )


def tried(version: str) -> str:
    """Installs and tests this version of Python; returns the outcome in a few words."""
    base = interpreter(version)
    if base is None:
        return "not found on this machine"
    environment = ROOT / f".venv-{version}"
    environment.mkdir(exist_ok=True)
    python, log = environment / "bin/python", environment / "matrix.log"
    log.write_text("")
    pip = ("pip", "install", "--quiet", "--disable-pip-version-check")
    made = python.exists() or succeeds(base, log, "venv", str(environment))
    if not (
        made
        and succeeds(python, log, *pip, "--upgrade", "pip>=25.1")
        and succeeds(python, log, *pip, "--editable", ".[all]", "--group", "dev")
    ):
        return f"could not be installed: {log}"
    runs = {
        "tests": ("pytest", "-n", "2", "--quiet", "-p", "no:cacheprovider", *TESTS),
        "the simulation": ("nullworker.cli.main", *SIMULATION),
    }
    if failed := [name for name, arguments in runs.items() if not succeeds(python, log, *arguments)]:
        return f"{' and '.join(failed)} failed: {log}"
    passed = [line for line in log.read_text().splitlines() if " passed" in line]
    return f"passed: {passed[-1].strip('= ')}"


def main() -> None:
    """Prints a line for each version; exits with 1 if one that is here does not pass."""
    outcomes = []
    for version in supported():
        start_s = time.monotonic()
        outcome = tried(version)
        outcomes.append(outcome)
        print(f"Python {version}: {outcome} ({time.monotonic() - start_s:.0f} s)", flush=True)
    sys.exit(not all(outcome.startswith(("passed", "not found")) for outcome in outcomes))


if __name__ == "__main__":
    main()
