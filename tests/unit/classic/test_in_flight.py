from __future__ import annotations

import itertools

from nullworker.classic.in_flight import ENDED_MAX, RequestStats


class Counted:
    """A stats with a clock that ticks at each look, and the number of ends it told of."""

    def __init__(self) -> None:
        self.ends = 0
        clock = itertools.count(1000)
        self.stats = RequestStats(lambda: float(next(clock)), self._on_end)

    def _on_end(self) -> None:
        self.ends += 1


def test_work_in_hand_is_load() -> None:
    stats = Counted().stats
    stats.enter(7, 100)
    stats.enter(8, 50)
    figures = stats.figures()
    assert (figures.request_idxs, figures.load, figures.received, figures.new_load) == ((7, 8), 150, 2, 150)
    assert not stats.is_idle


def test_the_same_request_sent_twice_is_two_pieces_of_work() -> None:
    stats = Counted().stats
    first, _ = stats.enter(7, 100), stats.enter(7, 100)
    stats.end(first, "Success")
    assert stats.figures().request_idxs == (7,)


def test_an_end_is_told_once_with_its_times() -> None:
    counted = Counted()
    request = counted.stats.enter(7, 100)
    counted.stats.start(request)
    counted.stats.end(request, "Success")
    counted.stats.end(request, "Error")
    assert counted.ends == 1
    assert counted.stats.ended() == (request,)
    assert request.status == "Success"
    assert request.entered_at < request.started_at < request.completed_at
    assert counted.stats.is_idle


def test_sums_since_the_last_report_are_by_how_it_ended() -> None:
    stats = Counted().stats
    for cost, status in ((1, "Success"), (2, "Error"), (4, "Cancelled"), (8, "Rejected")):
        stats.end(stats.enter(0, cost), status)  # type: ignore[arg-type]  # literals, each one a Status
    figures = stats.figures()
    assert (figures.new_load, figures.served_load, figures.rejected_load) == (11, 1, 8)


def test_what_comes_in_while_a_report_is_on_its_way_counts_in_the_next() -> None:
    stats = Counted().stats
    stats.end(stats.enter(1, 100), "Success")
    on_its_way = stats.figures()
    stats.end(stats.enter(2, 30), "Success")
    stats.reported(on_its_way)
    assert (stats.figures().new_load, stats.figures().served_load, stats.figures().received) == (30, 30, 2)


def test_what_an_engine_took_is_not_told_again() -> None:
    stats = Counted().stats
    stats.end(stats.enter(1, 1), "Success")
    told = stats.ended()
    stats.end(stats.enter(2, 1), "Success")
    stats.taken(told)
    assert [request.request_idx for request in stats.ended()] == [2]


def test_what_no_engine_takes_is_kept_within_bounds() -> None:
    stats = Counted().stats
    for number in range(ENDED_MAX + 5):
        stats.end(stats.enter(number, 1), "Success")
    assert len(stats.ended()) == ENDED_MAX
    assert stats.ended()[0].request_idx == 5
