"""Waiting for an event with a limit."""

from __future__ import annotations

import asyncio

from nullworker.wire import tasks


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
