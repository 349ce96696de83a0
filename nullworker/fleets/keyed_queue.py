"""Calls for one key run one after another, in the order in which they were made; those for different keys at once.

Fleets use it with the worker's id as the key, for two rules of `nullworker.fleets.base.Fleet`: the verbs for one worker
keep their order, and each runs to its end even when its caller has been cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

    Call = Callable[[], Coroutine[None, None, None]]


class KeyedQueue:
    """The calls that are running or waiting, by key."""

    def __init__(self) -> None:
        self._last: dict[Hashable, asyncio.Task[None]] = {}
        self._all: set[asyncio.Task[None]] = set()

    async def run(self, key: Hashable, call: Call) -> None:
        """Runs ``call`` once the earlier ones for ``key`` have ended; returns or raises as it does.

        Cancelling the caller does not cancel the call.
        """
        await asyncio.shield(self.submit(key, call))

    def submit(self, key: Hashable, call: Call) -> asyncio.Task[None]:
        """As `run`, without waiting for the end."""
        task = tasks.start(self._after(self._last.get(key), call))
        self._last[key] = task
        self._all.add(task)
        task.add_done_callback(lambda done: self._forget(key, done))
        return task

    async def wait_idle(self) -> None:
        """Returns when nothing is running or waiting. What calls raised is for their callers alone."""
        while self._all:
            await asyncio.wait(self._all)

    @staticmethod
    async def _after(earlier: asyncio.Task[None] | None, call: Call) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        await call()

    def _forget(self, key: Hashable, task: asyncio.Task[None]) -> None:
        self._all.discard(task)
        if self._last.get(key) is task:
            del self._last[key]
