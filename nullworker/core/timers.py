"""Times at which something is to be looked at. An entry is a reminder, not a verdict: the one reminded looks again
at the truth, so a stale entry costs a look and nothing else.
"""

from __future__ import annotations

import enum
import heapq
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Timer(enum.Enum):
    """What is to be looked at."""

    WAITER = "waiter"  # key: request_idx
    GRANT = "grant"  # key: request_idx
    WORKER = "worker"  # key: worker_id
    OVERDUE = "overdue"  # key: endpoint_id: its next waiter becomes overdue
    SCALE_DOWN = "scale_down"  # key: endpoint_id
    SCALE = "scale"  # key: endpoint_id: a workergroup may be tried again, a quiet time ends

    __hash__ = object.__hash__  # of its identity: an enum's own is computed each time


class Timers:
    """What is due when.

    Grants run out in the order in which they are given, nearly all of them long after their session has begun: they
    stand in a line, which costs the same however long it is. Whatever is due before the last of that line, and all
    other kinds, are in a heap.
    """

    __slots__ = ("_count", "_heap", "_line")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer, int]] = []
        self._line: deque[tuple[float, int, Timer, int]] = deque()
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap) + len(self._line)

    def set(self, when: float, kind: Timer, key: int) -> None:
        """Reminds at ``when``. Entries for one time come out in the order in which they were set."""
        self._count += 1
        entry = (when, self._count, kind, key)
        line = self._line
        if kind is Timer.GRANT and (not line or line[-1][0] <= when):
            line.append(entry)
        else:
            heapq.heappush(self._heap, entry)

    def entries(self) -> Iterator[tuple[float, int, Timer, int]]:
        """All that are set, in no order: (when, a number that rises with each, what, its key). For reading."""
        return chain(self._heap, self._line)

    def next_at(self) -> float | None:
        """The earliest time set, or None."""
        heap, line = self._heap, self._line
        if heap and line:
            return min(heap[0][0], line[0][0])
        first = heap or line
        return first[0][0] if first else None

    def pop_due(self, now: float) -> tuple[Timer, int] | None:
        """Takes out the earliest entry that is due at ``now``, or None."""
        heap, line = self._heap, self._line
        if line and line[0][0] <= now and not (heap and heap[0] < line[0]):
            entry = line.popleft()
        elif heap and heap[0][0] <= now:
            entry = heapq.heappop(heap)
        else:
            return None
        return entry[2], entry[3]
