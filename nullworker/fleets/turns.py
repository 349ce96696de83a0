"""Takes care of two rules of every fleet: verbs for one worker happen one after another, in the order in which they
were asked for, and each happens to its end, even when whoever asked no longer waits for it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


class Turns:
    """What is under way and what waits, by worker."""

    def __init__(self) -> None:
        self._last: dict[int, asyncio.Task[None]] = {}
        self._all: set[asyncio.Task[None]] = set()

    async def take(self, worker_id: int, deed: Callable[[], Coroutine[None, None, None]]) -> None:
        """Does ``deed`` when those before it for the same worker are done; returns or raises as it does.

        Cancelling the caller does not cancel the deed.
        """
        await asyncio.shield(self.queue(worker_id, deed))

    def queue(self, worker_id: int, deed: Callable[[], Coroutine[None, None, None]]) -> asyncio.Task[None]:
        """As `take`, without waiting for it."""
        task = asyncio.create_task(self._after(self._last.get(worker_id), deed))
        self._last[worker_id] = task
        self._all.add(task)
        task.add_done_callback(lambda done: self._forget(worker_id, done))
        return task

    async def wait_all(self) -> None:
        """Returns when nothing is under way. What the deeds raised, their callers were told."""
        while self._all:
            await asyncio.wait(self._all)

    @staticmethod
    async def _after(before: asyncio.Task[None] | None, deed: Callable[[], Coroutine[None, None, None]]) -> None:
        if before is not None:
            await asyncio.wait([before])
        await deed()

    def _forget(self, worker_id: int, task: asyncio.Task[None]) -> None:
        self._all.discard(task)
        if self._last.get(worker_id) is task:
            del self._last[worker_id]
