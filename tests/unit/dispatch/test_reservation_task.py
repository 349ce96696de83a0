"""One reservation: each step is written down before a crash could lose it, and what a crash left is taken up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from nullworker.client.errors import (
    EngineUnreachableError,
    ReservationLostError,
    WorkerRefusedError,
    WorkerUnreachableError,
)
from nullworker.demand.reservations import Phase
from nullworker.dispatch.reservation_task import CREATE_S, ReservationTask, Terms, Tools
from nullworker.dispatch.store import DispatchStoreError, Row
from tests.unit.dispatch.harness import ScriptedReservation, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.client import NullClient
    from tests.unit.dispatch.harness import DispatchHarness

TERMS = Terms("gpu", lifetime_s=60.0, price_per_hour=3.6)
BINDING = "gpu q"


class ScriptedNotifier:
    """Stands for the webhook."""

    def __init__(self) -> None:
        self.usable = True
        self.open: dict[str, Callable[[], None]] = {}
        self._count = 0

    def add(self, on_closed: Callable[[], None]) -> str:
        self._count += 1
        self.open[f"http://127.0.0.1/{self._count}"] = on_closed
        return f"http://127.0.0.1/{self._count}"

    def remove(self, url: str) -> None:
        del self.open[url]


def asked(harness: DispatchHarness, tools: Tools | None = None) -> ReservationTask:
    task = ReservationTask(BINDING, tools or harness.tools, TERMS, lambda _: None)
    task.open()
    return task


def adopted(harness: DispatchHarness) -> ReservationTask:
    (row,) = harness.store.open_rows(BINDING)
    task = ReservationTask(BINDING, harness.tools, TERMS, lambda _: None, row=row)
    task.adopt()
    return task


def is_in(task: ReservationTask, phase: Phase) -> bool:
    return task.phase is phase


def left(harness: DispatchHarness) -> list[Row]:
    return harness.store.open_rows(BINDING)


class TestOpening:
    async def test_each_phase_is_stored_from_its_first_moment(self, harness: DispatchHarness) -> None:
        task = asked(harness)
        assert [row.phase for row in left(harness)] == ["asked"]  # before any worker was asked
        await settle()
        (asking,) = harness.client.asked
        asking.wait("all are held")
        assert (task.phase, task.waits_because) == (Phase.ASKED, "all are held")
        asking.create({"auth_data": {}})
        assert is_in(task, Phase.CREATING)
        assert [(row.phase, row.record) for row in left(harness)] == [("creating", {"auth_data": {}})]
        reservation = asking.confirm()
        await settle()
        assert is_in(task, Phase.HELD)
        assert [(row.phase, row.record) for row in left(harness)] == [("held", reservation.to_record())]
        await harness.time.go(100)
        reservation.closed.set()
        await settle()
        assert (task.phase, task.held_s, task.failure) == (Phase.CLOSED, 100.0, None)
        assert left(harness) == []
        assert harness.store.spent_since(0) == pytest.approx(0.1)

    async def test_a_worker_that_did_not_take_it_holds_nothing(self, harness: DispatchHarness) -> None:
        task = asked(harness)
        await settle()
        harness.client.asked[0].create({})
        harness.client.asked[0].wait("the worker did not take it")
        assert is_in(task, Phase.ASKED)
        assert [row.phase for row in left(harness)] == ["asked"]

    async def test_a_failure_is_kept_and_nothing_is_left(self, harness: DispatchHarness) -> None:
        task = asked(harness)
        await settle()
        harness.client.asked[0].fail(EngineUnreachableError("here", "refused"))
        await settle()
        assert is_in(task, Phase.CLOSED)
        assert isinstance(task.failure, EngineUnreachableError)
        assert left(harness) == []

    async def test_an_unexpected_failure_ends_the_reservation_too(self, harness: DispatchHarness) -> None:
        task = asked(harness)
        await settle()
        harness.client.asked[0].fail(RuntimeError("surprise"))
        await settle()
        assert is_in(task, Phase.CLOSED)
        assert "RuntimeError" in str(task.failure)

    async def test_nothing_is_asked_that_cannot_be_written_down(self, harness: DispatchHarness) -> None:
        harness.store._db.execute("PRAGMA query_only = ON")
        task = ReservationTask(BINDING, harness.tools, TERMS, lambda _: None)
        with pytest.raises(DispatchStoreError):
            task.open()
        await settle()
        assert harness.client.asked == []

    async def test_no_worker_is_asked_to_hold_what_cannot_be_written_down(self, harness: DispatchHarness) -> None:
        task = asked(harness)
        await settle()
        harness.store._db.execute("PRAGMA query_only = ON")
        harness.client.asked[0].create({})
        await settle()
        assert harness.client.asked[0].cancelled
        await harness.time.go(CREATE_S)
        assert isinstance(task.failure, DispatchStoreError)


class TestWithdrawing:
    async def test_what_waits_is_given_up(self, harness: DispatchHarness) -> None:
        task = asked(harness)
        await settle()
        task.withdraw()
        await settle()
        assert harness.client.asked[0].cancelled
        assert (task.phase, task.failure, left(harness)) == (Phase.CLOSED, None, [])

    @pytest.mark.parametrize("phase", [Phase.CREATING, Phase.HELD])
    async def test_what_a_worker_holds_or_may_hold_stays(self, harness: DispatchHarness, phase: Phase) -> None:
        task = asked(harness)
        await settle()
        harness.client.asked[0].create({})
        if phase is Phase.HELD:
            harness.client.asked[0].confirm()
            await settle()
        task.withdraw()
        await settle()
        assert is_in(task, phase)
        assert len(left(harness)) == 1

    async def test_one_that_a_worker_was_named_for_at_that_moment_counts_until_it_is_cleaned_up(
        self, harness: DispatchHarness
    ) -> None:
        task = asked(harness)
        await settle()
        task.withdraw()
        harness.client.asked[0].create({})  # before the cancellation arrives
        await settle()
        assert is_in(task, Phase.CREATING)
        assert [row.phase for row in left(harness)] == ["creating"]
        await harness.time.go(CREATE_S)
        assert is_in(task, Phase.CLOSED)
        assert left(harness) == []

    async def test_the_end_of_the_process_withdraws_nothing(self, harness: DispatchHarness) -> None:
        """What is stored is for the next dispatcher."""
        reservations = [asked(harness) for _ in range(3)]
        await settle()
        harness.client.asked[1].create({})
        harness.client.asked[2].confirm()
        await settle()
        for task in reservations:
            assert task.running is not None
            task.running.cancel()
        await settle()
        assert sorted(row.phase for row in left(harness)) == ["asked", "creating", "held"]

    async def test_ending_releases_and_closes(self, harness: DispatchHarness) -> None:
        task = asked(harness)
        await settle()
        reservation = harness.client.asked[0].confirm()
        await settle()
        await task.end()
        await settle()
        assert (reservation.releases, task.phase) == (1, Phase.CLOSED)


class TestWebhook:
    def tools(self, harness: DispatchHarness, notifier: ScriptedNotifier) -> Tools:
        return Tools(cast("NullClient", harness.client), harness.store, notifier, harness.time.clock)

    async def test_a_worker_that_says_it_is_over_is_looked_at(self, harness: DispatchHarness) -> None:
        notifier = ScriptedNotifier()
        task = asked(harness, self.tools(harness, notifier))
        await settle()
        (asking,) = harness.client.asked
        reservation = asking.confirm()
        await settle()
        notifier.open[asking.how["on_close_route"]]()
        await settle()
        assert reservation.looks == 1
        assert is_in(task, Phase.HELD)  # the word alone ends nothing
        reservation.closed.set()
        await settle()
        assert notifier.open == {}

    async def test_workers_that_refuse_the_url_are_asked_without_one(self, harness: DispatchHarness) -> None:
        """They run on another machine, perhaps; all reservations after this one are looked at instead."""
        notifier = ScriptedNotifier()
        task = asked(harness, self.tools(harness, notifier))
        await settle()
        harness.client.asked[0].create({})
        harness.client.asked[0].fail(WorkerRefusedError("http://w", 400, "on_close_route leads to a private address"))
        await settle()
        assert is_in(task, Phase.ASKED)
        assert harness.client.asked[1].how["on_close_route"] is None
        assert not notifier.usable
        assert notifier.open == {}
        harness.client.asked[1].confirm()
        await settle()
        assert is_in(task, Phase.HELD)

    async def test_a_worker_that_refuses_for_another_reason_is_a_failure(self, harness: DispatchHarness) -> None:
        task = asked(harness, self.tools(harness, ScriptedNotifier()))
        await settle()
        harness.client.asked[0].fail(WorkerRefusedError("http://w", 500, ""))
        await settle()
        assert isinstance(task.failure, WorkerRefusedError)

    async def test_checks_are_further_apart_with_a_webhook_and_with_many_reservations(
        self, harness: DispatchHarness
    ) -> None:
        asked(harness, self.tools(harness, ScriptedNotifier()))
        asked(harness)
        ReservationTask(BINDING, harness.tools, TERMS, lambda _: None, check_s=7.0).open()
        ReservationTask(BINDING, harness.tools, TERMS, lambda _: None, check_s=700.0).open()
        await settle()
        assert [each.how["check_s"] for each in harness.client.asked] == [2.0, 1.0, 7.0, 20.0]


class TestAdopting:
    def leave(self, harness: DispatchHarness, phase: str, record: dict[str, Any] | None = None) -> None:
        """As a dispatcher that was killed ten seconds after the last thing it wrote."""
        wall_s = harness.time.wall_s
        harness.store.asked("x", BINDING, wall_s - 30)
        if phase != "asked":
            harness.store.creating("x", wall_s - 10, record)
        if phase == "held":
            harness.store.held("x", wall_s - 10, record or {})

    async def test_one_that_is_held_is_held_since_then(self, harness: DispatchHarness) -> None:
        self.leave(harness, "held", {"session_id": "s"})
        task = adopted(harness)
        assert is_in(task, Phase.HELD)  # it counts from the first moment
        await settle()
        assert harness.client.looked_for == [("adopt", {"session_id": "s"})]
        assert task.held_s == pytest.approx(10)
        assert task.client_reservation is not None

    async def test_one_that_is_over_by_now_is_closed(self, harness: DispatchHarness) -> None:
        self.leave(harness, "held", {"session_id": "s"})
        harness.client.found = lost
        task = adopted(harness)
        await settle()
        assert (task.phase, left(harness)) == (Phase.CLOSED, [])

    async def test_one_whose_worker_is_silent_counts_until_it_has_run_out(self, harness: DispatchHarness) -> None:
        self.leave(harness, "held", {"session_id": "s"})
        harness.client.found = silent
        task = adopted(harness)
        await harness.time.go(TERMS.lifetime_s)
        assert is_in(task, Phase.HELD)
        harness.client.found = lambda _how, _record: ScriptedReservation("s")
        await harness.time.go(3)
        assert task.client_reservation is not None
        assert len(left(harness)) == 1

    async def test_one_that_stays_silent_is_given_up(self, harness: DispatchHarness) -> None:
        self.leave(harness, "held", {"session_id": "s"})
        harness.client.found = silent
        task = adopted(harness)
        await harness.time.go(2 * TERMS.lifetime_s + 3)
        assert (task.phase, left(harness)) == (Phase.CLOSED, [])

    async def test_one_that_only_waited_is_forgotten(self, harness: DispatchHarness) -> None:
        self.leave(harness, "asked")
        task = adopted(harness)
        await settle()
        assert (task.phase, task.state.held_at_s, left(harness)) == (Phase.CLOSED, None, [])
        assert harness.client.looked_for == []

    async def test_a_worker_that_was_being_asked_is_asked_again(self, harness: DispatchHarness) -> None:
        self.leave(harness, "creating", {"auth_data": {}, "session_id": "found"})
        task = adopted(harness)
        assert is_in(task, Phase.CREATING)
        await settle()
        assert harness.client.looked_for == [("recover", {"auth_data": {}, "session_id": "found"})]
        assert is_in(task, Phase.HELD)
        assert [(row.phase, row.record) for row in left(harness)] == [("held", {"session_id": "found"})]

    async def test_a_worker_that_was_being_asked_and_holds_nothing_is_not_counted(
        self, harness: DispatchHarness
    ) -> None:
        self.leave(harness, "creating", {"auth_data": {}})
        harness.client.found = lost
        task = adopted(harness)
        await settle()
        assert (task.phase, task.state.held_at_s) == (Phase.CLOSED, None)

    async def test_a_worker_that_may_have_been_asked_counts_for_one_lifetime(self, harness: DispatchHarness) -> None:
        """Which one it was is not known; it was ten seconds ago."""
        self.leave(harness, "creating")
        task = adopted(harness)
        await harness.time.go(TERMS.lifetime_s + CREATE_S - 10 - 3)
        assert is_in(task, Phase.CREATING)
        await harness.time.go(6)
        assert is_in(task, Phase.CLOSED)

    async def test_a_worker_that_was_asked_a_lifetime_ago_is_left_alone(self, harness: DispatchHarness) -> None:
        """Asked again, it might begin to hold what is no longer wanted."""
        self.leave(harness, "creating", {"auth_data": {}})
        harness.time.wall_s += TERMS.lifetime_s + CREATE_S
        task = adopted(harness)
        await settle()
        assert is_in(task, Phase.CLOSED)
        assert harness.client.looked_for == []

    async def test_a_clock_that_was_set_back_makes_nothing_last_for_ever(self, harness: DispatchHarness) -> None:
        self.leave(harness, "creating")
        harness.time.wall_s -= 86_400
        task = adopted(harness)
        await harness.time.go(TERMS.lifetime_s + CREATE_S + 3)
        assert is_in(task, Phase.CLOSED)


def lost(_how: str, _record: dict[str, Any]) -> ScriptedReservation:
    raise ReservationLostError("s", "http://w", "gone")


def silent(_how: str, _record: dict[str, Any]) -> ScriptedReservation:
    raise WorkerUnreachableError("http://w", "time-out")
