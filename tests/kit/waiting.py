"""Waits for conditions that nothing announces."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HANG_S = 60.0  # a limit for what hangs, not for what is slow
#: The first pause, for what comes at once. Later ones are longer, up to a limit: conditions read files or list all
#: processes, which a hundred times a second keeps half a core busy.
POLL_S = 0.01
POLL_MAX_S = 0.1


async def until(
    condition: Callable[[], object], what: str | Callable[[], str] = "it never came", *, hang_s: float = HANG_S
) -> None:
    """Returns when ``condition()`` is true.

    Args:
        condition: looked at again after `POLL_S` seconds, and then ever more seldom, up to `POLL_MAX_S`.
        what: what the failing test says, or a function that says it (with what is known at that moment).
        hang_s: seconds after which the test fails.
    """
    ends_at_s = time.monotonic() + hang_s
    pause_s = POLL_S
    while not condition():
        if time.monotonic() >= ends_at_s:
            raise AssertionError(what if isinstance(what, str) else what())
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, POLL_MAX_S)
