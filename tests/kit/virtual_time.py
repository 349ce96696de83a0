"""Runs a coroutine in virtual time: waits take no time, and a limit ends only what truly waits, on any machine.

When nothing is left to do before the next timer, the loop's clock jumps to it. So a limit of a minute costs nothing,
and cannot pass while the machine is busy with something else.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class _JumpingSelector(selectors.SelectSelector):
    """Where a loop would sleep, its clock moves on."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("Everything waits for what no timer brings, and virtual time has nothing else.")
            self.now_s += timeout
        return ready


class _VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


def run_in_virtual_time(coroutine: Coroutine[object, object, T]) -> T:
    """Runs ``coroutine``, which uses no threads, processes or network, and returns its result."""
    loop = _VirtualTimeLoop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()
