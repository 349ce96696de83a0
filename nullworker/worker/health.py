"""Whether the worker works or is broken: shown by its /health, and in its reports to the engine."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)


class Health:
    """Not broken until something fails; then broken for good, as the engine replaces a worker that reported an error.

    ``on_failure`` is called with the reason, once.
    """

    def __init__(self) -> None:
        self.error = ""
        #: What does not work as it should though the worker serves, in a sentence ("": nothing).
        self.degraded = ""
        self.on_failure: list[Callable[[str], None]] = []

    def degrade(self, sentence: str) -> None:
        """Notes what does not work as it should; the worker goes on serving."""
        self.degraded = sentence
        log.error("%s", sentence)

    def fail(self, reason: str) -> None:
        """Marks the worker as broken. ``reason`` is one sentence; the first one stays."""
        if self.error:
            return
        self.error = reason
        log.error("%s", reason)
        for listener in self.on_failure:
            listener(reason)
