"""request_idxs: each greater than all before it, also over a restart, and not to be guessed by counting.

A caller that presents a request's number is taken for its holder, because an unmodified client has nothing else to
present. So a number is the request's place in the sequence and, below that, some bits that only this engine can
compute: another holder of the same key finds a neighbour's number once in a million tries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.engine.auth.keys import Keys

#: The low bits of a number are its mark, the 33 above them its place: on the wire numbers stay below 2^53.
MARK_BITS = 20
_MARK_MASK = (1 << MARK_BITS) - 1


class RequestNumbers:
    """Gives out numbers, and recognises those that it gave.

    Args:
        keys: the engine's, of which the marks are made.
        first: the place of the first number.
        reserve: called with the next place when all that were reserved are used up; makes sure that no engine after
            this one gives those out again, and returns the place at which it must be called again.
    """

    def __init__(self, keys: Keys, first: int, reserve: Callable[[int], int]) -> None:
        self._keys = keys
        self._next = first
        self._reserve = reserve
        self._reserved_until = first

    def new(self) -> int:
        """A number that was never given before."""
        place = self._next
        if place >= self._reserved_until:
            self._reserved_until = self._reserve(place)
        self._next = place + 1
        return place << MARK_BITS | self._mark(place)

    def has_given(self, request_idx: int) -> bool:
        """Whether the number is one of this engine's."""
        place = request_idx >> MARK_BITS
        return 0 < place < self._next and request_idx & _MARK_MASK == self._mark(place)

    def _mark(self, place: int) -> int:
        return self._keys.request_mark(place) & _MARK_MASK
