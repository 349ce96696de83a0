"""``make wheel``: builds the wheel, installs it into empty environments, and runs every command there.

What an installation cannot run for want of an extra must say so in one sentence that names the extra.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from nullworker.cli.main import COMMANDS
from tools.environments import build_wheel, install, run

#: The extras of an installation, and the commands that must work in it, beside those of `ALWAYS`.
INSTALLATIONS: dict[str, list[list[str]]] = {
    "": [
        ["nullworker", "reserve", "--help"],
        ["nullworker", "status", "--help"],
        ["nullworker", "simulate", "--seeds", "3"],
        ["python", "-c", "from nullworker.client import reserve"],
        ["python", "-m", "workers.null.client", "--help"],
    ],
    "engine,classic": [
        ["nullworker", "engine", "--help"],
        ["nullworker", "simulate", "--seeds", "3"],
        ["nullworker", "bench", "--help"],
        ["python", "-m", "nullworker.classic", "--help"],
    ],
}
ALWAYS = [["nullworker", "--help"], ["nullworker", "--version"]]
NEEDS_EXTRA = re.compile(
    r"^error: nullworker \S+ needs the extra '\w+' \(\w+ is not installed\): pip install '[^']+'\n$"
)


def failures(bin_directory: Path, commands: list[list[str]], elsewhere: Path) -> list[str]:
    """What is wrong with an installation, a sentence for each command that does not do what it must.

    Args:
        bin_directory: the environment's commands.
        commands: those that must work in it.
        elsewhere: the directory to run them in, which has none of our sources.
    """
    found = []
    for command in [*ALWAYS, *commands]:
        done = run(bin_directory / command[0], *command[1:], cwd=elsewhere)
        if done.returncode != 0:
            found.append(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    for name in COMMANDS:
        done = run(bin_directory / "nullworker", name, "--help", cwd=elsewhere)
        if done.returncode != 0 and not NEEDS_EXTRA.match(done.stderr):
            found.append(f"nullworker {name} --help ended with {done.returncode}, and names no extra:\n{done.stderr}")
    return found


def main() -> None:
    """Prints a line for each installation; exits with 1 if something does not run in one of them."""
    wrong = []
    with tempfile.TemporaryDirectory() as work:
        wheel = build_wheel(Path(work))
        elsewhere = Path(work) / "elsewhere"
        elsewhere.mkdir()
        for number, (extras, commands) in enumerate(INSTALLATIONS.items()):
            shown = f"nullworker[{extras}]" if extras else "nullworker"
            bin_directory = install(wheel, extras, Path(work) / f"environment-{number}", compiles=False)
            found = failures(bin_directory, commands, elsewhere)
            print(f"{wheel.name}: {shown} in an empty environment: {'does not work' if found else 'works'}", flush=True)
            wrong += found
    sys.exit("\n".join(wrong) or None)


if __name__ == "__main__":
    main()
