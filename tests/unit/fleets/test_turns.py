"""Verbs for one worker take turns; those for different workers do not wait for each other."""

from __future__ import annotations

import asyncio

import pytest

from nullworker.fleets.turns import Turns


async def test_deeds_for_one_worker_happen_in_the_order_of_asking() -> None:
    turns, done = Turns(), []
    first = asyncio.Event()

    async def slow() -> None:
        await first.wait()
        done.append("first")

    async def quick(name: str) -> None:
        done.append(name)

    tasks = [turns.queue(1, slow), turns.queue(1, lambda: quick("second")), turns.queue(2, lambda: quick("other"))]
    await tasks[2]
    assert done == ["other"]
    assert set(turns._last) == {1}
    first.set()
    await turns.wait_all()
    assert done == ["other", "first", "second"]
    assert turns._last == {}


async def test_a_deed_that_failed_tells_who_asked_and_nobody_else() -> None:
    turns = Turns()

    async def fail() -> None:
        raise ValueError("no")

    async def succeed() -> None:
        pass

    results = await asyncio.gather(turns.take(1, fail), turns.take(1, succeed), return_exceptions=True)
    assert isinstance(results[0], ValueError)
    assert results[1] is None


async def test_a_deed_is_done_to_its_end_when_who_asked_has_gone() -> None:
    turns, done = Turns(), []
    begun, go = asyncio.Event(), asyncio.Event()

    async def deed() -> None:
        begun.set()
        await go.wait()
        done.append(1)

    caller = asyncio.create_task(turns.take(1, deed))
    await begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()
    await turns.wait_all()
    assert done == [1]
