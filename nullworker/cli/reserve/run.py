"""Makes the reservations of one run of ``nullworker reserve``, and says what happens to each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

from nullworker.client import NullClient, reserve
from nullworker.client.errors import ClientError, ReservationLostError
from nullworker.client.instances import VAST_INSTANCES
from nullworker.wire import tasks
from nullworker.wire.timeouts import within

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nullworker.cli.reserve import Options
    from nullworker.client import Reservation

EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED = 0, 1, 130
CHECK_S = 1.0  # shows at once what happens


def run(options: Options) -> int:
    """Makes the reservations; returns 0, 1 when one failed (why has been said), or 130 when it was interrupted.

    Raises:
        ClientError: nothing could be asked for at all.
    """
    return asyncio.run(Reservations(options).run())


class Reservations:
    """The reservations of one run.

    After a failure nothing more is asked for, but what is held is held to its end.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started = time.monotonic()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._held: set[int] = set()
        self._failures: list[str] = []
        self._interrupts = 0

    async def run(self) -> int:
        """As `run` of this module."""
        with self._interruptible():
            async with NullClient(self._options.instance) as client:
                for number in range(1, self._options.count + 1):
                    self._tasks[number] = tasks.start(self._reserve(client, number))
                done, _ = await asyncio.wait(self._tasks.values())
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if self._interrupts:
            return EXIT_INTERRUPTED
        return EXIT_FAILED if self._failures else EXIT_DONE

    async def _reserve(self, client: NullClient, number: int) -> None:
        await asyncio.sleep((number - 1) * self._options.interval)
        self._tell(number, "asking", f"asking for a worker of {self._options.endpoint}")
        try:
            await self._hold(client, number)
        except ClientError as error:
            self._fail(number, error)
        finally:
            self._held.discard(number)

    async def _hold(self, client: NullClient, number: int) -> None:
        asked = held = time.monotonic()
        reservation: Reservation | None = None
        try:
            async with reserve(
                self._options.endpoint,
                cost=self._options.cost,
                payload=self._options.payload,
                deadline_s=self._options.deadline,
                check_s=CHECK_S,
                on_waiting=lambda reason: self._tell(number, "waiting", f"waiting: {reason}", reason=reason),
                client=client,
            ) as reservation:
                held = time.monotonic()
                self._held.add(number)
                details = {"worker": reservation.url, "session": reservation.session_id}
                text = f"held after {held - asked:.3f} s: {reservation.url}, session {reservation.session_id}"
                self._tell(number, "held", text, waited_s=round(held - asked, 4), **details)
                with contextlib.suppress(asyncio.TimeoutError, TimeoutError):
                    await within(reservation.wait_closed(), self._options.hold)
        finally:
            if reservation is not None:
                self._tell_end(number, reservation, time.monotonic() - held)
        if reservation.is_lost:
            because = reservation.closed_because
            if self._options.instance not in VAST_INSTANCES:
                because += f"; `nullworker explain {reservation.endpoint}` tells why"
            raise ReservationLostError(reservation.session_id, reservation.url, because)

    def _tell_end(self, number: int, reservation: Reservation, held_s: float) -> None:
        because = reservation.closed_because or "left to run out, as its worker did not confirm the release"
        event = "released" if because == "released" else "ended"
        text = f"released after {held_s:.1f} s" if event == "released" else f"over after {held_s:.1f} s: {because}"
        details = {"worker": reservation.url, "session": reservation.session_id, "reason": because}
        self._tell(number, event, text, held_s=round(held_s, 4), **details)

    def _fail(self, number: int, error: ClientError) -> None:
        """Says so at once, and stops the reservations that are not held yet."""
        sentence = str(error)
        if self._options.json:
            self._tell(number, "failed", sentence, reason=sentence)
        if sentence not in self._failures:
            print(f"error: {sentence}", file=sys.stderr, flush=True)
        self._failures.append(sentence)
        for other, task in self._tasks.items():
            if other not in self._held and other != number:
                task.cancel()

    def _tell(self, number: int, event: str, text: str, **details: object) -> None:
        elapsed_s = time.monotonic() - self._started
        now = datetime.now().astimezone()
        if self._options.json:
            line = {"event": event, "reservation": number, "time": now.isoformat(), "elapsed_s": round(elapsed_s, 4)}
            text = json.dumps(line | details)
        else:
            text = f"{now:%H:%M:%S}  {elapsed_s:8.3f} s  {number}/{self._options.count}  {text}"
        print(text, flush=True)

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C gives everything back, a second one does not wait for that."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            os._exit(EXIT_INTERRUPTED)
        print(
            f"giving back {len(self._held)} (once more: exit at once, and leave them to run out)",
            file=sys.stderr,
            flush=True,
        )
        for task in self._tasks.values():
            task.cancel()
