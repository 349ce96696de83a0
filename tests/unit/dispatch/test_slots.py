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
from nullworker.dispatch.ledger import LedgerError, Row
from nullworker.dispatch.plan import Phase
from nullworker.dispatch.slots import CREATE_S, OpenSlot, Terms, Tools
from tests.unit.dispatch.stage import StageReservation, settle

if TYPE_CHECKING:
    from collections.abc import Callable

    from nullworker.client import NullClient
    from tests.unit.dispatch.stage import Stage

TERMS = Terms("gpu", lifetime_s=60.0, price_per_hour=3.6)
PAIR = "gpu q"


class Doors:
    """Stands for the notices' doors."""

    def __init__(self) -> None:
        self.usable = True
        self.open: dict[str, Callable[[], None]] = {}
        self._count = 0

    def door(self, on_closed: Callable[[], None]) -> str:
        self._count += 1
        self.open[f"http://127.0.0.1/{self._count}"] = on_closed
        return f"http://127.0.0.1/{self._count}"

    def shut(self, url: str) -> None:
        del self.open[url]


def asked(stage: Stage, tools: Tools | None = None) -> OpenSlot:
    slot = OpenSlot(PAIR, tools or stage.tools, TERMS, lambda _: None)
    slot.open()
    return slot


def adopted(stage: Stage) -> OpenSlot:
    (row,) = stage.ledger.open_rows(PAIR)
    slot = OpenSlot(PAIR, stage.tools, TERMS, lambda _: None, row=row)
    slot.adopt()
    return slot


def is_in(slot: OpenSlot, phase: Phase) -> bool:
    return slot.phase is phase


def left(stage: Stage) -> list[Row]:
    return stage.ledger.open_rows(PAIR)


class TestOpening:
    async def test_each_phase_is_in_the_ledger_from_its_first_moment(self, stage: Stage) -> None:
        slot = asked(stage)
        assert [row.phase for row in left(stage)] == ["asked"]  # before anybody was asked
        await settle()
        (asking,) = stage.client.asked
        asking.wait("all are held")
        assert (slot.phase, slot.waits_because) == (Phase.ASKED, "all are held")
        asking.create({"auth_data": {}})
        assert is_in(slot, Phase.CREATING)
        assert [(row.phase, row.record) for row in left(stage)] == [("creating", {"auth_data": {}})]
        reservation = asking.confirm()
        await settle()
        assert is_in(slot, Phase.HELD)
        assert [(row.phase, row.record) for row in left(stage)] == [("held", reservation.to_record())]
        await stage.time.go(100)
        reservation.closed.set()
        await settle()
        assert (slot.phase, slot.held_s, slot.failure) == (Phase.CLOSED, 100.0, None)
        assert left(stage) == []
        assert stage.ledger.spent_since(0) == pytest.approx(0.1)

    async def test_a_worker_that_did_not_take_it_holds_nothing(self, stage: Stage) -> None:
        slot = asked(stage)
        await settle()
        stage.client.asked[0].create({})
        stage.client.asked[0].wait("the worker did not take it")
        assert is_in(slot, Phase.ASKED)
        assert [row.phase for row in left(stage)] == ["asked"]

    async def test_a_failure_is_kept_and_nothing_is_left(self, stage: Stage) -> None:
        slot = asked(stage)
        await settle()
        stage.client.asked[0].fail(EngineUnreachableError("here", "refused"))
        await settle()
        assert is_in(slot, Phase.CLOSED)
        assert isinstance(slot.failure, EngineUnreachableError)
        assert left(stage) == []

    async def test_a_failure_that_nobody_foresaw_ends_the_reservation_too(self, stage: Stage) -> None:
        slot = asked(stage)
        await settle()
        stage.client.asked[0].fail(RuntimeError("surprise"))
        await settle()
        assert is_in(slot, Phase.CLOSED)
        assert "RuntimeError" in str(slot.failure)

    async def test_nothing_is_asked_that_cannot_be_written_down(self, stage: Stage) -> None:
        stage.ledger._db.execute("PRAGMA query_only = ON")
        slot = OpenSlot(PAIR, stage.tools, TERMS, lambda _: None)
        with pytest.raises(LedgerError):
            slot.open()
        await settle()
        assert stage.client.asked == []

    async def test_no_worker_is_asked_to_hold_what_cannot_be_written_down(self, stage: Stage) -> None:
        slot = asked(stage)
        await settle()
        stage.ledger._db.execute("PRAGMA query_only = ON")
        stage.client.asked[0].create({})
        await settle()
        assert stage.client.asked[0].cancelled
        await stage.time.go(CREATE_S)
        assert isinstance(slot.failure, LedgerError)


