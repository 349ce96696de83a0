"""Merges readings that are requested at the same time: a broker that can count many queues at once is asked once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from nullworker.queues.base import QueueError
from nullworker.wire import tasks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_T = TypeVar("_T")


class Batch(Generic[_T]):
    """Calls ``ask`` for many names at once, one call at a time.

    Every answer comes from a call that began after the answer was requested. Cancelling one reader affects no other.
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
            self._task = tasks.watch(self._run(), "A reading of several queues at once")
        return await asyncio.shield(answer)

    async def close(self) -> None:
        """Cancels a call that is under way; its readers get a `QueueError`."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        batch: dict[str, asyncio.Future[_T | None]] = {}
        try:
            await asyncio.sleep(0)  # requests of the same iteration of the event loop are merged
            while self._pending:
                batch, self._pending = self._pending, {}
                await self._answer(batch)
        finally:
            self._task = None
            _refuse(batch | self._pending)  # those without an answer, if this was cancelled or has failed
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
            _refuse(batch)  # only those without an answer


def _refuse(batch: Mapping[str, asyncio.Future[_T | None]], error: Exception | None = None) -> None:
    for answer in batch.values():
        if not answer.done():
            answer.set_exception(error or QueueError("The queue was closed while it was read."))
            answer.exception()  # marks it as retrieved: its reader may have been cancelled
