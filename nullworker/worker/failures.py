"""The error of a worker that cannot start: one sentence."""

from __future__ import annotations

import sys


class StartError(Exception):
    """The worker cannot start; the message is one sentence that says why and what to do."""


def say(message: str) -> None:
    """Prints the sentence to standard error."""
    sys.stderr.write(f"null worker: {message}\n")
    sys.stderr.flush()
