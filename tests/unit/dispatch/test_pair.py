"""A queue and an endpoint: each round opens or withdraws the difference, and nothing held is touched."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.client.errors import EngineUnreachableError
from nullworker.dispatch.evidence import FUTILE_FREE
from nullworker.dispatch.pair import FUTILE
from nullworker.dispatch.plan import Phase
from nullworker.queues.base import Depth, QueueError, QueueInfo, QueueUrlError
from tests.unit.dispatch.stage import settle

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from tests.unit.dispatch.stage import Stage

DOWN = EngineUnreachableError("http://127.0.0.1:1", "connection refused")


class TestRounds:
    async def test_what_is_missing_is_opened_and_opened_once(self, stage: Stage) -> None:
        pair = stage.pair()
        for _ in range(5):
            await stage.consider(pair, 3)
        assert len(stage.client.asked) == 3
        assert pair.last is not None
        assert (pair.last.want, pair.last.have) == (3, 3)
        await stage.end(pair)

    async def test_what_is_asked_booting_or_held_counts(self, stage: Stage) -> None:
        pair = stage.pair()
        await stage.consider(pair, 3)
        stage.client.asked[0].create({})
        stage.client.asked[1].confirm()
        await stage.consider(pair, 2, 1)
        assert len(stage.client.asked) == 3
        await stage.end(pair)

    async def test_the_last_to_ask_are_the_first_to_go(self, stage: Stage) -> None:
        pair = stage.pair()
        await stage.consider(pair, 2)
        await stage.consider(pair, 4)
        await stage.consider(pair, 1)
        assert [asking.cancelled for asking in stage.client.asked] == [False, True, True, True]
        assert pair.live == 1
        await stage.end(pair)

    async def test_whoever_is_held_stays_when_nothing_waits(self, stage: Stage) -> None:
        pair = stage.pair()
        reservations = await stage.held(pair, 2)
        for _ in range(100):
            await stage.time.go(1)
            await stage.consider(pair, 0, 0)
        assert pair.count(Phase.HELD) == 2
        assert [each.releases for each in reservations] == [0, 0]
        await stage.end(pair)

    async def test_an_end_makes_room_for_the_next(self, stage: Stage) -> None:
        pair = stage.pair(most=1)
        (reservation,) = await stage.held(pair, 1)
        await stage.time.go(60)
        await stage.consider(pair, 5, 1)
        assert len(stage.client.asked) == 1
        reservation.closed.set()
        await stage.time.go(0.1)
        await stage.consider(pair, 5)
        assert len(stage.client.asked) == 2
        await stage.end(pair)

    async def test_idle_ones_are_ended_only_where_that_was_asked_for(self, stage: Stage) -> None:
        pair = stage.pair(end_idle_s=5.0)
        reservations = await stage.held(pair, 2)
        for _ in range(7):
            await stage.consider(pair, 0, 0)
            await stage.time.go(1)
        assert [each.releases for each in reservations] == [1, 1]
        assert pair.live == 0
        await stage.end(pair)

    async def test_a_queue_that_is_read_too_late_changes_nothing(self, stage: Stage) -> None:
        pair = stage.pair()
        await stage.consider(pair, 2)
        await stage.consider(pair, 0, age_s=60)
        await stage.consider(pair, 9, age_s=60)
        assert pair.live == 2
        await stage.end(pair)

    async def test_a_clock_that_is_set_changes_nothing(self, stage: Stage) -> None:
        """Forward or back, by a day: what was read a moment ago was read a moment ago."""
        pair = stage.pair(most=1)
        for jump_s in (86_400.0, -2 * 86_400.0):
            (reservation,) = await stage.held(pair, 1)
            stage.time.wall_s += jump_s
            reservation.closed.set()
            await stage.time.go(0.1)
            await stage.consider(pair, 1)
            assert pair.count(Phase.ASKED) == 1
            stage.client.asked[-1].confirm().closed.set()
            await stage.time.go(0.1)
            await stage.consider(pair, 0)
            assert pair.live == 0
        await stage.end(pair)


class TestTrouble:
    async def test_an_engine_that_is_down_is_asked_less_and_less_often_and_by_one(self, stage: Stage) -> None:
        pair = stage.pair()
        await stage.consider(pair, 10)
        for asking in stage.client.asked:
            asking.fail(DOWN)
        await settle()
        assert pair.trouble == str(DOWN)
        asked_at: list[float] = []
        for _ in range(600):
            before = len(stage.client.asked)
            await stage.consider(pair, 10)
            for asking in stage.client.asked[before:]:
                asked_at.append(stage.time.now_s)
                asking.fail(DOWN)
            await stage.time.go(0.1)
        gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(asked_at)]
        assert gaps == sorted(gaps)
        assert gaps[-1] == pytest.approx(15, abs=0.2)
        assert len(asked_at) < 12
        await stage.end(pair)

    async def test_when_it_answers_again_the_rest_is_asked_for(self, stage: Stage) -> None:
        pair = stage.pair()
        await stage.consider(pair, 4)
        for asking in stage.client.asked:
            asking.fail(DOWN)
        await stage.time.go(1)
        await stage.consider(pair, 4)
        assert pair.live == 1
        stage.client.asked[-1].wait("all are held")
        await stage.consider(pair, 4)
        assert (pair.live, pair.trouble) == (4, "")
        await stage.end(pair)

    async def test_consumers_that_find_nothing_do_not_start_and_end_all_day(self, stage: Stage) -> None:
        """What waits is not for them, perhaps. Money is at stake."""
        pair = stage.pair(most=1)
        for _ in range(600):
            before = len(stage.client.asked)
            await stage.consider(pair, 5)
            for asking in stage.client.asked[before:]:
                asking.confirm().closed.set()
            await stage.time.go(1)
        assert len(stage.client.asked) < FUTILE_FREE + 20  # in ten minutes
        assert pair.trouble == FUTILE
        await stage.consider(pair, 4)
        await stage.consider(pair, 4)
        assert pair.trouble == ""
        await stage.end(pair)

    async def test_a_ledger_that_cannot_be_written_opens_nothing_and_says_so(self, stage: Stage) -> None:
        pair = stage.pair()
        stage.ledger._db.execute("PRAGMA query_only = ON")
        await stage.consider(pair, 3)
        assert stage.client.asked == []
        assert "cannot be used" in pair.trouble
        stage.ledger._db.execute("PRAGMA query_only = OFF")
        await stage.time.go(1)
        await stage.consider(pair, 3)
        assert len(stage.client.asked) == 1
        await stage.end(pair)


class TestRestart:
    async def test_the_next_dispatcher_adopts_every_reservation_and_opens_none_twice(self, stage: Stage) -> None:
        first = stage.pair()
        await stage.consider(first, 3)
        stage.client.asked[0].confirm()
        stage.client.asked[1].create({"session_id": "being made"})
        await settle()
        await stage.end(first)  # as kill -9 does: nothing is written
        again = type(stage)(stage.file)
        heir = again.pair()
        assert heir.adopt() == 3
        assert heir.holding == 2  # before anybody was asked
        await again.consider(heir, 1, 2)
        assert sorted(how for how, _ in again.client.looked_for) == ["adopt", "recover"]
        assert heir.count(Phase.HELD) == 2
        assert len(again.client.asked) == 1  # the third had only waited
        await again.end(heir)

    async def test_more_than_the_maximum_are_let_be_and_none_is_opened(self, stage: Stage) -> None:
        first = stage.pair(most=5)
        await stage.held(first, 5)
        await stage.end(first)
        again = type(stage)(stage.file)
        heir = again.pair(most=2)
        heir.adopt()
        await again.consider(heir, 9, 5)
        assert (heir.holding, again.client.asked) == (5, [])
        await again.end(heir)

    async def test_an_end_withdraws_what_waits_and_leaves_what_is_held(self, stage: Stage) -> None:
        pair = stage.pair()
        await stage.held(pair, 2)
        await stage.consider(pair, 3, 2)
        assert await pair.drain() == 2
        assert [row.phase for row in stage.ledger.open_rows(pair.name)] == ["held", "held"]
        await stage.consider(pair, 3, 2)
        assert pair.count(Phase.ASKED) == 0
        await stage.end(pair)

    async def test_an_end_waits_for_a_worker_that_is_about_to_confirm(self, stage: Stage) -> None:
        pair = stage.pair()
        await stage.consider(pair, 1)
        stage.client.asked[0].create({})
        draining = asyncio.ensure_future(pair.drain())
        await settle()
        assert not draining.done()
        stage.client.asked[0].confirm()
        assert await draining == 1
        await stage.end(pair)


class TestDone:
    async def test_an_empty_queue_and_nothing_open_is_the_end(self, stage: Stage) -> None:
        pair = stage.pair()
        assert not pair.is_done
        (reservation,) = await stage.held(pair, 1)
        await stage.time.go(60)
        await stage.consider(pair, 0, 0)
        assert not pair.is_done
        await stage.time.go(0.1)
        reservation.closed.set()
        await settle()
        await stage.time.go(0.1)
        assert not pair.is_done  # a job may have come back: one more reading shows
        await stage.consider(pair, 0, 0)
        assert pair.is_done
        await stage.time.go(60)
        assert not pair.is_done
        await stage.end(pair)

    @pytest.mark.parametrize(("waiting", "in_flight"), [(1, 0), (0, 1)])
    async def test_a_queue_with_something_in_it_is_not_done(self, stage: Stage, waiting: int, in_flight: int) -> None:
        pair = stage.pair(most=0)
        await stage.consider(pair, waiting, in_flight)
        assert not pair.is_done


class ScriptedQueue:
    """Each reading is the next line of the script; after the last, `changed` waits until it is cancelled."""

    def __init__(self, stage: Stage, *script: Depth | Exception) -> None:
        self._stage = stage
        self.script = list(script)
        self.opened = 0
        self.closed = 0

    async def open(self) -> ScriptedQueue:
        self.opened += 1
        return self

    async def info(self) -> QueueInfo:
        return QueueInfo("scripted", "q", "here", lag_s=7.0)

    async def depth(self) -> Depth:
        if not self.script:
            await asyncio.Event().wait()
        line = self.script.pop(0)
        if isinstance(line, Exception):
            raise line
        return line

    async def changed(self, _timeout_s: float) -> bool:
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.closed += 1


class TestLoop:
    async def test_a_broker_that_is_down_is_said_tried_again_and_never_taken_for_empty(self, stage: Stage) -> None:
        lines: list[Any] = [
            Depth(2, 0, stage.time.wall_s),
            QueueError("The broker is away."),
            QueueError("The broker is away."),
            ValueError("an adapter's own mistake"),
            Depth(3, 0, stage.time.wall_s + 10),
        ]
        queue = ScriptedQueue(stage, *lines)
        pair = stage.pair(open_queue=queue.open)
        said: list[str] = []
        pair._on_change = lambda p: said.append(p.queue_trouble)
        running = asyncio.ensure_future(pair.run())
        while queue.script:
            await stage.time.go(0.5)
            assert pair.live in (0, 2, 3)
        await settle()
        assert pair.live == 3
        assert queue.opened == 4
        assert "The broker is away." in said
        assert any("ValueError" in each for each in said)
        assert (said[-1], pair.queue_trouble) == ("", "")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert queue.closed == 4
        await stage.end(pair)

    async def test_a_url_that_is_wrong_ends_it_at_the_start_if_nothing_is_held(self, stage: Stage) -> None:
        """Else what is held is kept alive, and what has been read once may come back."""
        wrong = QueueUrlError("There is no such directory.")
        with pytest.raises(QueueUrlError):
            await stage.pair(open_queue=ScriptedQueue(stage, wrong).open).run()
        read_once = ScriptedQueue(stage, Depth(0, 0, stage.time.wall_s), wrong, wrong)
        needed = ScriptedQueue(stage, wrong, wrong)
        pairs = [stage.pair(open_queue=read_once.open), stage.pair(open_queue=needed.open)]
        pairs[1]._holds = lambda: True
        running = [asyncio.ensure_future(pair.run()) for pair in pairs]
        while read_once.script or needed.script:
            await stage.time.go(0.5)
        await settle()
        assert [pair.queue_trouble for pair in pairs] == ["There is no such directory."] * 2
        assert not any(each.done() for each in running)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def test_how_late_the_broker_may_be_is_learnt_from_the_queue(self, stage: Stage) -> None:
        queue = ScriptedQueue(stage, Depth(0, 0, stage.time.wall_s))
        pair = stage.pair(open_queue=queue.open)
        running = asyncio.ensure_future(pair.run())
        while queue.script:
            await settle()
        assert pair._limits.lag_s == 7.0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
