"""A task whose exception nothing awaits is seen: it is logged, and something is done."""

from __future__ import annotations

import asyncio
import logging

import pytest

from nullworker.wire import tasks


async def fail() -> None:
    raise ZeroDivisionError("planted\nin a test")


async def test_what_is_awaited_raises_for_who_awaits_it() -> None:
    with pytest.raises(ZeroDivisionError):
        await tasks.start(fail())


async def test_what_is_watched_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    await asyncio.wait([tasks.watch(fail(), "The thing", told.append)])
    await asyncio.sleep(0)
    assert told == ["The thing failed (ZeroDivisionError: planted in a test)."]
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.ERROR, told[0])
    assert record.exc_info is not None


async def test_one_that_was_started_elsewhere_is_observed_as_well(caplog: pytest.LogCaptureFixture) -> None:
    task = tasks.start(fail())
    tasks.observe(task, "It")
    await asyncio.wait([task])
    await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records] == ["It failed (ZeroDivisionError: planted in a test)."]


async def test_an_end_and_a_cancellation_are_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    ended = tasks.watch(asyncio.sleep(0), "It", told.append)
    cancelled = tasks.watch(asyncio.Event().wait(), "It", told.append)
    cancelled.cancel()
    await asyncio.wait([ended, cancelled])
    await asyncio.sleep(0)
    assert (told, caplog.records) == ([], [])


async def test_a_round_that_fails_is_followed_by_the_next(caplog: pytest.LogCaptureFixture) -> None:
    rounds: list[int] = []
    pauses: list[float] = []

    async def step() -> None:
        rounds.append(len(rounds))
        if len(rounds) == 1:
            await fail()
        if len(rounds) == 3:
            raise asyncio.CancelledError

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    with pytest.raises(asyncio.CancelledError):
        await tasks.repeat(step, 30.0, "The round", sleep)
    assert (rounds, pauses) == ([0, 1, 2], [30.0, 30.0])
    assert [record.getMessage() for record in caplog.records] == ["The round failed; it is tried again in 30 s."]


def test_an_exception_without_a_message_is_named() -> None:
    assert tasks.failed("It", KeyError()) == "It failed (KeyError)."
