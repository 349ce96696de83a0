"""Whether the engine may send clients here: what has to be there first, how long that took, and what went wrong."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from nullworker.wire.worker_side.messages import ERROR_CHARACTERS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# What may have to be there first.
BACKEND = "backend"  # the Backend object is made
MODEL = "model"  # logwatch.py saw that the model is loaded
KEY = "key"  # the engine's public key


class Readiness:
    """Ready once all needs are `met`. The load time is counted from when this is made.

    Args:
        needs: what has to be there.
        now: a monotonic clock, in seconds.
        perf: the perf that is reported unless the backend reports another.
    """

    def __init__(self, needs: Iterable[str], now: Callable[[], float], perf: float) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._missing = set(needs)
        self._started = now()
        self._loadtime_s = 0.0
        self._said_loadtime_s = 0.0
        self.perf = perf
        self.error = ""

    def met(self, need: str) -> None:
        """One of the needs is there."""
        with self._lock:
            self._missing.discard(need)
            if not self._missing and self._loadtime_s == 0:
                # The engine reads "ready" from a load time above zero, so it is never quite zero.
                self._loadtime_s = max(self._said_loadtime_s or self._now() - self._started, 0.001)

    @property
    def loadtime_s(self) -> float:
        """Seconds from the start to ready; 0 before that."""
        return self._loadtime_s

    @property
    def is_ready(self) -> bool:
        """Whether all is there and nothing went wrong."""
        return self._loadtime_s > 0 and not self.error

    def fail(self, message: str) -> None:
        """Something went wrong for good; "" takes it back."""
        self.error = message[:ERROR_CHARACTERS_MAX]

    def learn(self, facts: Mapping[str, object]) -> None:
        """Takes what is known of the model in Vast's words: ``loaded``, ``loadtime``, ``max_perf``, ``error_msg``."""
        perf, loadtime_s = number(facts.get("max_perf")), number(facts.get("loadtime"))
        if perf:
            self.perf = perf
        if loadtime_s:
            self._said_loadtime_s = loadtime_s
        error = facts.get("error_msg")
        if isinstance(error, str):
            self.fail(error)
        if facts.get("loaded"):
            self.met(MODEL)


def number(value: object) -> float | None:
    """``value`` where it is a finite number of at least 0, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None