class TestWithdrawing:
    async def test_what_waits_is_given_up(self, stage: Stage) -> None:
        slot = asked(stage)
        await settle()
        slot.withdraw()
        await settle()
        assert stage.client.asked[0].cancelled
        assert (slot.phase, slot.failure, left(stage)) == (Phase.CLOSED, None, [])

    @pytest.mark.parametrize("phase", [Phase.CREATING, Phase.HELD])
    async def test_what_a_worker_holds_or_may_hold_stays(self, stage: Stage, phase: Phase) -> None:
        slot = asked(stage)
        await settle()
        stage.client.asked[0].create({})
        if phase is Phase.HELD:
            stage.client.asked[0].confirm()
            await settle()
        slot.withdraw()
        await settle()
        assert is_in(slot, phase)
        assert len(left(stage)) == 1

    async def test_one_that_a_worker_was_named_for_at_that_moment_counts_until_it_is_cleaned_up(
        self, stage: Stage
    ) -> None:
        slot = asked(stage)
        await settle()
        slot.withdraw()
        stage.client.asked[0].create({})  # before the cancellation arrives
        await settle()
        assert is_in(slot, Phase.CREATING)
        assert [row.phase for row in left(stage)] == ["creating"]
        await stage.time.go(CREATE_S)
        assert is_in(slot, Phase.CLOSED)
        assert left(stage) == []

    async def test_the_end_of_the_process_withdraws_nothing(self, stage: Stage) -> None:
        """What the ledger says is for the next dispatcher."""
        slots = [asked(stage) for _ in range(3)]
        await settle()
        stage.client.asked[1].create({})
        stage.client.asked[2].confirm()
        await settle()
        for slot in slots:
            assert slot.task is not None
            slot.task.cancel()
        await settle()
        assert sorted(row.phase for row in left(stage)) == ["asked", "creating", "held"]

    async def test_ending_releases_and_closes(self, stage: Stage) -> None:
        slot = asked(stage)
        await settle()
        reservation = stage.client.asked[0].confirm()
        await settle()
        await slot.end()
        await settle()
        assert (reservation.releases, slot.phase) == (1, Phase.CLOSED)


class TestNotices:
    def tools(self, stage: Stage, doors: Doors) -> Tools:
        return Tools(cast("NullClient", stage.client), stage.ledger, doors, stage.time.clock)

    async def test_a_worker_that_says_it_is_over_is_looked_at(self, stage: Stage) -> None:
        doors = Doors()
        slot = asked(stage, self.tools(stage, doors))
        await settle()
        (asking,) = stage.client.asked
        reservation = asking.confirm()
        await settle()
        doors.open[asking.how["on_close_route"]]()
        await settle()
        assert reservation.looks == 1
        assert is_in(slot, Phase.HELD)  # the word alone ends nothing
        reservation.closed.set()
        await settle()
        assert doors.open == {}

    async def test_workers_that_refuse_to_knock_are_asked_without_a_door(self, stage: Stage) -> None:
        """They run on another machine, perhaps; all reservations after this one are looked at instead."""
        doors = Doors()
        slot = asked(stage, self.tools(stage, doors))
        await settle()
        stage.client.asked[0].create({})
        stage.client.asked[0].fail(WorkerRefusedError("http://w", 400, "on_close_route leads to a private address"))
        await settle()
        assert is_in(slot, Phase.ASKED)
        assert stage.client.asked[1].how["on_close_route"] is None
        assert not doors.usable
        assert doors.open == {}
        stage.client.asked[1].confirm()
        await settle()
        assert is_in(slot, Phase.HELD)

    async def test_a_worker_that_refuses_for_another_reason_is_a_failure(self, stage: Stage) -> None:
        slot = asked(stage, self.tools(stage, Doors()))
        await settle()
        stage.client.asked[0].fail(WorkerRefusedError("http://w", 500, ""))
        await settle()
        assert isinstance(slot.failure, WorkerRefusedError)

    async def test_looks_are_further_apart_with_a_door_and_with_many_reservations(self, stage: Stage) -> None:
        asked(stage, self.tools(stage, Doors()))
        asked(stage)
        OpenSlot(PAIR, stage.tools, TERMS, lambda _: None, check_s=7.0).open()
        OpenSlot(PAIR, stage.tools, TERMS, lambda _: None, check_s=700.0).open()
        await settle()
        assert [each.how["check_s"] for each in stage.client.asked] == [2.0, 1.0, 7.0, 20.0]


