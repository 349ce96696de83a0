"""Calls for one key run in their order; those for different keys do not wait for each other."""

from __future__ import annotations

import asyncio

import pytest

from nullworker.fleets.keyed_queue import KeyedQueue


async def test_calls_for_one_key_run_in_their_order() -> None:
    queue, done = KeyedQueue(), []
    first = asyncio.Event()

    async def slow() -> None:
        await first.wait()
        done.append("first")

    async def quick(name: str) -> None:
        done.append(name)

    tasks = [queue.submit(1, slow), queue.submit(1, lambda: quick("second")), queue.submit(2, lambda: quick("other"))]
    await tasks[2]
    assert done == ["other"]
    assert set(queue._last) == {1}
    first.set()
    await queue.wait_idle()
    assert done == ["other", "first", "second"]
    assert queue._last == {}


async def test_a_call_that_failed_raises_to_its_own_caller_alone() -> None:
    queue = KeyedQueue()

    async def fail() -> None:
        raise ValueError("no")

    async def succeed() -> None:
        pass

    results = await asyncio.gather(queue.run(1, fail), queue.run(1, succeed), return_exceptions=True)
    assert isinstance(results[0], ValueError)
    assert results[1] is None


async def test_a_call_runs_to_its_end_when_its_caller_is_cancelled() -> None:
    queue, done = KeyedQueue(), []
    begun, go = asyncio.Event(), asyncio.Event()

    async def call() -> None:
        begun.set()
        await go.wait()
        done.append(1)

    caller = asyncio.create_task(queue.run(1, call))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()
    await queue.wait_idle()
    assert done == [1]
