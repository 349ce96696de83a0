"""A reservation whose end is noticed by one that asked, and not by keep-alive."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest

from nullworker.client.errors import ReservationLostError
from nullworker.client.models import Session
from nullworker.client.reservation import Reservation
from nullworker.client.worker_client import SessionGone, WorkerClient
from nullworker.wire import tasks

if TYPE_CHECKING:
    from nullworker.client.keepalive import Ended, KeepAlive


class GoneWorker:
    """Says that the session has ended."""

    async def look(self) -> None:
        raise SessionGone("its worker answers HTTP 400")

    ping = look


class Keeper:
    """Keep-alive that is asleep between two looks."""

    def __init__(self) -> None:
        self.cancelled = False

    async def run(self) -> Ended:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError


def held(keeper: Keeper, closed: list[Reservation]) -> Reservation:
    session = Session("gpu", "s1", "http://127.0.0.1:1", {}, 60.0, datetime(2026, 1, 1, tzinfo=timezone.utc))
    worker = cast("WorkerClient", GoneWorker())
    reservation = Reservation(session, worker, start_task=tasks.start, on_closed=closed.append, rng=random.Random(1))
    reservation.watch(cast("KeepAlive", keeper))
    return reservation


async def test_its_holder_is_told_once_that_its_place_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    reservation = held(Keeper(), [])
    waiting = asyncio.ensure_future(reservation.wait_place_ends())
    await asyncio.sleep(0)
    assert reservation.place_ends is None
    for in_s in (300.0, 295.0):
        reservation._worker.on_place_ends(in_s, "its time limit")
    told = await waiting
    assert told is not None
    assert (told.reason, 290 < (told.at - datetime.now(timezone.utc)).total_seconds() <= 300) == (
        "its time limit",
        True,
    )
    assert caplog.text.count("the place of session s1 ends it in 300 s: its time limit") == 1
    await reservation.stop_watching()


async def test_who_waits_for_the_notice_of_one_that_is_over_waits_no_more() -> None:
    reservation = held(Keeper(), [])
    waiting = asyncio.ensure_future(reservation.wait_place_ends())
    await asyncio.sleep(0)
    assert not await reservation.is_open()
    assert await waiting is None


@pytest.mark.parametrize("asked_by", ["is_open", "ping"])
async def test_keep_alive_does_not_look_again_at_what_is_known_to_be_over(asked_by: str) -> None:
    """Else it looked when the client was closed, and the log had a traceback."""
    keeper, closed = Keeper(), list[Reservation]()
    reservation = held(keeper, closed)
    await asyncio.sleep(0)
    answer: Any = getattr(reservation, asked_by)()
    if asked_by == "ping":
        with pytest.raises(ReservationLostError):
            await answer
    else:
        assert await answer is False
    await asyncio.sleep(0)
    assert keeper.cancelled
    assert closed == [reservation]
    assert await reservation.wait_closed() == "its worker answers HTTP 400"
