"""Virtual time: what is to happen and when, in one heap. Nothing here waits; the next thing is simply done."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is done at one instant ends: a world that does more without its time going on is in a loop.
AT_ONE_INSTANT_MAX = 100_000


class Stalled(AssertionError):  # noqa: N818 - it reads as what it is
    """Time stands still: one thing at an instant leads to another without end."""


class Agenda:
    """``now`` is the world's true time in seconds. Things due at one time are done in the order of their setting."""

    __slots__ = ("_count", "_heap", "done", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self.done = 0  # things done so far
        self._count = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, when: float, do: Callable[..., object], *arguments: Any) -> None:
        """Does ``do(*arguments)`` at ``when`` (now, if that has passed)."""
        self._count += 1
        heapq.heappush(self._heap, (max(self.now, when), self._count, do, arguments))

    def after(self, delay_s: float, do: Callable[..., object], *arguments: Any) -> None:
        """Does ``do(*arguments)`` in ``delay_s`` seconds."""
        self._count += 1
        heapq.heappush(self._heap, (self.now + delay_s, self._count, do, arguments))

    def run_until(self, end: float) -> None:
        """Does everything that is due up to ``end``, which is the time afterwards.

        Raises:
            Stalled: there is no end to what is due at one instant.
        """
        heap = self._heap
        pop = heapq.heappop
        at_once = 0
        while heap and heap[0][0] <= end:
            when, _, do, arguments = pop(heap)
            at_once = at_once + 1 if when == self.now else 0
            if at_once > AT_ONE_INSTANT_MAX:
                raise Stalled(f"{at_once} things happened at one instant, and there are more")
            self.now = when
            self.done += 1
            do(*arguments)
        self.now = max(self.now, end)

    def next_at(self) -> float | None:
        """When the next thing is due; None: nothing is."""
        return self._heap[0][0] if self._heap else None
