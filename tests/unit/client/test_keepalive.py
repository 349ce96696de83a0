"""Keep-alive, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import random

import pytest

from nullworker.client.keepalive import CHECK_S, Ended, KeepAlive, needs_ping
from nullworker.client.worker_client import Look, SessionGone, WorkerGone, WorkerSilent

LIFETIME_S = 60.0


class Worker:
    """A session that lives by the rules of the framework: each ping adds a lifetime. Time passes in sleep alone."""

    def __init__(self, *, tells: bool = True) -> None:
        self.now = 1000.0
        self.ends_at = self.now + LIFETIME_S
        self.tells = tells  # whether it says how much is left
        self.pings: list[float] = []
        self.longest_s = 0.0  # that the session would have outlived its holder
        self.silent = False
        self.gone: Exception | None = None
        self.stop_at = 0.0
        self.lifetime_s: float | None = None  # that it says it allows

    async def look(self) -> Look:
        self._answer()
        self.longest_s = max(self.longest_s, self.ends_at - self.now)
        return Look(self.ends_at - self.now if self.tells else None, self.lifetime_s)

    async def ping(self) -> None:
        self._answer()
        self.pings.append(self.now)
        self.ends_at += LIFETIME_S
        self.longest_s = max(self.longest_s, self.ends_at - self.now)

    def _answer(self) -> None:
        if self.gone is not None:
            raise self.gone
        if self.silent:
            raise WorkerSilent("time-out")
        if self.now >= self.ends_at:
            raise SessionGone("its worker answers HTTP 400")

    async def sleep(self, pause_s: float) -> None:
        self.now += pause_s
        if self.now >= self.stop_at:
            raise asyncio.CancelledError


def keep(worker: Worker, *, check_s: float | None = None, extend: bool = True) -> KeepAlive:
    """Keep-alive of that worker's session."""
    return KeepAlive(
        worker,
        LIFETIME_S,
        check_s=check_s,
        extend=extend,
        now=lambda: worker.now,
        sleep=worker.sleep,
        rng=random.Random(3),
    )


async def run_until(worker: Worker, seconds: float, **how: object) -> Ended | None:
    """Runs keep-alive for so long; None if the session lives."""
    worker.stop_at = worker.now + seconds
    try:
        return await keep(worker, **how).run()  # type: ignore[arg-type]  # what keep() takes
    except asyncio.CancelledError:
        return None


@pytest.mark.parametrize("check_s", [None, 1.0, 39.0])
async def test_a_session_is_alive_after_a_day_and_its_end_has_not_run_away(check_s: float | None) -> None:
    """It never outlives its holder by more than five thirds of its lifetime, and costs a ping a lifetime."""
    worker = Worker()
    assert await run_until(worker, 86_400.0, check_s=check_s) is None
    assert worker.longest_s <= LIFETIME_S * 5 / 3
    assert len(worker.pings) == pytest.approx(86_400 / LIFETIME_S, rel=0.01)


async def test_a_worker_that_does_not_tell_what_is_left_is_pinged_each_third_of_a_lifetime() -> None:
    """Rather too often than too late, but not at every look: each one adds a whole lifetime."""
    worker = Worker(tells=False)
    assert await run_until(worker, 600.0, check_s=1.0) is None
    assert 30 <= len(worker.pings) <= 34


async def test_what_is_only_watched_runs_out() -> None:
    """And its end is noticed at the next look."""
    worker = Worker()
    assert await run_until(worker, 600.0, extend=False) == Ended("its worker answers HTTP 400")
    assert not worker.pings
    assert worker.now - worker.ends_at <= CHECK_S


async def test_a_worker_that_allows_less_is_looked_after_in_time() -> None:
    """It was asked for an hour and grants a minute; the client learns that with its first look, at once."""
    worker = Worker()
    worker.lifetime_s = LIFETIME_S
    worker.stop_at = worker.now + 7200
    keeper = KeepAlive(
        worker, 3600.0, check_s=None, extend=True, now=lambda: worker.now, sleep=worker.sleep, rng=random.Random(3)
    )
    with pytest.raises(asyncio.CancelledError):
        await keeper.run()
    assert len(worker.pings) > 100


async def test_looks_of_many_do_not_stay_in_step() -> None:
    """The pause varies by a tenth, downwards."""
    worker = Worker()
    pauses = []

    async def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 100:
            raise asyncio.CancelledError

    keeper = KeepAlive(worker, 60, check_s=None, extend=True, now=lambda: worker.now, sleep=sleep, rng=random.Random(3))
    with pytest.raises(asyncio.CancelledError):
        await keeper.run()
    assert pauses.pop(0) <= 1.0
    assert CHECK_S * 0.9 <= min(pauses) < CHECK_S * 0.925
    assert CHECK_S * 0.975 < max(pauses) <= CHECK_S


async def test_a_worker_that_says_no_has_ended_it_and_one_that_is_not_there_has_lost_it() -> None:
    """The two are told apart."""
    worker = Worker()
    worker.gone = SessionGone("its worker answers HTTP 410")
    assert await run_until(worker, 60) == Ended("its worker answers HTTP 410", lost=False)
    worker.gone = WorkerGone("its worker is gone")
    assert await run_until(worker, 60) == Ended("its worker is gone", lost=True)


async def test_silence_ends_a_reservation_only_when_it_must_have_run_out() -> None:
    """A network that fails for less than what was left loses nothing."""
    worker = Worker()
    assert await run_until(worker, 200.0) is None
    left_s = worker.ends_at - worker.now
    worker.silent = True
    keeper = keep(worker)
    keeper._ends_at = worker.ends_at
    silent_from = worker.now
    worker.stop_at = worker.now + 600
    ended = await keeper.run()
    assert ended.lost
    assert "silent" in ended.because
    assert left_s <= worker.now - silent_from <= left_s + 10 + 20


async def test_a_short_silence_is_forgotten() -> None:
    """The next look makes good."""
    worker = Worker()
    worker.silent = True
    keeper = keep(worker)
    worker.stop_at = worker.now + 30
    with pytest.raises(asyncio.CancelledError):
        await keeper.run()
    worker.silent = False
    worker.stop_at = worker.now + 600
    with pytest.raises(asyncio.CancelledError):
        await keeper.run()
    assert worker.ends_at > worker.now


def test_a_ping_is_due_below_two_thirds() -> None:
    """Two looks may fail before it is late; a lifetime unknown is extended."""
    assert not needs_ping(40.0, 60.0)
    assert needs_ping(39.9, 60.0)
    assert needs_ping(-5.0, 60.0)
