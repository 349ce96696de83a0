"""What workers cost: every microsecond is billed once, and rows sum up to the whole exactly, whatever they are."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nullworker.views import cost_tables, costs
from nullworker.views.billing import BILLINGS, Price, Rates, rates
from nullworker.views.cost_ledger import UNWRITTEN_MAX, CostLedger, Entry
from nullworker.views.history import Change

if TYPE_CHECKING:
    from collections.abc import Callable

US = costs.US
RATES = Rates(400_000_000, 10_000_000)  # 0.40 and 0.01 an hour


class Group(NamedTuple):
    key: int
    queue: str
    job: str
    kind: str
    running: int
    storage: int
    us: int


def ledger() -> CostLedger:
    return CostLedger(lambda _worker, _group, state: rates(Price(0.4, 0.01), state))


def seconds(ledger: CostLedger, worker_id: int = 1) -> dict[tuple[str, int], float]:
    """Seconds by kind and reservation, starts as they turned out to be for one."""
    found: dict[tuple[str, int], float] = {}
    first = dict(reversed(ledger.boots))
    for entry, us in ledger.entries.items():
        if entry.worker_id == worker_id:
            request = first.get(worker_id, 0) if entry.kind == "boot" else entry.request_idx
            found[entry.kind, request] = found.get((entry.kind, request), 0.0) + us / US
    return found


def play(ledger: CostLedger, *steps: tuple[float, str, int]) -> None:
    """Steps of worker 1: (at, its state, 0), or (at, "on" or "off", a reservation)."""
    for at_s, what, request_idx in steps:
        if what in ("on", "off"):
            ledger.request(round(at_s * US), request_idx, 1 if what == "on" else 0)
        else:
            ledger.worker(round(at_s * US), 1, what, 7, 8)


def test_start_hold_and_idle_tail_are_apart_and_for_their_job() -> None:
    one = ledger()
    play(one, (0, "asked", 0), (1, "creating", 0), (11, "loading", 0), (41, "held", 0), (41, "on", 5), (101, "off", 5))
    play(one, (101, "ready", 0), (111, "destroying", 0), (112, "gone", 0))
    assert seconds(one) == {("boot", 5): 41.0, ("held", 5): 60.0, ("idle", 5): 10.0, ("other", 5): 1.0}
    assert one.open == {}


def test_what_is_only_asked_for_costs_nothing_and_a_stopped_one_its_storage() -> None:
    one = ledger()
    play(one, (0, "asked", 0), (60, "creating", 0), (120, "ready", 0), (180, "inactive", 0), (240, "gone", 0))
    sums = dict.fromkeys(costs.KINDS, 0)
    for entry, us in one.entries.items():
        sums[entry.kind] += us * entry.running
        sums["storage"] += us * entry.storage
    assert {kind: Fraction(units, costs.UNITS) for kind, units in sums.items()} == {
        "held": 0,
        "boot": Fraction(40, 6000),
        "idle": Fraction(40, 6000),
        "other": 0,
        "storage": 3 * Fraction(1, 6000),
    }


@pytest.mark.parametrize(
    ("billing", "running", "stored"),
    [
        ("vast-serverless", "loading starting ready held draining stopping", "creating inactive"),
        ("running", "creating loading starting ready held draining stopping error destroying", "inactive"),
        ("owned", "creating loading starting ready held draining stopping error destroying inactive", ""),
    ],
)
def test_each_place_bills_in_its_own_states(billing: str, running: str, stored: str) -> None:
    price = Price(1.0, 0.5, billing)
    for state in running.split():
        assert rates(price, state) == Rates(10**9, 5 * 10**8)
    for state in stored.split():
        assert rates(price, state) == Rates(0, 5 * 10**8)
    for state in {"asked", "gone", "creating", "inactive", "error"} - {*running.split(), *stored.split()}:
        assert rates(price, state) == Rates(0, 0)
    assert billing in BILLINGS


def test_a_grant_begins_a_hold_and_a_second_start_is_no_tail_of_the_first() -> None:
    one = ledger()
    play(one, (0, "ready", 0), (10, "on", 5), (20, "off", 5), (25, "inactive", 0), (30, "starting", 0))
    play(one, (37, "ready", 0), (40, "gone", 0))
    idle = {number: s for (kind, number), s in seconds(one).items() if kind == "idle"}
    assert idle == {0: 10.0 + 3.0, 5: 5.0}
    assert seconds(one)["held", 5] == 10.0
    assert seconds(one)["other", 5] == 5.0


def test_each_hour_has_its_own_part() -> None:
    one = ledger()
    play(one, (3_000, "ready", 0), (11_000, "gone", 0))
    assert [(entry.hour, us // US) for entry, us in one.entries.items()] == [(0, 600), (1, 3_600), (2, 3_600), (3, 200)]


def test_one_that_is_drained_is_billed_for_as_long_as_it_is_held() -> None:
    one = CostLedger(lambda _worker, _group, state: rates(Price(1.0, 0.0, "vast-serverless"), state))
    play(one, (0, "ready", 0), (0, "on", 5), (10, "error", 0), (30, "off", 5), (30, "destroying", 0), (40, "gone", 0))
    assert sum(us for entry, us in one.entries.items() if entry.running) == 30 * US


def test_two_that_hold_a_worker_share_its_time() -> None:
    one = ledger()
    play(one, (0, "ready", 0), (0, "on", 5), (0, "on", 6), (3, "off", 5), (5, "off", 6), (5, "gone", 0))
    assert seconds(one) == {("held", 5): 1.5, ("held", 6): 1.5 + 2.0}


def test_a_price_that_changes_counts_from_then_on() -> None:
    price = [Rates(100, 0)]
    one = CostLedger(lambda *_: price[0])
    play(one, (0, "ready", 0))
    price[0] = Rates(200, 0)
    one.settle(60 * US)
    play(one, (90, "gone", 0))
    assert sum(us * entry.running for entry, us in one.entries.items()) == 60 * US * 100 + 30 * US * 200


def test_time_without_an_engine_is_billed_if_the_worker_is_heard_again() -> None:
    first = ledger()
    play(first, (0, "ready", 0), (0, "on", 5))
    known = first.take().open
    again = ledger()
    again.adopt(known, {1}, alive_us=50 * US, now_us=100 * US)
    again.settle(110 * US)
    assert seconds(again) == {("held", 5): 50.0}
    again.heard(1)
    again.settle(120 * US)
    assert seconds(again) == {("held", 5): 120.0}


@pytest.mark.parametrize("there", [True, False])
def test_one_that_was_gone_by_then_is_billed_until_the_engine_was_last_there(there: bool) -> None:
    first = ledger()
    play(first, (0, "ready", 0), (0, "on", 5))
    again = ledger()
    again.adopt(first.take().open, {1} if there else set(), alive_us=50 * US, now_us=100 * US)
    play(again, (130, "destroying", 0), (140, "gone", 0))
    held = {key: s for key, s in seconds(again).items() if key[0] == "held"}
    assert held == {("held", 5): 50.0}


def test_more_than_a_disk_takes_is_the_worker_s_alone_and_none_of_it_is_lost() -> None:
    one = ledger()
    play(one, (0, "held", 0))
    count = 2 * UNWRITTEN_MAX
    for number in range(1, count + 1):
        play(one, (number, "on", number), (number + 0.5, "off", number))
    assert len(one.entries) < UNWRITTEN_MAX + 10
    assert sum(one.entries.values()) == round((count + 0.5) * US)


def test_what_cannot_be_written_is_taken_again() -> None:
    one = ledger()
    play(one, (0, "ready", 0), (10, "held", 0))
    one.give_back(one.take())
    play(one, (15, "gone", 0))
    assert sum(one.take().entries.values()) == 15 * US


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), workers=st.integers(1, 5))
def test_every_microsecond_of_a_worker_is_billed_once(seed: int, workers: int) -> None:
    rng = random.Random(seed)
    one, at_us, lives, on = ledger(), rng.randrange(10**15), {}, {}  # type: ignore[var-annotated]
    states = [*BILLINGS["owned"].running, "asked"]
    written = 0
    for _ in range(80):
        at_us += rng.choice([0, 1, 7, 999_999, rng.randrange(10**10)])
        worker_id = rng.randint(1, workers)
        if rng.random() < 0.5:
            state = rng.choice([*states, "gone"])
            one.change(at_us, Change(0.0, "worker", worker_id, 1, 2, state, 0))
            if state == "gone":
                written += at_us - lives.pop(worker_id, at_us)
                on = {r: w for r, w in on.items() if w != worker_id}
            else:
                lives.setdefault(worker_id, at_us)
        elif rng.random() < 0.7:
            request_idx = rng.randint(1, 9)
            on[request_idx] = rng.choice([0, worker_id])
            one.change(at_us, Change(0.0, "request", request_idx, 1, 0, "session", on[request_idx]))
        else:
            one.settle(at_us)
    one.settle(at_us)
    assert sum(one.entries.values()) == written + sum(at_us - since for since in lives.values())
    assert all(us > 0 for us in one.entries.values() if us)


units = st.integers(0, 10**22)
entries = st.lists(
    st.builds(
        Entry,
        hour=st.integers(400_000, 400_060),
        endpoint_id=st.integers(1, 3),
        workergroup_id=st.just(1),
        worker_id=st.integers(0, 6),
        request_idx=st.integers(0, 20),
        kind=st.sampled_from(costs.KINDS[:-1]),
        running=st.integers(0, 10**10),
        storage=st.integers(0, 10**8),
    ),
    max_size=60,
)


@settings(max_examples=100, deadline=None)
@given(entries=entries, rng=st.randoms(use_true_random=False))
def test_rows_sum_up_to_the_whole_to_the_last_place_however_they_are_grouped(entries: list[Entry], rng: Any) -> None:
    times = [(entry, rng.randrange(1, 10**11)) for entry in entries]
    exact = sum(Fraction(us * (e.running + e.storage), costs.UNITS) for e, us in times)
    keys: dict[str, Callable[[Entry], int]] = {
        "endpoint": lambda e: e.endpoint_id,
        "worker": lambda e: e.worker_id,
        "day": lambda e: e.hour // 24,
        "job": lambda e: e.request_idx,
        "queue": lambda e: e.request_idx,
    }
    wholes = set()
    for by, key in keys.items():
        groups = [
            Group(key(e), f"queue {key(e) % 2}", f"job {key(e) % 5}", e.kind, e.running, e.storage, us)
            for e, us in times
        ]
        view = cost_tables.costs(by, groups, str, 0.0, 0.0, 0)
        for column in (*costs.KINDS, "total"):
            assert sum(_places(getattr(row, column)) for row in view.rows) == _places(getattr(view.whole, column))
        assert all(
            _places(row.total) == sum(_places(getattr(row, kind)) for kind in costs.KINDS)
            for row in (*view.rows, view.whole)
        )
        wholes.add(tuple(getattr(view.whole, column) for column in (*costs.KINDS, "total")))
        assert abs(Fraction(_places(view.whole.total), 10**costs.PLACES) - exact) <= Fraction(1, 2 * 10**costs.PLACES)
    assert len(wholes) == 1


def _places(text: str) -> int:
    whole, _, places = text.partition(".")
    assert len(places) == costs.PLACES
    return int(whole + places)


@given(st.lists(units, min_size=1, max_size=8))
def test_no_amount_is_off_by_one_of_the_last_place(units: list[int]) -> None:
    whole = costs.rounded(sum(units))
    found = costs.apportioned(units, whole)
    assert sum(found) == whole
    assert all(abs(Fraction(exact, costs.QUANTUM) - amount) < 1 for exact, amount in zip(units, found, strict=True))


def test_the_dearest_come_first_and_those_beyond_what_is_sent_are_one_row() -> None:
    groups = [Group(n, "", "", "held", n * 10**7, 0, 3_600 * US) for n in range(1, cost_tables.ROWS_MAX + 11)]
    view = cost_tables.costs("worker", groups, str, 0.0, 0.0, 0)
    assert view.rows[0].name == f"worker {cost_tables.ROWS_MAX + 10}"
    assert view.rows[-1].name == "10 others"
    assert view.whole.total == f"{sum(range(cost_tables.ROWS_MAX + 11)) / 100:.4f}"


def test_without_a_price_it_says_so() -> None:
    view = cost_tables.costs("endpoint", [Group(1, "", "", "held", 0, 0, US)], lambda _: "null", 0.0, 0.0, 0)
    assert view.ground == cost_tables.NO_PRICE
    assert cost_tables.costs("endpoint", [], str, 0.0, 0.0, 0).ground == ""
