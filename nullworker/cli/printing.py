"""How tables are printed: folded to the width of a terminal, and never where a program or a file takes them."""

from __future__ import annotations

import sys

from rich.console import Console

#: Wider than any line: what is piped on is one line each.
UNFOLDED = 100_000


def console_of_lines(*, folds: bool = True) -> Console:
    """A console on stdout; with ``folds``, lines are folded to a terminal's width."""
    return Console(highlight=False, width=None if folds and sys.stdout.isatty() else UNFOLDED)
