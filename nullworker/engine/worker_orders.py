"""What an operator asks of a worker about what it holds: given in the answers to its reports, and confirmed by them.

A worker that takes orders says so in its reports (`nullworker.worker.orders`); Vast's own and classic ones do not.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from nullworker.wire.errors import WireError
from nullworker.wire.timeouts import within
from nullworker.wire.types import PlaceEnds, WorkerOrder, WorkerOrders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nullworker.wire.types import OrderDone

#: A worker reports after 9 s at the latest, and does at once what it is told.
ANSWER_S = 15.0
#: A worker that was to be ended is told so for this long after that: its place may be late.
ENDED_REMEMBERED_S = 600.0


class OrderRefusedError(WireError):
    """A worker does not do what it is told."""

    status = 409
    error = "order_refused"


class OrdersToWorkers:
    """The orders that are not confirmed yet."""

    def __init__(self, answer_s: float = ANSWER_S, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        #: When places end workers, and why; by their numbers.
        self._ends: dict[int, tuple[float, str]] = {}
        self._answer_s = answer_s
        self._next = int(time.time() * 1000)  # noqa: TID251 - beyond those of engines before this one
        self._waiting: dict[int, dict[int, tuple[WorkerOrder, asyncio.Future[str]]]] = {}  # by worker and number
        self._takers: set[int] = set()

    def heard(self, worker_id: int, done: Iterable[OrderDone] | None) -> WorkerOrders | None:
        """A worker reports; returns what it is told, None: nothing.

        Args:
            worker_id: its number.
            done: what it has done; None: it takes no orders.
        """
        if done is None:
            self._takers.discard(worker_id)
            return None
        self._takers.add(worker_id)
        waiting, ends = self._waiting.get(worker_id), self._ends_of(worker_id)
        if not waiting:
            return None if ends is None else WorkerOrders([], ends)
        for each in done:
            if each.id in waiting and not waiting[each.id][1].done():
                waiting[each.id][1].set_result(each.refusal)
        return WorkerOrders([order for order, answer in waiting.values() if not answer.done()], ends)

    def place_ends(self, worker_id: int, in_s: float, reason: str) -> None:
        """A worker, and by it its holder, is to know that its place ends it.

        Args:
            worker_id: its number.
            in_s: in how many seconds.
            reason: the place's own, as the end of a sentence.
        """
        now = self._now()
        self._ends = {each: ends for each, ends in self._ends.items() if ends[0] > now - ENDED_REMEMBERED_S}
        self._ends[worker_id] = now + in_s, reason

    def _ends_of(self, worker_id: int) -> PlaceEnds | None:
        ends = self._ends.get(worker_id)
        return None if ends is None else PlaceEnds(max(0.0, ends[0] - self._now()), ends[1])

    async def give(self, worker_id: int, act: str, request_idx: int, seconds: float = 0.0) -> None:
        """Has a worker do something; returns once it has.

        Args:
            worker_id: its number.
            act: "end" or "extend".
            request_idx: the reservation that it is about.
            seconds: for how long it is extended, from now.

        Raises:
            OrderRefusedError: the worker takes no orders, refuses this one, or has not answered.
        """
        if worker_id not in self._takers:
            raise OrderRefusedError(
                "", f"Worker {worker_id} takes no orders about what it holds: it is no null worker of this version, or "
                "has not reported since the engine started."
            )  # fmt: skip
        self._next += 1
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        order = WorkerOrder(self._next, act, request_idx, seconds)
        waiting = self._waiting.setdefault(worker_id, {})
        waiting[order.id] = order, answer
        try:
            refusal = await within(answer, self._answer_s)
        except (asyncio.TimeoutError, TimeoutError):
            raise OrderRefusedError(
                "", f"Worker {worker_id} has not confirmed it within {self._answer_s:g} s, and may do it yet; look at "
                "the request."
            ) from None  # fmt: skip
        finally:
            del waiting[order.id]
            if not waiting:
                self._waiting.pop(worker_id, None)
        if refusal:
            raise OrderRefusedError("", refusal)
