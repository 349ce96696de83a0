"""A queue and an endpoint: each round opens or withdraws the difference, and nothing held is touched."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest

from nullworker.client.errors import EngineUnreachableError
from nullworker.demand.evidence import FUTILE_FREE
from nullworker.demand.reservations import Phase
from nullworker.dispatch.binding import FUTILE, BindingStatus
from nullworker.dispatch.dispatcher import LEFT_SAID_S, LeftToOthers
from nullworker.queues.base import Depth, QueueError, QueueInfo, QueueUrlError
from tests.unit.dispatch.harness import QUEUE, settle

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from tests.unit.dispatch.harness import DispatchHarness

DOWN = EngineUnreachableError("http://127.0.0.1:1", "connection refused")


class TestLeftToOthers:
    async def test_what_a_dead_consumer_has_is_named_once_and_not_too_soon(
        self, harness: DispatchHarness, caplog: pytest.LogCaptureFixture
    ) -> None:
        """With --until-empty nothing else would ever be said."""
        binding, left = harness.binding(), LeftToOthers(lambda: harness.time.now_s)
        await harness.consider(binding, 0, 1)
        assert binding.left_to_others == "1 in flight"
        for _ in range(100):
            left.look(binding)
            await harness.time.go(LEFT_SAID_S / 10)
            assert len(caplog.records) <= 1
        assert "the queue is not empty (1 in flight)" in caplog.text
        await harness.end(binding)

    async def test_what_is_worked_at_or_gone_is_not(
        self, harness: DispatchHarness, caplog: pytest.LogCaptureFixture
    ) -> None:
        binding, left = harness.binding(), LeftToOthers(lambda: harness.time.now_s)
        for waiting in (1, 0):
            await harness.consider(binding, waiting)
            for _ in range(30):
                left.look(binding)
                await harness.time.go(1)
        assert binding.left_to_others == ""
        assert caplog.records == []
        await harness.end(binding)


class TestRounds:
    async def test_what_is_missing_is_opened_and_opened_once(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        for _ in range(5):
            await harness.consider(binding, 3)
        assert len(harness.client.asked) == 3
        assert binding.last is not None
        assert (binding.last.want, binding.last.have) == (3, 3)
        await harness.end(binding)

    async def test_what_is_asked_booting_or_held_counts(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        await harness.consider(binding, 3)
        harness.client.asked[0].create({})
        harness.client.asked[1].confirm()
        await harness.consider(binding, 2, 1)
        assert len(harness.client.asked) == 3
        await harness.end(binding)

    async def test_the_last_to_ask_are_the_first_to_go(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        await harness.consider(binding, 2)
        await harness.consider(binding, 4)
        await harness.consider(binding, 1)
        assert [asking.cancelled for asking in harness.client.asked] == [False, True, True, True]
        assert binding.live == 1
        await harness.end(binding)

    async def test_held_reservations_stay_when_nothing_waits(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        reservations = await harness.held(binding, 2)
        for _ in range(100):
            await harness.time.go(1)
            await harness.consider(binding, 0, 0)
        assert binding.count(Phase.HELD) == 2
        assert [each.releases for each in reservations] == [0, 0]
        await harness.end(binding)

    async def test_an_end_makes_room_for_the_next(self, harness: DispatchHarness) -> None:
        binding = harness.binding(most=1)
        (reservation,) = await harness.held(binding, 1)
        await harness.time.go(60)
        await harness.consider(binding, 5, 1)
        assert len(harness.client.asked) == 1
        reservation.closed.set()
        await harness.time.go(0.1)
        await harness.consider(binding, 5)
        assert len(harness.client.asked) == 2
        await harness.end(binding)

    async def test_idle_ones_are_ended_only_where_that_was_asked_for(self, harness: DispatchHarness) -> None:
        binding = harness.binding(end_idle_s=5.0)
        reservations = await harness.held(binding, 2)
        for _ in range(7):
            await harness.consider(binding, 0, 0)
            await harness.time.go(1)
        assert [each.releases for each in reservations] == [1, 1]
        assert binding.live == 0
        await harness.end(binding)

    @pytest.mark.parametrize(
        ("limit_s", "said"), [(None, ["", "1 min", "10 min", "1 h"]), (3600.0, ["", "1 min", "10 min"])]
    )
    async def test_one_that_is_done_and_not_gone_is_said_and_can_be_limited(
        self, harness: DispatchHarness, limit_s: float | None, said: list[str]
    ) -> None:
        """An acknowledged job, and a thread that never ends."""
        binding = harness.binding(max_idle_hold_s=limit_s)
        (reservation,) = await harness.held(binding, 1)
        await harness.consider(binding, 0, 1)
        await harness.consider(binding, 0, 0)
        assert binding.status.doing == {"done": 1}
        heard = []
        for _ in range(740):
            heard.append(binding.status.trouble.partition("for over ")[2].partition(":")[0])
            await harness.time.go(5)
            await harness.consider(binding, 0, 0)
        assert list(dict.fromkeys(heard)) == said
        assert reservation.releases == (0 if limit_s is None else 1)
        await harness.end(binding)

    async def test_a_queue_that_is_read_too_late_changes_nothing(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        await harness.consider(binding, 2)
        await harness.consider(binding, 0, age_s=60)
        await harness.consider(binding, 9, age_s=60)
        assert binding.live == 2
        await harness.end(binding)

    async def test_a_clock_that_is_set_changes_nothing(self, harness: DispatchHarness) -> None:
        """Forward or back, by a day: what was read a moment ago was read a moment ago."""
        binding = harness.binding(most=1)
        for jump_s in (86_400.0, -2 * 86_400.0):
            (reservation,) = await harness.held(binding, 1)
            harness.time.wall_s += jump_s
            reservation.closed.set()
            await harness.time.go(0.1)
            await harness.consider(binding, 1)
            assert binding.count(Phase.ASKED) == 1
            harness.client.asked[-1].confirm().closed.set()
            await harness.time.go(0.1)
            await harness.consider(binding, 0)
            assert binding.live == 0
        await harness.end(binding)


class TestTrouble:
    async def test_an_engine_that_is_down_is_asked_less_and_less_often_and_by_one(
        self, harness: DispatchHarness
    ) -> None:
        binding = harness.binding()
        await harness.consider(binding, 10)
        for asking in harness.client.asked:
            asking.fail(DOWN)
        await settle()
        assert binding.trouble == str(DOWN)
        asked_at: list[float] = []
        for _ in range(600):
            before = len(harness.client.asked)
            await harness.consider(binding, 10)
            for asking in harness.client.asked[before:]:
                asked_at.append(harness.time.now_s)
                asking.fail(DOWN)
            await harness.time.go(0.1)
        gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(asked_at)]
        assert gaps == sorted(gaps)
        assert gaps[-1] == pytest.approx(15, abs=0.2)
        assert len(asked_at) < 12
        await harness.end(binding)

    async def test_when_it_answers_again_the_rest_is_asked_for(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        await harness.consider(binding, 4)
        for asking in harness.client.asked:
            asking.fail(DOWN)
        await harness.time.go(1)
        await harness.consider(binding, 4)
        assert binding.live == 1
        harness.client.asked[-1].wait("all are held")
        await harness.consider(binding, 4)
        assert (binding.live, binding.trouble) == (4, "")
        await harness.end(binding)

    async def test_consumers_that_find_nothing_do_not_start_and_end_all_day(self, harness: DispatchHarness) -> None:
        """What waits is not for them, perhaps. Money is at stake."""
        binding = harness.binding(most=1)
        for _ in range(600):
            before = len(harness.client.asked)
            await harness.consider(binding, 5)
            for asking in harness.client.asked[before:]:
                asking.confirm().closed.set()
            await harness.time.go(1)
        assert len(harness.client.asked) < FUTILE_FREE + 20  # in ten minutes
        assert binding.trouble == FUTILE
        await harness.consider(binding, 4)
        await harness.consider(binding, 4)
        assert binding.trouble == ""
        await harness.end(binding)

    async def test_consumers_that_ended_while_the_broker_was_away_keep_none_from_starting(
        self, harness: DispatchHarness
    ) -> None:
        """After its restart, jobs were without a worker for a minute."""
        binding = harness.binding(most=8)
        await harness.consider(binding, 8)
        for _ in range(3):
            for asking in [asking for asking in harness.client.asked if not asking.outcome.done()]:
                asking.confirm().closed.set()
            await harness.time.go(1)
            await harness.consider(binding, 8)
        assert binding._demand.evidence.pause_s > 0
        binding._cannot_read("The broker does not answer.")
        before = len(harness.client.asked)
        await harness.time.go(1)
        await harness.consider(binding, 8)
        assert binding.live == 8
        assert len(harness.client.asked) > before
        await harness.end(binding)

    async def test_a_store_that_cannot_be_written_opens_nothing_and_says_so(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        harness.store._db.execute("PRAGMA query_only = ON")
        await harness.consider(binding, 3)
        assert harness.client.asked == []
        assert "cannot be used" in binding.trouble
        harness.store._db.execute("PRAGMA query_only = OFF")
        await harness.time.go(1)
        await harness.consider(binding, 3)
        assert len(harness.client.asked) == 1
        await harness.end(binding)


class TestRestart:
    async def test_the_next_dispatcher_adopts_every_reservation_and_opens_none_twice(
        self, harness: DispatchHarness
    ) -> None:
        first = harness.binding()
        await harness.consider(first, 3)
        harness.client.asked[0].confirm()
        harness.client.asked[1].create({"session_id": "being made"})
        await settle()
        await harness.end(first)  # as kill -9 does: nothing is written
        again = type(harness)(harness.file)
        heir = again.binding()
        assert heir.adopt() == 3
        assert heir.holding == 2  # before any worker was asked
        await again.consider(heir, 1, 2)
        assert sorted(how for how, _ in again.client.looked_for) == ["adopt", "recover"]
        assert heir.count(Phase.HELD) == 2
        assert len(again.client.asked) == 1  # the third had only waited
        await again.end(heir)

    async def test_more_than_the_maximum_are_let_be_and_none_is_opened(self, harness: DispatchHarness) -> None:
        first = harness.binding(most=5)
        await harness.held(first, 5)
        await harness.end(first)
        again = type(harness)(harness.file)
        heir = again.binding(most=2)
        heir.adopt()
        await again.consider(heir, 9, 5)
        assert (heir.holding, again.client.asked) == (5, [])
        await again.end(heir)

    async def test_an_end_withdraws_what_waits_and_leaves_what_is_held(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        await harness.held(binding, 2)
        await harness.consider(binding, 3, 2)
        assert await binding.drain() == 2
        assert [row.phase for row in harness.store.open_rows(binding.name)] == ["held", "held"]
        await harness.consider(binding, 3, 2)
        assert binding.count(Phase.ASKED) == 0
        await harness.end(binding)

    async def test_an_end_waits_for_a_worker_that_is_about_to_confirm(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        await harness.consider(binding, 1)
        harness.client.asked[0].create({})
        draining = asyncio.ensure_future(binding.drain())
        await settle()
        assert not draining.done()
        harness.client.asked[0].confirm()
        assert await draining == 1
        await harness.end(binding)


class TestDone:
    async def test_an_empty_queue_and_nothing_open_is_the_end(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        assert not binding.is_done
        (reservation,) = await harness.held(binding, 1)
        await harness.time.go(60)
        await harness.consider(binding, 0, 0)
        assert not binding.is_done
        await harness.time.go(0.1)
        reservation.closed.set()
        await settle()
        await harness.time.go(0.1)
        assert not binding.is_done  # a job may have come back: one more reading shows
        await harness.consider(binding, 0, 0)
        assert binding.is_done
        await harness.time.go(60)
        assert not binding.is_done
        await harness.end(binding)

    @pytest.mark.parametrize(("waiting", "in_flight"), [(1, 0), (0, 1)])
    async def test_a_queue_with_something_in_it_is_not_done(
        self, harness: DispatchHarness, waiting: int, in_flight: int
    ) -> None:
        binding = harness.binding(most=0)
        await harness.consider(binding, waiting, in_flight)
        assert not binding.is_done


class ScriptedQueue:
    """Each reading is the next line of the script; after the last, `changed` waits until it is cancelled."""

    def __init__(self, harness: DispatchHarness, *script: Depth | Exception) -> None:
        self._harness = harness
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


class TestStatus:
    async def test_it_shows_the_reading_the_plan_and_why_requests_wait(self, harness: DispatchHarness) -> None:
        binding = harness.binding()
        before = binding.status
        assert (before.waiting, before.want, before.reason) == (None, None, "no reading yet")
        await harness.held(binding, 1)
        await harness.consider(binding, 2, 1)
        harness.client.asked[-1].wait("all workers are held")
        binding.report_trouble("The engine is busy.")
        assert binding.status == BindingStatus(
            queue=f"gpu {QUEUE}",
            waiting=2,
            in_flight=1,
            want=3,
            asked=2,
            held=1,
            trouble="The engine is busy.",
            reason="2 waiting, 1 in flight",
            waits_because="all workers are held",
            doing={"at a job": 1},
        )
        assert before.waiting is None  # a view of its moment
        await harness.end(binding)


class TestLoop:
    async def test_a_broker_that_is_down_is_said_tried_again_and_never_taken_for_empty(
        self, harness: DispatchHarness
    ) -> None:
        lines: list[Any] = [
            Depth(2, 0, harness.time.wall_s),
            QueueError("The broker is away."),
            QueueError("The broker is away."),
            ValueError("an adapter's own mistake"),
            Depth(3, 0, harness.time.wall_s + 10),
        ]
        queue = ScriptedQueue(harness, *lines)
        binding = harness.binding(open_queue=queue.open)
        said: list[str] = []
        binding._on_change = lambda status: said.append(status.trouble)
        running = asyncio.ensure_future(binding.run())
        while queue.script:
            await harness.time.go(0.5)
            assert binding.live in (0, 2, 3)
        await settle()
        assert binding.live == 3
        assert queue.opened == 4
        assert "The broker is away." in said
        assert any("ValueError" in each for each in said)
        assert (said[-1], binding.queue_trouble) == ("", "")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert queue.closed == 4
        await harness.end(binding)

    async def test_a_url_that_is_wrong_ends_it_at_the_start_if_nothing_is_held(self, harness: DispatchHarness) -> None:
        """Else what is held is kept alive, and what has been read once may come back."""
        wrong = QueueUrlError("There is no such directory.")
        with pytest.raises(QueueUrlError):
            await harness.binding(open_queue=ScriptedQueue(harness, wrong).open).run()
        read_once = ScriptedQueue(harness, Depth(0, 0, harness.time.wall_s), wrong, wrong)
        needed = ScriptedQueue(harness, wrong, wrong)
        bindings = [harness.binding(open_queue=read_once.open), harness.binding(open_queue=needed.open)]
        bindings[1]._holds = lambda: True
        running = [asyncio.ensure_future(binding.run()) for binding in bindings]
        while read_once.script or needed.script:
            await harness.time.go(0.5)
        await settle()
        assert [binding.queue_trouble for binding in bindings] == ["There is no such directory."] * 2
        assert not any(each.done() for each in running)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def test_how_late_the_broker_may_be_is_learnt_from_the_queue(self, harness: DispatchHarness) -> None:
        queue = ScriptedQueue(harness, Depth(0, 0, harness.time.wall_s))
        binding = harness.binding(open_queue=queue.open)
        running = asyncio.ensure_future(binding.run())
        while queue.script:
            await settle()
        assert binding._limits.lag_s == 7.0
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