class TestAdopting:
    def leave(self, stage: Stage, phase: str, record: dict[str, Any] | None = None) -> None:
        """As a dispatcher that was killed ten seconds after the last thing it wrote."""
        wall_s = stage.time.wall_s
        stage.ledger.asked("x", PAIR, wall_s - 30)
        if phase != "asked":
            stage.ledger.creating("x", wall_s - 10, record)
        if phase == "held":
            stage.ledger.held("x", wall_s - 10, record or {})

    async def test_one_that_is_held_is_held_since_then(self, stage: Stage) -> None:
        self.leave(stage, "held", {"session_id": "s"})
        slot = adopted(stage)
        assert is_in(slot, Phase.HELD)  # it counts from the first moment
        await settle()
        assert stage.client.looked_for == [("adopt", {"session_id": "s"})]
        assert slot.held_s == pytest.approx(10)
        assert slot.reservation is not None

    async def test_one_that_is_over_by_now_is_closed(self, stage: Stage) -> None:
        self.leave(stage, "held", {"session_id": "s"})
        stage.client.found = lost
        slot = adopted(stage)
        await settle()
        assert (slot.phase, left(stage)) == (Phase.CLOSED, [])

    async def test_one_whose_worker_is_silent_counts_until_it_has_run_out(self, stage: Stage) -> None:
        self.leave(stage, "held", {"session_id": "s"})
        stage.client.found = silent
        slot = adopted(stage)
        await stage.time.go(TERMS.lifetime_s)
        assert is_in(slot, Phase.HELD)
        stage.client.found = lambda _how, _record: StageReservation("s")
        await stage.time.go(3)
        assert slot.reservation is not None
        assert len(left(stage)) == 1

    async def test_one_that_stays_silent_is_given_up(self, stage: Stage) -> None:
        self.leave(stage, "held", {"session_id": "s"})
        stage.client.found = silent
        slot = adopted(stage)
        await stage.time.go(2 * TERMS.lifetime_s + 3)
        assert (slot.phase, left(stage)) == (Phase.CLOSED, [])

    async def test_one_that_only_waited_is_forgotten(self, stage: Stage) -> None:
        self.leave(stage, "asked")
        slot = adopted(stage)
        await settle()
        assert (slot.phase, slot.slot.held_at_s, left(stage)) == (Phase.CLOSED, None, [])
        assert stage.client.looked_for == []

    async def test_a_worker_that_was_being_asked_is_asked_again(self, stage: Stage) -> None:
        self.leave(stage, "creating", {"auth_data": {}, "session_id": "found"})
        slot = adopted(stage)
        assert is_in(slot, Phase.CREATING)
        await settle()
        assert stage.client.looked_for == [("recover", {"auth_data": {}, "session_id": "found"})]
        assert is_in(slot, Phase.HELD)
        assert [(row.phase, row.record) for row in left(stage)] == [("held", {"session_id": "found"})]

    async def test_a_worker_that_was_being_asked_and_holds_nothing_is_not_counted(self, stage: Stage) -> None:
        self.leave(stage, "creating", {"auth_data": {}})
        stage.client.found = lost
        slot = adopted(stage)
        await settle()
        assert (slot.phase, slot.slot.held_at_s) == (Phase.CLOSED, None)

    async def test_a_worker_that_may_have_been_asked_counts_for_one_lifetime(self, stage: Stage) -> None:
        """Which one it was is not known; it was ten seconds ago."""
        self.leave(stage, "creating")
        slot = adopted(stage)
        await stage.time.go(TERMS.lifetime_s + CREATE_S - 10 - 3)
        assert is_in(slot, Phase.CREATING)
        await stage.time.go(6)
        assert is_in(slot, Phase.CLOSED)

    async def test_a_worker_that_was_asked_a_lifetime_ago_is_left_alone(self, stage: Stage) -> None:
        """Asked again, it might begin to hold what nobody wants any more."""
        self.leave(stage, "creating", {"auth_data": {}})
        stage.time.wall_s += TERMS.lifetime_s + CREATE_S
        slot = adopted(stage)
        await settle()
        assert is_in(slot, Phase.CLOSED)
        assert stage.client.looked_for == []

    async def test_a_clock_that_was_set_back_makes_nothing_last_for_ever(self, stage: Stage) -> None:
        self.leave(stage, "creating")
        stage.time.wall_s -= 86_400
        slot = adopted(stage)
        await stage.time.go(TERMS.lifetime_s + CREATE_S + 3)
        assert is_in(slot, Phase.CLOSED)


def lost(_how: str, _record: dict[str, Any]) -> StageReservation:
    raise ReservationLostError("s", "http://w", "gone")


def silent(_how: str, _record: dict[str, Any]) -> StageReservation:
    raise WorkerUnreachableError("http://w", "time-out")
