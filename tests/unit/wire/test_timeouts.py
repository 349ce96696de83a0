"""A time limit ends what takes too long, and never loses a cancellation."""

from __future__ import annotations

import asyncio

import pytest

from nullworker.wire.timeouts import within


def test_the_answer_within_the_time() -> None:
    async def main() -> int:
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(answer.set_result, 7)
        return await within(answer, 60.0)

    assert asyncio.run(main()) == 7


def test_what_takes_too_long_is_cancelled() -> None:
    async def main() -> bool:
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(asyncio.TimeoutError):
            await within(never, 0.0)
        return never.cancelled()

    assert asyncio.run(main())


def test_a_cancellation_in_the_moment_of_the_answer_is_not_lost() -> None:
    async def main() -> None:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(within(answer, 60.0))
        await asyncio.sleep(0)
        answer.set_result(None)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
