"""Virtual time: what is to happen and when. Nothing here waits; the next thing is simply done.

Most of what is planned is a time limit that is not reached, and most delays are one of a few. Whatever is put off by
one such delay comes due in the order in which it was put off: it stands in a line, which costs the same however long it
is. Only the rest is in a heap.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush, heapreplace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: When it is due, its number, what to do, with which arguments, and the line that it stands in, if in one.
    _Thing = tuple[float, int, Callable[..., object], tuple[Any, ...], Any]

#: What is done at one instant ends: a world that does more without its time going on is in a loop.
AT_ONE_INSTANT_MAX = 100_000


class Stalled(AssertionError):  # noqa: N818 - it reads as what it is
    """Time stands still: one thing at an instant leads to another without end."""


class EventQueue:
    """``now`` is the world's true time in seconds. Things due at one time are done in the order of their setting.

    ``usual_s`` are the delays that much is put off by. They change the cost alone, never the order.
    """

    __slots__ = ("_count", "_firsts", "_heap", "_lines", "done", "now")

    def __init__(self, usual_s: Iterable[float] = ()) -> None:
        self.now = 0.0
        self.done = 0  # things done so far
        self._count = 0
        self._heap: list[_Thing] = []
        self._lines: dict[float, deque[_Thing]] = {delay_s: deque() for delay_s in usual_s}
        #: A heap of the first of each line.
        self._firsts: list[_Thing] = []

    def __len__(self) -> int:
        return len(self._heap) + sum(map(len, self._lines.values()))

    def at(self, when: float, do: Callable[..., object], *arguments: Any) -> None:
        """Does ``do(*arguments)`` at ``when`` (now, if that has passed)."""
        self._count += 1
        heappush(self._heap, (max(self.now, when), self._count, do, arguments, None))

    def after(self, delay_s: float, do: Callable[..., object], *arguments: Any) -> None:
        """Does ``do(*arguments)`` in ``delay_s`` seconds."""
        self._count += 1
        line = self._lines.get(delay_s)
        if line is None:
            heappush(self._heap, (self.now + delay_s, self._count, do, arguments, None))
            return
        thing = (self.now + delay_s, self._count, do, arguments, line)
        if not line:
            heappush(self._firsts, thing)
        line.append(thing)

    def run_until(self, end: float) -> None:
        """Does everything that is due up to ``end``, which is the time afterwards.

        Raises:
            Stalled: there is no end to what is due at one instant.
        """
        heap, firsts = self._heap, self._firsts
        at_once = 0
        while True:
            if firsts and not (heap and heap[0] < firsts[0]):
                when, _, do, arguments, line = firsts[0]
                if when > end:
                    break
                line.popleft()
                if line:
                    heapreplace(firsts, line[0])
                else:
                    heappop(firsts)
            elif heap and heap[0][0] <= end:
                when, _, do, arguments, _ = heappop(heap)
            else:
                break
            at_once = at_once + 1 if when == self.now else 0
            if at_once > AT_ONE_INSTANT_MAX:
                raise Stalled(f"{at_once} things happened at one instant, and there are more")
            self.now = when
            self.done += 1
            do(*arguments)
        self.now = max(self.now, end)

    def next_at(self) -> float | None:
        """When the next thing is due; None: nothing is."""
        return min((things[0][0] for things in (self._heap, self._firsts) if things), default=None)
