from __future__ import annotations

import itertools

from nullworker.classic.work import ENDED_MAX, Ledger


class Books:
    """A ledger with a clock that ticks at each look, and the number of ends it told of."""

    def __init__(self) -> None:
        self.ends = 0
        clock = itertools.count(1000)
        self.ledger = Ledger(lambda: float(next(clock)), self._on_end)

    def _on_end(self) -> None:
        self.ends += 1


def test_work_in_hand_is_load() -> None:
    ledger = Books().ledger
    ledger.enter(7, 100)
    ledger.enter(8, 50)
    figures = ledger.figures()
    assert (figures.request_idxs, figures.load, figures.received, figures.new_load) == ((7, 8), 150, 2, 150)
    assert not ledger.is_idle


def test_the_same_request_sent_twice_is_two_pieces_of_work() -> None:
    ledger = Books().ledger
    first, _ = ledger.enter(7, 100), ledger.enter(7, 100)
    ledger.end(first, "Success")
    assert ledger.figures().request_idxs == (7,)


def test_an_end_is_told_once_with_its_times() -> None:
    books = Books()
    work = books.ledger.enter(7, 100)
    books.ledger.start(work)
    books.ledger.end(work, "Success")
    books.ledger.end(work, "Error")
    assert books.ends == 1
    assert books.ledger.ended() == (work,)
    assert work.status == "Success"
    assert work.entered_at < work.started_at < work.completed_at
    assert books.ledger.is_idle


def test_sums_since_the_last_report_are_by_how_it_ended() -> None:
    ledger = Books().ledger
    for cost, status in ((1, "Success"), (2, "Error"), (4, "Cancelled"), (8, "Rejected")):
        ledger.end(ledger.enter(0, cost), status)  # type: ignore[arg-type]  # literals, each one a Status
    figures = ledger.figures()
    assert (figures.new_load, figures.served_load, figures.rejected_load) == (11, 1, 8)


def test_what_comes_in_while_a_report_is_on_its_way_counts_in_the_next() -> None:
    ledger = Books().ledger
    ledger.end(ledger.enter(1, 100), "Success")
    on_its_way = ledger.figures()
    ledger.end(ledger.enter(2, 30), "Success")
    ledger.reported(on_its_way)
    assert (ledger.figures().new_load, ledger.figures().served_load, ledger.figures().received) == (30, 30, 2)


def test_what_an_engine_took_is_not_told_again() -> None:
    ledger = Books().ledger
    ledger.end(ledger.enter(1, 1), "Success")
    told = ledger.ended()
    ledger.end(ledger.enter(2, 1), "Success")
    ledger.taken(told)
    assert [work.request_idx for work in ledger.ended()] == [2]


def test_what_no_engine_takes_is_kept_within_bounds() -> None:
    ledger = Books().ledger
    for number in range(ENDED_MAX + 5):
        ledger.end(ledger.enter(number, 1), "Success")
    assert len(ledger.ended()) == ENDED_MAX
    assert ledger.ended()[0].request_idx == 5
