"""Waits for conditions that nothing announces."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HANG_S = 60.0  # a limit for what hangs, not for what is slow
POLL_S = 0.01


async def until(
    condition: Callable[[], object], what: str | Callable[[], str] = "it never came", *, hang_s: float = HANG_S
) -> None:
    """Returns when ``condition()`` is true.

    Args:
        condition: looked at every `POLL_S` seconds.
        what: what the failing test says, or a function that says it (with what is known at that moment).
        hang_s: seconds after which the test fails.
    """
    ends_at_s = time.monotonic() + hang_s
    while not condition():
        if time.monotonic() >= ends_at_s:
            raise AssertionError(what if isinstance(what, str) else what())
        await asyncio.sleep(POLL_S)
