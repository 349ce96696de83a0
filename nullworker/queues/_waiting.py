"""Waiting with a limit. `asyncio.wait_for` loses a cancellation that comes as the awaited thing ends (until 3.12)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

_T = TypeVar("_T")


async def within(limit_s: float, work: Coroutine[Any, Any, _T]) -> _T:
    """What ``work`` returns.

    Raises:
        asyncio.TimeoutError: it did not end within ``limit_s`` seconds, and was cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=limit_s)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


async def rung(bell: asyncio.Event, limit_s: float) -> bool:
    """True as soon as ``bell`` is set, which clears it; False after ``limit_s`` seconds."""
    if not bell.is_set():
        waiter = asyncio.ensure_future(bell.wait())
        try:
            await asyncio.wait({waiter}, timeout=max(0.0, limit_s))
        finally:
            waiter.cancel()
    was_set = bell.is_set()
    bell.clear()
    return was_set
