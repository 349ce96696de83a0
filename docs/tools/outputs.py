"""Runs the commands of a page and puts what they printed under them, so that no figure on it is typed by hand.

    python docs/tools/outputs.py docs/choosing-parameters.md

A block ```console with one line ``$ nullworker simulate …`` is run from the repository's root; the rest of the block is
replaced by its output. Only commands whose output is the same each time belong on such a page.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"```console\n\$ (nullworker simulate [^\n]*)\n.*?```", re.DOTALL)


def blocks(text: str) -> list[str]:
    """The blocks of a page that show a command with its output."""
    return [found.group() for found in _BLOCK.finditer(text)]


def refreshed(text: str) -> str:
    """The page, or a part of it, with fresh outputs."""
    return _BLOCK.sub(lambda found: f"```console\n$ {found.group(1)}\n{_output(found.group(1))}```", text)


def _output(command: str) -> str:
    arguments = [sys.executable, "-m", "nullworker.cli.main", *shlex.split(command)[1:]]
    done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        page = Path(name)
        page.write_text(refreshed(page.read_text()))
