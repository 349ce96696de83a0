"""Times at which something is to be looked at. An entry is a reminder, not a verdict: whoever is reminded looks again
at the truth, so a stale entry costs a look and nothing else.
"""

from __future__ import annotations

import enum
import heapq


class Timer(enum.Enum):
    """What is to be looked at."""

    WAITER = "waiter"  # key: request_idx
    GRANT = "grant"  # key: request_idx
    WORKER = "worker"  # key: worker_id
    PRESS = "press"  # key: endpoint_id: its oldest young waiter comes of age
    TRIM = "trim"  # key: endpoint_id
    SCALE = "scale"  # key: endpoint_id: a workergroup may be tried again, a quiet time ends


class Timers:
    """A heap of (when, kind, key)."""

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer, int]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, when: float, kind: Timer, key: int) -> None:
        """Reminds at ``when``. Entries for one time come out in the order in which they were set."""
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, kind, key))

    def next_at(self) -> float | None:
        """The earliest time set, or None."""
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now: float) -> tuple[Timer, int] | None:
        """Takes out the earliest entry that is due at ``now``, or None."""
        if self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            return entry[2], entry[3]
        return None
