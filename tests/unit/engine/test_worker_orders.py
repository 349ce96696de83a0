"""An order to a worker goes out with each answer until a report confirms it; its operator is told what came of it."""

from __future__ import annotations

import asyncio

import pytest

from nullworker.engine.worker_orders import ENDED_REMEMBERED_S, OrderRefusedError, OrdersToWorkers
from nullworker.wire import tasks
from nullworker.wire.types import OrderDone, PlaceEnds, WorkerOrders


async def given(orders: OrdersToWorkers, act: str = "end") -> asyncio.Task[None]:
    task = tasks.start(orders.give(3, act, 17, 60.0))
    await asyncio.sleep(0)
    return task


async def test_it_is_told_until_it_is_confirmed() -> None:
    orders = OrdersToWorkers()
    assert orders.heard(3, ()) is None
    task = await given(orders)
    told = orders.heard(3, ())
    assert told is not None
    (order,) = told.orders
    assert (order.act, order.request_idx, order.seconds) == ("end", 17, 60.0)
    assert orders.heard(3, ()) == told
    assert orders.heard(4, ()) is None
    assert orders.heard(3, (OrderDone(order.id),)) == WorkerOrders([])
    await task
    assert orders.heard(3, (OrderDone(order.id),)) is None


async def test_a_worker_is_told_with_each_answer_that_its_place_ends_it() -> None:
    now = 100.0
    orders = OrdersToWorkers(now=lambda: now)
    orders.place_ends(3, 300.0, "its time limit")
    assert orders.heard(3, ()) == WorkerOrders([], PlaceEnds(300.0, "its time limit"))
    assert orders.heard(4, ()) is None
    assert orders.heard(3, None) is None, "one that takes no orders"
    now += 310.0
    assert orders.heard(3, ()) == WorkerOrders([], PlaceEnds(0.0, "its time limit"))
    task = await given(orders)
    told = orders.heard(3, ())
    assert told is not None
    assert (len(told.orders), told.ends) == (1, PlaceEnds(0.0, "its time limit"))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    now += ENDED_REMEMBERED_S
    orders.place_ends(5, 1.0, "another")
    assert orders.heard(3, ()) is None, "it has ended long ago"


async def test_what_the_worker_refuses_is_refused() -> None:
    orders = OrdersToWorkers()
    orders.heard(3, ())
    task = await given(orders, "extend")
    told = orders.heard(3, ())
    assert told is not None
    orders.heard(3, (OrderDone(told.orders[0].id, "It is over."),))
    with pytest.raises(OrderRefusedError, match="It is over"):
        await task


async def test_a_worker_of_another_kind_takes_none() -> None:
    orders = OrdersToWorkers()
    with pytest.raises(OrderRefusedError, match="Worker 3 takes no orders"):
        await orders.give(3, "end", 17)
    orders.heard(3, ())
    orders.heard(3, None)  # another process, of another version
    with pytest.raises(OrderRefusedError, match="Worker 3 takes no orders"):
        await orders.give(3, "end", 17)


async def test_one_that_does_not_answer_is_told_of() -> None:
    orders = OrdersToWorkers(answer_s=0.0)
    orders.heard(3, ())
    with pytest.raises(OrderRefusedError, match="Worker 3 has not confirmed it"):
        await orders.give(3, "end", 17)
    assert orders.heard(3, ()) is None
