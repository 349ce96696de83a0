"""What ``make demo`` needs, installed into the environment that runs this: less than half of what the tests need.

    .venv/bin/python tools/demo_environment.py

Uses the standard library and pip alone, since nothing else is there yet. Of vastai's own requirements those are left
out that only its command line's invoices need; ``make test`` installs the whole of it into the same environment.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VASTAI = "vastai>=1.9.1"
#: Builds our package, and has the distutils that vastai imports.
SETUPTOOLS = "setuptools>=77,<81"
#: PDF files, with fonts and an XML parser: 70 MB that a worker never imports.
LEFT_OUT = {"borb"}
#: Bytecode is made by the first run, in less time than pip takes for all of it.
INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--retries", "3")
#: A download that stalls ends the command in place of holding it for ever.
LIMIT_S = 600


def needed_of(requirements: list[str]) -> list[str]:
    """Of a package's requirements (as its metadata has them) those that the demo needs."""
    needed = []
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
        if name not in LEFT_OUT and "extra ==" not in requirement:
            needed.append(requirement)
    return needed


def install(*arguments: str) -> None:
    """Runs pip in this environment.

    Raises:
        SystemExit: it failed; pip's own message is on stderr. Where it succeeds, its complaint about what is left out
            is not shown.
    """
    command = [sys.executable, *INSTALL, *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT, timeout=LIMIT_S, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        sys.exit(
            f"error: pip did not end within {LIMIT_S} s; look at the connection to PyPI, and run the command again."
        )
    if done.returncode != 0:
        print(done.stdout + done.stderr, file=sys.stderr)
        sys.exit("error: what the demo needs could not be installed; pip's message above says why.")


def main() -> None:
    """Installs; says so before and after, with the seconds and MB that it took."""
    environment = Path(sys.prefix)
    print(f"Installing what the demo needs into {environment.name} (once, about 110 MB) …", flush=True)
    began_s = time.monotonic()
    install("--no-deps", VASTAI, SETUPTOOLS)
    install(
        "--no-build-isolation", "--editable", ".[engine]", "pillow>=11", *needed_of(metadata.requires("vastai") or [])
    )
    size_bytes = sum(file.stat().st_size for file in environment.rglob("*") if not file.is_symlink())
    print(f"Installed in {time.monotonic() - began_s:.0f} s: {size_bytes / 1e6:.0f} MB.", flush=True)


if __name__ == "__main__":
    main()
