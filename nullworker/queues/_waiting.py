"""Waiting with a limit. Before Python 3.12 `asyncio.wait_for` loses a cancellation that arrives with the result."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

_T = TypeVar("_T")


async def within(limit_s: float, work: Coroutine[Any, Any, _T]) -> _T:
    """What ``work`` returns.

    Raises:
        asyncio.TimeoutError: it did not end within ``limit_s`` seconds, and was cancelled.
    """
    task = tasks.start(work)
    try:
        await asyncio.wait({task}, timeout=limit_s)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()


async def wait_set(event: asyncio.Event, limit_s: float) -> bool:
    """Returns True as soon as ``event`` is set, and clears it; False after ``limit_s`` seconds."""
    if not event.is_set():
        waiter = tasks.start(event.wait())
        try:
            await asyncio.wait({waiter}, timeout=max(0.0, limit_s))
        finally:
            waiter.cancel()
    was_set = event.is_set()
    event.clear()
    return was_set
