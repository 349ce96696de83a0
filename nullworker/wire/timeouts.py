"""A time limit that never loses a cancellation.

`asyncio.wait_for` of Python 3.10 and 3.11 drops one that comes in the moment of the answer: the task goes on, and who
cancelled it waits for ever (https://github.com/python/cpython/issues/86296). `asyncio.timeout`, and its port for 3.10,
await in the caller's own task and have no such moment.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable

T = TypeVar("T")

__all__ = ["within"]


async def within(awaitable: Awaitable[T], timeout_s: float | None) -> T:
    """What ``awaitable`` gives.

    Args:
        awaitable: what is waited for; cancelled where it takes too long.
        timeout_s: for so many seconds; None: without end.

    Raises:
        asyncio.TimeoutError: it took longer.
    """
    async with timeout(timeout_s):
        return await awaitable
