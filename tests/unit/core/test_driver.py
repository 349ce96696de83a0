"""The driver: each event is decided, written down, carried out and written down, in that order; calls end in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nullworker.core import driver as driver_module
from nullworker.core.commands import Create, Destroy, Grant, Refuse
from nullworker.core.driver import CATCH_UP_S, HOLD_S, TIMER_SLACK_S, Driver
from nullworker.core.events import (
    EndpointDeleted,
    EndpointPut,
    InstanceExited,
    TimePassed,
    WorkergroupPut,
    WorkerReported,
)
from nullworker.core.parameters import TESTED_PARAMETERS, WorkergroupSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nullworker.core.commands import Command
    from nullworker.core.driver import Order
    from nullworker.core.events import Event


class Planned:
    def __init__(self, when: float, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.when, self.callback, self.arguments = when, callback, arguments
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Hand:
    """A clock moved by hand, and a list of what the driver had done."""

    def __init__(self) -> None:
        self.time = 0.0
        self.planned: list[Planned] = []
        self.did: list[tuple[str, Any]] = []
        self.errors: list[Exception] = []
        self.driver: Driver[str] = Driver(self)

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object) -> Planned:
        self.planned.append(Planned(when, callback, arguments))
        return self.planned[-1]

    def call_later(self, delay_s: float, callback: Callable[..., object], *arguments: object) -> Planned:
        return self.call_at(self.time + delay_s, callback, *arguments)

    def decided(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        self.did.append(("decided", type(event).__name__))

    def answer(self, call: str, request_idx: int, answer: Grant | Refuse | None) -> None:
        self.did.append(("answer", (call, type(answer).__name__)))

    def order(self, order: Order) -> None:
        self.did.append(("order", order))

    def handled(self, event: Event, now: float, commands: Sequence[Command]) -> None:
        self.did.append(("handled", type(event).__name__))

    def failed(self, event: Event, now: float, error: Exception) -> None:
        self.errors.append(error)

    def pass_time(self, seconds: float, *, suspended: bool = False) -> None:
        """Calls what is due on the way; ``suspended``: all of it at the end."""
        end = self.time + seconds
        while due := [p for p in self.planned if not p.cancelled and p.when <= end]:
            first = min(due, key=lambda p: p.when)
            self.planned.remove(first)
            self.time = end if suspended else max(self.time, first.when)
            first.callback(*first.arguments)
        self.time = end

    def waiting(self) -> list[Planned]:
        return [p for p in self.planned if not p.cancelled]

    def answers(self) -> list[tuple[str, str]]:
        return [what for kind, what in self.did if kind == "answer"]

    def orders(self) -> list[Order]:
        return [what for kind, what in self.did if kind == "order"]


@pytest.fixture
def hand() -> Hand:
    hand = Hand()
    hand.driver.handle(EndpointPut(1, "e", TESTED_PARAMETERS))
    hand.driver.handle(WorkergroupPut(WorkergroupSpec(1, 1, "fleet", occupancy=1)))
    return hand


def ready(hand: Hand, worker_id: int) -> None:
    hand.driver.order_ended(worker_id, "create")
    hand.driver.handle(WorkerReported(worker_id, f"http://w:{worker_id}", True, "", 100.0, 0.0, ()))


def ask(hand: Hand, call: str, request_idx: int = 1) -> None:
    hand.driver.ask(call, 1, request_idx, 100.0, 60.0)


def test_what_must_survive_is_written_before_an_answer_and_the_rest_behind_it(hand: Hand) -> None:
    ask(hand, "call")
    hand.did.clear()
    ready(hand, 1)
    assert hand.did[-3:] == [
        ("decided", "WorkerReported"), ("answer", ("call", "Grant")), ("handled", "WorkerReported"),
    ]  # fmt: skip
    assert hand.driver.calls == {}


def test_an_order_is_not_given_again_while_it_is_carried_out(hand: Hand) -> None:
    ask(hand, "call")
    (create,) = hand.orders()
    assert isinstance(create, Create)
    hand.driver._carry_out(create)
    assert hand.orders() == [create]
    hand.driver.order_ended(1, "create", "no room", definite=False)
    hand.driver._carry_out(create)
    assert hand.orders().count(create) == 2


def test_an_answer_to_another_verb_leaves_the_order_open(hand: Hand) -> None:
    ask(hand, "call")
    (create,) = hand.orders()
    destroy = Destroy(create.worker_id, "fleet", *[getattr(create, n) for n in create.__slots__[2:]])
    hand.driver._carry_out(destroy)
    hand.driver.order_ended(create.worker_id, "create")
    hand.driver._carry_out(destroy)
    assert hand.orders().count(destroy) == 1


def test_a_call_is_held_for_its_time_and_then_answered_that_it_waits(hand: Hand) -> None:
    ask(hand, "call")
    hand.pass_time(HOLD_S - 0.1)
    assert hand.answers() == []
    hand.pass_time(0.2)
    assert hand.answers() == [("call", "NoneType")]
    assert ("handled", "HoldEnded") in hand.did


def test_an_answered_call_leaves_no_reminder(hand: Hand) -> None:
    ask(hand, "call")
    holds = [p for p in hand.waiting() if "call" in p.arguments]
    assert len(holds) == 1
    ready(hand, 1)
    assert holds[0].cancelled


def test_a_later_call_of_the_same_request_takes_the_place_of_the_earlier(hand: Hand) -> None:
    ask(hand, "earlier")
    ask(hand, "later")
    assert hand.answers() == [("earlier", "NoneType")]
    hand.driver.hang_up("earlier", 1)
    assert hand.driver.calls == {1: "later"}


def test_a_client_that_hangs_up_is_told_to_the_core(hand: Hand) -> None:
    ask(hand, "call")
    hand.driver.hang_up("call", 1)
    assert ("handled", "WaiterGone") in hand.did
    assert hand.driver.calls == {}
    hand.pass_time(HOLD_S * 2)
    assert hand.answers() == []


def test_after_a_suspension_hang_ups_are_read_before_holds_end(hand: Hand) -> None:
    ask(hand, "call")
    hand.pass_time(HOLD_S + 60, suspended=True)
    assert hand.answers() == []
    hand.pass_time(CATCH_UP_S)
    assert hand.answers() == [("call", "NoneType")]


def test_beyond_the_most_that_are_held_a_call_is_answered_at_once(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver_module, "HELD_MAX", 1)
    ask(hand, "first", 1)
    ask(hand, "second", 2)
    hand.pass_time(0.0)
    assert hand.answers() == [("second", "NoneType")]
    assert set(hand.driver.engine.state.reservations) == {1, 2}  # both keep their places


def test_it_wakes_the_core_when_something_is_due(hand: Hand) -> None:
    ask(hand, "call")
    due = hand.driver.engine.wake_at()
    assert due is not None
    wakes = [p for p in hand.waiting() if p.arguments == (due,)]
    assert [p.when for p in wakes] == [due + TIMER_SLACK_S]
    hand.did.clear()
    hand.pass_time(due + TIMER_SLACK_S - hand.time)
    assert ("handled", "TimePassed") in hand.did


def test_a_clock_that_was_set_gets_its_wake_planned_again(hand: Hand) -> None:
    ask(hand, "call")
    before = [p for p in hand.waiting() if p.callback == hand.driver._woken]
    hand.driver.clock_changed()
    after = [p for p in hand.waiting() if p.callback == hand.driver._woken]
    assert len(before) == len(after) == 1
    assert before != after


def test_an_exception_ends_it(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(hand, "call")

    def fail(event: Event, now: float) -> list[Command]:
        raise LookupError("planted")

    failing = type("Failing", (), {"handle": staticmethod(fail), "wake_at": hand.driver.engine.wake_at})()
    monkeypatch.setattr(hand.driver, "engine", failing)
    with pytest.raises(LookupError, match="planted"):
        hand.driver.handle(InstanceExited(1, "exit code 1"))
    assert [type(error) for error in hand.errors] == [LookupError]
    hand.did.clear()
    assert hand.driver.handle(TimePassed()) == []
    hand.pass_time(HOLD_S * 2)
    assert hand.did == []
    assert hand.driver.end() == {1: "call"}


def test_what_surrounds_it_may_end_it_between_two_effects(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(hand, "one", 1)
    ask(hand, "two", 2)
    monkeypatch.setattr(hand, "answer", lambda *_: hand.driver.end())
    hand.did.clear()
    hand.driver.handle(EndpointDeleted(1, force=True))
    assert ("decided", "EndpointDeleted") in hand.did
    assert ("handled", "EndpointDeleted") not in hand.did


def test_after_its_end_nothing_is_handled(hand: Hand) -> None:
    ask(hand, "call")
    hand.driver.end()
    hand.did.clear()
    hand.pass_time(1_000.0)
    assert hand.driver.handle(TimePassed()) == []
    hand.driver.clock_changed()
    assert hand.did == []
    assert hand.waiting() == []


def test_what_is_due_before_the_planned_wake_is_planned_in_its_place(hand: Hand) -> None:
    ask(hand, "a")  # its worker is given up after a time, if its fleet does not answer
    hand.pass_time(2)
    (before,) = [planned for planned in hand.waiting() if planned.callback == hand.driver._woken]
    ready(hand, 1)
    due = hand.driver.engine.wake_at()
    assert due is not None
    assert before.when > due + TIMER_SLACK_S
    assert [planned.when for planned in hand.waiting()] == [due + TIMER_SLACK_S]
