"""Ctrl-C at moments at which Python would lose it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import signal
from nullworker.cli.ending import keep_interrupts_from_imports
keep_interrupts_from_imports()
try:
    import interrupted
    signal.pause()
except KeyboardInterrupt:
    print("imported" if hasattr(interrupted, "whole") else "cut", signal.getitimer(signal.ITIMER_REAL)[0])
"""
#: The signal comes while Python's own frames of the import are on the stack.
MODULE = "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nwhole = True\n"


def test_an_interrupt_in_the_middle_of_an_import_comes_when_that_is_over(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(MODULE)
    program = f"import sys; sys.path.append({str(tmp_path)!r})\n{PROGRAM}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert done.stdout.split() == [b"imported", b"0.0"]


def test_where_interrupts_are_ignored_they_stay_so() -> None:
    program = (
        "import os, signal; from nullworker.cli.ending import keep_interrupts_from_imports\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN); keep_interrupts_from_imports()\n"
        "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=True)
    assert done.stdout == b"True\n"
