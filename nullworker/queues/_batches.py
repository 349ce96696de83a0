"""Readings that wait at the same time are done together: a broker that can count many queues at once is asked once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from nullworker.queues.base import QueueError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_T = TypeVar("_T")


class Batch(Generic[_T]):
    """Asks ``ask`` for many names at once, one question at a time.

    Every answer comes from a question that began after it was wanted. A reader that is cancelled disturbs no other,
    and leaves no question half asked.
    """

    def __init__(self, ask: Callable[[list[str]], Awaitable[Mapping[str, _T]]]) -> None:
        self._ask = ask
        self._pending: dict[str, asyncio.Future[_T | None]] = {}
        self._task: asyncio.Task[None] | None = None

    async def read(self, name: str) -> _T | None:
        """What ``ask`` says of ``name``, None where it says nothing; raises what ``ask`` raises."""
        answer = self._pending.get(name)
        if answer is None:
            answer = self._pending[name] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Ends a question that is under way; who waits for its answer gets a `QueueError`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # what is wanted in the same turn of the event loop goes together
            while self._pending:
                batch, self._pending = self._pending, {}
                await self._answer(batch)
        finally:
            self._task = None
            _refuse(self._pending)  # there are some only if this was cancelled
            self._pending = {}

    async def _answer(self, batch: dict[str, asyncio.Future[_T | None]]) -> None:
        try:
            found = await self._ask(list(batch))
        except Exception as error:
            _refuse(batch, error)
        else:
            for name, answer in batch.items():
                answer.set_result(found.get(name))
        finally:
            _refuse(batch)  # those that are answered are not touched


def _refuse(batch: Mapping[str, asyncio.Future[_T | None]], error: Exception | None = None) -> None:
    for answer in batch.values():
        if not answer.done():
            answer.set_exception(error or QueueError("The queue was closed while it was read."))
            answer.exception()  # who wanted it may have gone, which is no error of its own
