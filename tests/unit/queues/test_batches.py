"""Batches answer each reader with what was true after it asked, and keep readers out of each other's way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from nullworker.queues._batches import Batch
from nullworker.queues.base import QueueError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Broker:
    """Answers with how often it was asked, when it is let."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.gate = asyncio.Event()

    async def ask(self, names: list[str]) -> Mapping[str, int]:
        self.asked.append(names)
        number = len(self.asked)
        await self.gate.wait()
        if "poison" in names:
            raise ValueError(names)
        return {name: number for name in names if name != "unknown"}


async def turns(count: int = 5) -> None:
    for _ in range(count):
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(turn.set_result, None)
        await turn


async def test_readers_of_one_turn_share_a_question() -> None:
    broker = Broker()
    broker.gate.set()
    batch = Batch(broker.ask)
    assert await asyncio.gather(*(batch.read(name) for name in ("a", "b", "a", "unknown"))) == [1, 1, 1, None]
    assert broker.asked == [["a", "b", "unknown"]]


async def test_a_reader_that_comes_while_a_question_is_under_way_gets_the_next_answer() -> None:
    broker = Broker()
    batch = Batch(broker.ask)
    first = asyncio.create_task(batch.read("a"))
    await turns()
    second = [asyncio.create_task(batch.read(name)) for name in ("a", "b", "c")]
    await turns()
    broker.gate.set()
    assert await first == 1
    assert await asyncio.gather(*second) == [2, 2, 2]
    assert broker.asked == [["a"], ["a", "b", "c"]]


async def test_a_failure_reaches_all_callers_so_far_and_none_after_them() -> None:
    broker = Broker()
    broker.gate.set()
    batch = Batch(broker.ask)
    outcomes = await asyncio.gather(batch.read("a"), batch.read("poison"), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ValueError, ValueError]
    assert await batch.read("a") == 2


async def test_a_cancelled_reader_disturbs_no_other() -> None:
    broker = Broker()
    batch = Batch(broker.ask)
    gone, stays = (asyncio.create_task(batch.read("a")) for _ in range(2))
    await turns()
    gone.cancel()
    await turns()
    broker.gate.set()
    assert await stays == 1
    assert gone.cancelled()


async def test_closing_refuses_who_waits() -> None:
    broker = Broker()
    batch = Batch(broker.ask)
    asked = asyncio.create_task(batch.read("a"))
    await turns()
    waits = asyncio.create_task(batch.read("b"))
    await turns()
    await batch.close()
    for task in (asked, waits):
        with pytest.raises(QueueError, match="closed while"):
            await task
    broker.gate.set()
    assert await batch.read("c") == 2, "a batch may be used again"
