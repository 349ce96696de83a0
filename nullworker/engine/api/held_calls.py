"""How many calls are held at once, and for whom: no endpoint's key, and no address, has all of them.

Who has none left is answered at once that the request waits. It keeps its place all the same, and asks again.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from nullworker.core.driver import HELD_MAX
from nullworker.engine.api.refusals import block_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class HeldCalls:
    """Counts the calls that are held, or about to be."""

    def __init__(self, connections_max: int) -> None:
        """Takes how many connections there may be: calls are held on half of them at most."""
        self.most = max(1, min(HELD_MAX, connections_max // 2))
        self._all = 0
        self._of: Counter[int | tuple[int, str]] = Counter()

    @contextlib.contextmanager
    def one_more(self, endpoint_id: int, address: str) -> Iterator[bool]:
        """A call comes; whether it may be held, which it is until the end of the context.

        Args:
            endpoint_id: of its endpoint, of which one has half of all calls.
            address: where it comes from: one has half of its endpoint's.
        """
        whose = endpoint_id, block_of(address)
        may = self._all < self.most and self._of[endpoint_id] * 2 < self.most and self._of[whose] * 4 < self.most
        if not may:
            yield False
            return
        self._count(endpoint_id, whose, 1)
        try:
            yield True
        finally:
            self._count(endpoint_id, whose, -1)

    def _count(self, endpoint_id: int, whose: tuple[int, str], by: int) -> None:
        self._all += by
        for key in (endpoint_id, whose):
            self._of[key] += by
            if not self._of[key]:
                del self._of[key]
