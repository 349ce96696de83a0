"""The one sentence with which a worker that cannot start ends."""

from __future__ import annotations

import sys


class StartError(Exception):
    """The worker cannot start; the message is one sentence that says why and what to do."""


def say(message: str) -> None:
    """Tells whoever started the worker."""
    sys.stderr.write(f"null worker: {message}\n")
    sys.stderr.flush()
