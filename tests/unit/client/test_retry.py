"""Limits and pauses."""

from __future__ import annotations

import asyncio
import random

import pytest
from vastai.serverless.client.connection import _backoff_delay

from nullworker.client.retry import (
    BACKOFF_FIRST_S,
    BACKOFF_MAX_S,
    POLL_MIN_S,
    OutOfTimeError,
    Patience,
    jittered_backoff_s,
    poll_pause_s,
    steady_backoff_s,
    within,
)


async def test_within_returns_the_result() -> None:
    """With and without a limit."""

    async def work() -> int:
        return 7

    assert await within(work(), None) == 7
    assert await within(work(), 60) == 7


async def test_within_raises_what_the_work_raises() -> None:
    """Its own time-outs included, which are not the limit's."""

    async def work() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        await within(work(), 60)


async def test_within_has_ended_the_work_when_time_is_up() -> None:
    """Nothing goes on behind the caller's back."""
    ended = False

    async def work() -> None:
        nonlocal ended
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    with pytest.raises(OutOfTimeError):
        await within(work(), 0.001)
    assert ended


async def test_a_cancelled_within_has_ended_the_work() -> None:
    """And is cancelled itself."""
    started, ended = asyncio.Event(), False

    async def work() -> None:
        nonlocal ended
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended = True

    task = asyncio.ensure_future(within(work(), None))
    await started.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert ended


async def test_a_cancellation_that_comes_with_the_result_is_not_swallowed() -> None:
    """As asyncio.wait_for does up to Python 3.11."""
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()

    task = asyncio.ensure_future(within(work(), 60))
    for _ in range(3):
        await asyncio.tasks.sleep(0)
    go.set()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


def test_pauses_double_up_to_a_cap_and_are_never_short() -> None:
    """Between half of the ceiling and the ceiling."""
    rng = random.Random(1)
    for failures, ceiling in [(1, BACKOFF_FIRST_S), (2, 0.5), (3, 1.0), (4, 2.0), (5, 4.0), (6, 5.0), (10_000, 5.0)]:
        pauses = [jittered_backoff_s(failures, rng) for _ in range(200)]
        assert ceiling / 2 <= min(pauses) < max(pauses) <= ceiling <= BACKOFF_MAX_S
        assert len(set(pauses)) > 100


@pytest.mark.parametrize("failures", [1, 2, 3, 4, 30])
def test_the_steady_pauses_are_the_sdks(failures: int) -> None:
    """With the same chance, the same pause."""
    random.seed(failures)
    assert steady_backoff_s(failures, BACKOFF_MAX_S, random.Random(failures)) == _backoff_delay(failures)


def test_polls_of_vasts_engine_begin_after_a_second_and_spread_over_five() -> None:
    """As the SDK's: the first pause is fixed, and no later one is short of 0.1 s."""
    rng = random.Random(1)
    assert poll_pause_s(0, 5.0, rng) == 1.0
    for polls, ceiling in [(1, 3.0), (2, 5.0), (30, 5.0)]:
        pauses = [poll_pause_s(polls, 5.0, rng) for _ in range(500)]
        assert POLL_MIN_S <= min(pauses) < 0.2
        assert ceiling - 0.8 < max(pauses) <= ceiling


def test_no_poll_of_an_engine_that_holds_the_call_comes_late() -> None:
    """Not the first either."""
    rng = random.Random(1)
    assert max(poll_pause_s(polls, 0.2, rng) for polls in range(100)) <= 0.2


class TestPatience:
    @pytest.mark.parametrize("heard", [True, False])
    def test_with_a_deadline_it_lasts_until_then_whatever_was_heard(self, heard: bool) -> None:
        """Also for an engine that has not started yet."""
        patience = Patience(100.0, 30.0, 60.0)
        patience.failed(100.0)
        assert not patience.is_over(129.9, ever_heard=heard)
        assert patience.left_s(110.0) == 20.0
        assert patience.is_over(130.0, ever_heard=heard)
        assert patience.left_s(131.0) == 0.0

    def test_without_one_it_ends_at_once_for_an_engine_never_heard(self) -> None:
        """A wrong address does not answer later."""
        patience = Patience(100.0, None, 60.0)
        patience.failed(100.0)
        assert patience.is_over(100.0, ever_heard=False)
        assert patience.left_s(100.0) is None

    def test_without_one_the_silence_of_an_engine_that_was_heard_is_borne_for_a_while(self) -> None:
        """From its first failure on."""
        patience = Patience(100.0, None, 60.0)
        patience.failed(500.0)
        patience.failed(510.0)
        assert patience.failures == 2
        assert not patience.is_over(559.9, ever_heard=True)
        assert patience.silent_s(559.9) == pytest.approx(59.9)
        assert patience.is_over(560.0, ever_heard=True)

    def test_an_answer_of_the_engine_starts_it_again(self) -> None:
        """Two restarts within an hour are not an hour of silence."""
        patience = Patience(0.0, None, 60.0)
        patience.failed(50.0)
        patience.heard()
        assert patience.failures == 0
        assert patience.silent_s(90.0) == 0.0
        patience.failed(100.0)
        assert not patience.is_over(120.0, ever_heard=True)
