"""The demo's heart: as many reservations as there is work, at most so many, until there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nullworker.wire import tasks

if TYPE_CHECKING:
    from nullworker.client.client import NullClient
    from nullworker.queues.base import Queue

#: How often the queue is read when it does not say by itself that it changed.
POLL_S = 0.25
#: How soon the end of a reservation is noticed that its worker gave back.
CHECK_S = 0.1


class Crew:
    """Opens a reservation for each job in flight. The consumer beside each worker takes the job and gives it back."""

    def __init__(self, client: NullClient, endpoint: str, queue: Queue, at_most: int, *, deadline_s: float) -> None:
        self._client = client
        self._endpoint = endpoint
        self._queue = queue
        self._at_most = at_most
        self._deadline_s = deadline_s
        self._open: set[asyncio.Task[None]] = set()
        self.opened = 0

    async def run(self) -> None:
        """Works until the queue is empty and nothing is in flight.

        Raises:
            ClientError, QueueError: something failed; nothing is held then.
        """
        try:
            while True:
                depth = await self._queue.depth()
                in_flight = depth.in_flight or 0
                wanted = min(self._at_most, depth.waiting + in_flight)
                while len(self._open) < wanted:
                    self._open.add(tasks.start(self._one()))
                if not self._open:
                    return
                done, self._open = await asyncio.wait(self._open, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
        finally:
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _one(self) -> None:
        reservation = await self._client.open(
            self._endpoint, lifetime_s=30.0, check_s=CHECK_S, deadline_s=self._deadline_s
        )
        self.opened += 1
        try:
            await reservation.wait_closed()
        finally:
            await reservation.release()
